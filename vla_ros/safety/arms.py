"""All arms of a robot, their grippers and its base, tick by tick; arms are kept clear of boxes and of each
other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vla_ros.action.schedule import Target
from vla_ros.robot.config import Robot
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.arm import ArmFollower, Proposal
from vla_ros.safety.base import BaseLimiter, Driven
from vla_ros.safety.clearance import Clearance
from vla_ros.safety.gripper import GripperLimiter
from vla_ros.safety.intake import base_velocity, parts
from vla_ros.safety.joints import Measured
from vla_ros.types import Command, FloatArray, Motion


@dataclass(frozen=True)
class Moved:
    """One arm's tick. wanted: joints asked for, float64 [J] rad; motion: what is sent; gripper: width that is
    sent, gripper_wanted: asked for, m, None before either; interventions: what changed them."""

    wanted: FloatArray
    motion: Motion
    gripper: float | None
    gripper_wanted: float | None
    interventions: tuple[str, ...]

    def command(self, stamp_ns: int, acts_at_ns: int, source: str) -> Command:
        """The tick's command, see `Command` for the arguments."""
        return Command(
            stamp_ns=stamp_ns,
            acts_at_ns=acts_at_ns,
            source=source,
            wanted=self.wanted,
            motion=self.motion,
            gripper=self.gripper,
            gripper_wanted=self.gripper_wanted,
            interventions=self.interventions,
        )


class Arms:
    """See the module. The command streams of all arms, and the base's, begin and end together.

    driven: the base's part in the last `hold`, `go` or `follow`; None without open streams, or a base.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, Kinematics]) -> None:
        self._robot = robot
        self._followers = {
            name: ArmFollower(arm, robot.safety, kinematics[name], robot.control)
            for name, arm in robot.arms.items()
        }
        self._grippers = {
            name: GripperLimiter(arm.gripper, 1.0 / robot.control.rate_hz)
            for name, arm in robot.arms.items()
            if arm.gripper is not None
        }
        self._gripper_wanted: dict[str, float] = {}
        self.driven: Driven | None = None
        base = robot.base
        self._base = None if base is None else BaseLimiter(base.limits, 1.0 / robot.control.rate_hz)
        self._clearance = Clearance(Geometry(robot, kinematics))

    @property
    def live(self) -> bool:
        """Whether command streams are open."""
        return any(follower.live for follower in self._followers.values())

    @property
    def at_rest(self) -> bool:
        """Whether the last commands moved neither an arm nor the base."""
        stands = self._base is None or not self.live or self._base.at_rest
        return stands and all(follower.at_rest for follower in self._followers.values())

    @property
    def q(self) -> dict[str, FloatArray]:
        """{arm: newest control point}, see `ArmFollower.q`."""
        return {name: follower.q for name, follower in self._followers.items()}

    def begin(self, measured: Mapping[str, Measured]) -> None:
        """Open the streams that are not, see `ArmFollower.begin`, and start softly."""
        for name, follower in self._followers.items():
            follower.begin(measured[name].q)
            follower.soft_start()

    def begin_grippers(self, measured: Mapping[str, Measured]) -> None:
        """While streams are open: begin the grippers that are not begun with yet where they are measured, if
        that is known by now."""
        if self.live:
            for name, gripper in self._grippers.items():
                gripper.begin(measured[name].gripper)

    def end(self) -> None:
        """Close the streams. From then on somebody else may move the grippers."""
        for follower in self._followers.values():
            follower.end()
        self.forget_grippers()

    def forget(self) -> None:
        """Forget where streams ended: the world may have been rearranged."""
        for follower in self._followers.values():
            follower.forget()

    def forget_grippers(self) -> None:
        """Forget how wide the grippers are: somebody else may have moved them. Not while an arm moves: a
        driver whose messages hold the gripper is sent nothing until its width is known."""
        self._gripper_wanted = {}
        for gripper in self._grippers.values():
            gripper.forget()

    def tick(self, steady_ns: int, velocity: FloatArray | None = None) -> None:
        """Begin a tick at a monotonic time, see `ArmFollower.tick`; velocity: the base's, see
        `BaseLimiter.tick`."""
        self.driven = None
        for follower in self._followers.values():
            if follower.live:
                follower.tick(steady_ns)
        for gripper in self._grippers.values():
            gripper.tick()
        if self._base is not None:
            self._base.tick(steady_ns, velocity)

    def hold(self) -> dict[str, Moved]:
        """One tick of slowing down, and then of staying there; {} without open streams."""
        return self._advance(lambda name: self._followers[name].propose_hold())

    def go(self, place: Callable[[str], FloatArray]) -> dict[str, Moved]:
        """One tick towards joints [J], rad, of each arm. The base slows down, or stands."""
        return self._advance(lambda name: self._followers[name].propose_joints(place(name)))

    def follow(self, target: Target, ran_out: bool) -> dict[str, Moved]:
        """One tick towards a target. What it does not name is held, and so is the base where the chunks ran
        out: they end somewhere, but no velocity is wanted for longer than it was."""

        def propose(name: str) -> Proposal:
            follower = self._followers[name]
            pose, joints, gripper = parts(target, name, len(self._robot.arms[name].joints))
            if gripper is not None:
                self._gripper_wanted[name] = gripper
            if pose is not None:
                return follower.propose_pose(pose)
            return follower.propose_hold() if joints is None else follower.propose_joints(joints)

        return self._advance(propose, True, None if ran_out else base_velocity(target))

    def unsent(self, steady_ns: int) -> None:
        """Take the last tick's steps back: they were not sent. Arms' drivers go on to rest; the base slows
        down, see `BaseLimiter.unsent`, and `driven` is what it is to be sent all the same."""
        for follower in self._followers.values():
            follower.undo()
        for gripper in self._grippers.values():
            gripper.undo()
        if self._base is not None and self.driven is not None:
            self.driven = self._base.unsent(steady_ns)

    def _advance(
        self, propose: Callable[[str], Proposal], grippers: bool = False, velocity: FloatArray | None = None
    ) -> dict[str, Moved]:
        if not self.live:
            return {}
        if self._base is not None:
            self.driven = self._base.follow(velocity)
        proposals = {name: propose(name) for name in self._followers}
        ways = {name: proposal.way for name, proposal in proposals.items()}
        blocked = self._clearance.blocked(self.q, ways, lambda name: self._followers[name].braking)
        moved = {}
        for name, proposal in proposals.items():
            follower = self._followers[name]
            sent = follower.brake(proposal, blocked[name]) if name in blocked else follower.commit(proposal)
            gripper, wanted = self._grippers.get(name), self._gripper_wanted.get(name)
            words = sent.interventions
            if grippers and gripper is not None and wanted is not None:
                words = tuple(dict.fromkeys((*words, *gripper.follow(wanted))))
            width = None if gripper is None else gripper.width
            moved[name] = Moved(sent.wanted, sent.motion, width, wanted, words)
        return moved
