"""One arm's way from a wanted target to the joint positions that are sent: workspace, inverse kinematics,
limits. No target and no order of calls makes it send a step that breaks a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.rotations import quaternion_to_matrix
from vla_ros.errors import KinematicsError
from vla_ros.robot.config import Arm, Control, Safety
from vla_ros.robot.drivers import driver_class
from vla_ros.safety.limits import JointLimiter, Step
from vla_ros.safety.tool import ToolKinematics, ToolLimiter
from vla_ros.safety.workspace import Workspace, into_box
from vla_ros.types import FloatArray, Motion

if TYPE_CHECKING:
    from vla_ros.action.smooth import JerkLimited

# The path between two targets inside the box may bulge out of it; this far is let pass, m.
BOX_TOLERANCE = 0.005
# A solution further from its target than this is reported, m and rad.
REACHED_POSITION, REACHED_ROTATION = 0.005, 0.05
# After a silence the command goes on from what was sent last where the arm still is there, rad.
STILL_THERE = 0.02


class Solved(Protocol):
    """What inverse kinematics returns; see `vla_ros.robot.kinematics.Solution`."""

    @property
    def q(self) -> FloatArray:
        """Joints, rad [J]."""
        ...

    @property
    def position_error(self) -> float:
        """Distance from the target, m."""
        ...

    @property
    def rotation_error(self) -> float:
        """Angle from the target, rad."""
        ...


class ArmKinematics(ToolKinematics, Protocol):
    """What is needed of `vla_ros.robot.kinematics.Kinematics`."""

    def forward(self, q: ArrayLike) -> FloatArray:
        """Tool pose, 4x4, for joints [J]."""
        ...

    def inverse(
        self,
        target: ArrayLike,
        q_start: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
        posture: ArrayLike | None = None,
    ) -> Solved:
        """Joints that bring the tool to `target`, 4x4."""
        ...


@dataclass(frozen=True)
class Proposal:
    """A tick that can be taken: the step, the way to rest should the arm brake right after it (control points
    from the step on, float64 [K, J]), the joints that were wanted (float64 [J] rad), and the words for what
    keeps the step from going there."""

    step: Step
    way: FloatArray
    wanted: FloatArray
    words: tuple[str, ...]


@dataclass(frozen=True)
class Sent:
    """wanted: joints asked for, float64 [J] rad; motion: what is sent; interventions: what changed them."""

    wanted: FloatArray
    motion: Motion
    interventions: tuple[str, ...]


class ArmFollower:
    """Keeps the state of one arm's command stream.

    `live` is whether a command stream runs; before `begin` and after `end` nothing may be sent. One tick is
    `tick`, one of the `propose`s, and `commit` or `brake`.

    A step is never further than the joint's velocity limit times the control period.
    """

    def __init__(self, arm: Arm, safety: Safety, kinematics: ArmKinematics, control: Control) -> None:
        period_s = 1.0 / control.rate_hz
        self.live = False
        self._safety = safety
        self._kinematics = kinematics
        self._limiter = JointLimiter(arm.limits, period_s)
        self._tool = ToolLimiter(safety, kinematics, self._limiter)
        self._workspace = Workspace(safety.workspace, kinematics)
        self._home = np.array(arm.home, dtype=np.float64)
        driver = driver_class(arm)
        self._goes_on = driver.goes_on
        self._growth = period_s / max(safety.soft_start_s, period_s)
        self._last_sent: FloatArray | None = None
        self._sent_before: FloatArray | None = None
        self._wanted: FloatArray | None = None
        self._periods = 1
        self._smooth = _smoother(arm, period_s) if control.jerk_limited_targets else None
        self._settle_ticks = ceil(driver.settle_ns / 1e9 / period_s)
        self._settling = 0

    @property
    def q(self) -> FloatArray:
        """The newest control point, rad [J]: what is sent lies within a period of it."""
        return self._limiter.q

    @property
    def braking(self) -> FloatArray:
        """Control points of braking from now on, [K, J]."""
        return self._stop(self._limiter.q, ()).way

    @property
    def at_rest(self) -> bool:
        """Whether the last command did not move the arm."""
        return not self.live or self._limiter.at_rest

    def begin(self, measured: FloatArray) -> None:
        """Open the command stream at the measured joints [J], or where the last one ended if the arm is
        still there, so that the driver sees no step. Does nothing where it is open."""
        if self.live:
            return
        last = self._last_sent
        there = last is not None and np.all(np.abs(last - measured) <= STILL_THERE)
        self._limiter.reset(last if there and last is not None else measured)
        self._settling = 0 if there else self._settle_ticks
        self._wanted = None
        self.live = True

    def soft_start(self) -> None:
        """Let the velocity limits grow from a small share of them again, where the arm rests."""
        if self._limiter.at_rest:
            self._limiter.scale = self._growth

    def end(self) -> None:
        """Close the command stream."""
        self.live = False

    def forget(self) -> None:
        """Forget where the last command stream ended: the world may have been rearranged since."""
        if not self.live:
            self._last_sent = None

    def tick(self, steady_ns: int) -> int:
        """Begin a tick, at a monotonic time; returns how many were missed before it. In those the driver went
        on to rest, or stood still if it only ever knows one position."""
        missed = self._limiter.tick(steady_ns)
        if missed and not self._goes_on and self._last_sent is not None:
            self._limiter.reset(self._last_sent)
        self._periods = 1 + missed
        self._settling = max(self._settling - 1 - missed, 0)
        return missed

    def propose_pose(self, target: FloatArray) -> Proposal:
        """Towards a tool pose [7]: x y z m, quaternion xyzw, base frame."""
        if not np.isfinite(target).all() or not target[3:].any():
            return self._unusable([])
        if self._settling:
            return self.propose_hold()
        pose = np.eye(4)
        pose[:3, :3] = quaternion_to_matrix(target[3:])
        pose[:3, 3] = into_box(target[:3], self._safety.workspace)
        words = ["workspace"] if np.any(pose[:3, 3] != target[:3]) else []
        return self._towards_tool(pose, words)

    def propose_joints(self, target: FloatArray) -> Proposal:
        """Towards joints [J], rad. A target whose tool pose lies outside the workspace is replaced by the
        nearest pose inside."""
        if not np.isfinite(target).all():
            return self._unusable([])
        if self._settling:
            return self.propose_hold()
        limited = np.minimum(np.maximum(target, self._limiter.lower), self._limiter.upper)
        if self._workspace.outside(limited) > 0.0:
            pose = self._kinematics.forward(limited)
            pose[:3, 3] = into_box(pose[:3, 3], self._safety.workspace)
            words = ["workspace"] if np.array_equal(limited, target) else ["position", "workspace"]
            return self._towards_tool(pose, words)
        return self._towards(target, [])

    def propose_hold(self) -> Proposal:
        """Slowing down, and then staying where the arm came to rest."""
        self._wanted = None
        return self._stop(self._limiter.q, ())

    def commit(self, proposal: Proposal) -> Sent:
        """Take a proposal's step."""
        limiter = self._limiter
        limiter.commit(proposal.step)
        if not self._settling:
            limiter.scale = min(limiter.scale + self._growth, 1.0)
        motion = limiter.motion()
        self._sent_before, self._last_sent = self._last_sent, motion.q[0]
        return Sent(np.array(proposal.wanted), motion, tuple(dict.fromkeys(proposal.words)))

    def undo(self) -> None:
        """Take the last `commit` or `brake` back: its motion was not sent."""
        if self.live:
            self._limiter.undo()
            self._last_sent = self._sent_before

    def brake(self, proposal: Proposal, words: Sequence[str]) -> Sent:
        """Brake instead of taking a proposal's step; words: why."""
        self._wanted = None
        return self.commit(self._stop(proposal.wanted, (*proposal.words, *words)))

    def _towards_tool(self, pose: FloatArray, words: list[str]) -> Proposal:
        limiter = self._limiter
        try:
            # The posture keeps the elbow of a redundant arm from wandering off over a long run.
            solution = self._kinematics.inverse(pose, limiter.q, limiter.lower, limiter.upper, self._home)
        except KinematicsError:
            return self._unusable(words)
        if solution.position_error > REACHED_POSITION or solution.rotation_error > REACHED_ROTATION:
            words.append("unreachable")
        return self._towards(solution.q, words)

    def _towards(self, target: FloatArray, words: list[str]) -> Proposal:
        limiter = self._limiter
        if self._smooth is not None:
            if self._wanted is None:
                self._smooth.reset(limiter.q)
            target = self._smooth.step(target)
        before = target if self._wanted is None else self._wanted
        self._wanted = target
        step, way = self._tool.limit(
            limiter.plan(target, (target - before) / (self._periods * limiter.period_s))
        )
        limits = step.limits
        if limiter.scale < 1.0:
            limits = tuple("soft_start" if word == "velocity" else word for word in limits)
        words = [*words, *limits]
        if self._leaves_box(way[-1]):
            return self._stop(target, (*words, "workspace_stop"))
        return Proposal(step, way, target, tuple(words))

    def _leaves_box(self, place: FloatArray) -> bool:
        """Whether the tool would come to rest outside the box, and further out than it is."""
        rests = self._workspace.outside(place)
        return rests > BOX_TOLERANCE and rests > self._workspace.outside(self._limiter.q)

    def _unusable(self, words: list[str]) -> Proposal:
        self._wanted = None
        return self._stop(self._limiter.q, (*words, "nan"))

    def _stop(self, wanted: FloatArray, words: tuple[str, ...]) -> Proposal:
        step = self._limiter.plan_stop()
        return Proposal(step, self._limiter.way_to_rest(step), wanted, words)


def _smoother(arm: Arm, period_s: float) -> JerkLimited:
    # Off by default, so only who asks for it needs ruckig.
    from vla_ros.action.smooth import JerkLimited

    return JerkLimited(arm.limits, period_s)
