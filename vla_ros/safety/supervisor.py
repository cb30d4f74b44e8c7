"""What the robot is doing and what it may do next: the rules of the control loop, tick by tick.

A `Supervisor` is called from one thread only. It takes requests (start, stop, reset, home, estop) and chunks
between ticks, and at each tick turns the wanted target into commands, or into a hold. Its modes are those of
`vla_ros.safety.modes`.

What made it lose the policy (chunks ran out, joint states are late, the arm does not follow) is reported in
`events`. Taking up a target, the first time and after each hold, is allowed only near the measured state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vla_ros.action.schedule import Scheduler, Target, make_scheduler
from vla_ros.errors import Refused
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.safety.arm import ArmFollower, ArmKinematics, Sent
from vla_ros.safety.home import HomePath
from vla_ros.safety.modes import ESTOP, HOMING, IDLE, POLICY, SOURCES, STOPPING, TRANSITIONS, WAITING
from vla_ros.safety.watch import (
    CLOCK_AHEAD_NS,
    MS,
    check_near_joints,
    check_near_pose,
    chunks_ran_out,
    joint_states_fresh,
)
from vla_ros.types import ActionChunk, Command, FloatArray, Motion

# Home is reached within this, rad.
HOME_TOLERANCE = 2e-3
# A limit (the workspace, say) may keep the arm from home: this long after it was due it is given up.
HOME_PATIENCE_NS = 3000 * MS
# For so many ticks the resting position is still sent after a stop, so that a lost message does not matter.
REST_TICKS = 20


@dataclass(frozen=True)
class Measured:
    """One arm's joint states: positions float64 [J] rad in the order of the YAML, and their stamp."""

    q: FloatArray
    stamp_ns: int


@dataclass(frozen=True)
class Event:
    """Something worth counting and telling: `kind` is "refused_chunk", "lost", "fault" or "mode"."""

    kind: str
    reason: str
    text: str


class Supervisor:
    """The control loop's rules for all arms of a robot. Not thread-safe.

    kinematics: {arm: its kinematics}; scheduler: what turns chunks into targets.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, ArmKinematics], scheduler: Scheduler) -> None:
        self.mode = IDLE
        self.channels = channels_of(robot)
        self._robot = robot
        self._scheduler = scheduler
        self._kinematics = kinematics
        period_s = 1.0 / robot.control.rate_hz
        self._arms = {
            name: ArmFollower(arm, robot.safety, kinematics[name], period_s)
            for name, arm in robot.arms.items()
        }
        # Arms act at the same moment only where their latencies agree; the slowest one decides.
        self.latency_ns = int(max(arm.actuation_latency_ms for arm in robot.arms.values()) * MS)
        self.estop_reason = ""
        self.hold_reason = ""
        self._events: list[Event] = []
        self._measured: dict[str, Measured] = {}
        self._now_ns = 0
        self._started_ns = 0
        self._target: Target | None = None
        self._far_reported: int | None = None
        self._gripper: dict[str, float] = {}
        self._home: HomePath | None = None
        self._rested = 0

    @property
    def source(self) -> str:
        """What decides the command: policy, hold, home or estop."""
        return SOURCES[self.mode]

    @property
    def live(self) -> bool:
        """Whether a stream of commands is open; one begins at the measured state, or where the last one
        ended if the arms are still there."""
        return any(arm.live for arm in self._arms.values())

    @property
    def at_rest(self) -> bool:
        """Whether no arm is being moved and none is about to be."""
        return self.mode not in (POLICY, HOMING) and all(arm.at_rest for arm in self._arms.values())

    @property
    def chunk_stamp_ns(self) -> int | None:
        """The observation stamp behind the present target, None without one."""
        return self._target.stamp_ns if self.mode == POLICY and self._target is not None else None

    @property
    def last_due_ns(self) -> int | None:
        """When the last step of the chunks in hand is due, None without any."""
        return self._scheduler.last_due_ns()

    @property
    def latencies_ns(self) -> Mapping[str, int]:
        """{arm: actuation latency, ns}."""
        return {name: self.latency_ns for name in self._arms}

    def take_events(self) -> list[Event]:
        """Events since the last call."""
        events, self._events = self._events, []
        return events

    def lose(self, reason: str, text: str, now_ns: int) -> None:
        """Take note that something needed is gone: chunks in hand are forgotten, and the arms are brought to
        a hold where they follow the policy or go home. May be called at every tick while it is gone."""
        if self.mode in (WAITING, POLICY):
            self._forget_chunks(now_ns)
            self.hold_reason = f"{reason}: {text}"
        self._step("lost", reason, text)

    def request(self, what: str, now_ns: int, reason: str = "") -> str:
        """Serve "start", "stop", "reset", "home" or "estop"; returns what happens, for people.

        reason: for the emergency stop, why.

        Raises Refused where it cannot be done now.
        """
        if what not in TRANSITIONS[self.mode]:
            hint = " call reset first" if self.mode == ESTOP else " stop first"
            raise Refused(self.mode, f"{what} is not possible in mode '{self.mode}':{hint}")
        if what in ("start", "home"):
            self._require_joint_states(what, now_ns)
        if what == "start" and self.mode == POLICY:
            return "already started"
        before = self.mode
        self._go(what)
        self.estop_reason = (self.estop_reason or reason or "requested") if self.mode == ESTOP else ""
        self.hold_reason = ""
        self._forget_chunks(now_ns)
        if what == "reset":
            for follower in self._arms.values():
                follower.forget()
        self._home = None
        return {
            "start": "started; waiting for a chunk near the measured state",
            "stop": "stopping",
            "reset": "reset: chunks and the emergency stop are cleared; start again when ready"
            if before == ESTOP
            else "reset: chunks are cleared; start again when ready",
            "home": "going home",
            "estop": "emergency stop",
        }[what]

    def add_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """Take a chunk, or raise Refused: "not_started", "old" (seen before the last start or reset),
        "future", "late" (every step is past due), "channels" (an arm only partly named) or "far"."""
        if self.mode not in (WAITING, POLICY):
            raise Refused("not_started", f"a chunk arrived in mode '{self.mode}'")
        if chunk.stamp_ns < self._started_ns:
            raise Refused("old", "the chunk was computed from an observation before the last start or reset")
        if chunk.stamp_ns - now_ns > CLOCK_AHEAD_NS:
            ahead = (chunk.stamp_ns - now_ns) / 1e9
            raise Refused("future", f"the chunk's stamp is {ahead:.3f} s ahead of this node's clock")
        acts_ns = now_ns + self.latency_ns
        if chunk.due_ns[-1] < acts_ns:
            late = (acts_ns - chunk.due_ns[-1]) / 1e9
            raise Refused(
                "late", f"every step of the chunk is past due, by {late:.3f} s: inference is slower than "
                "the chunk's horizon",
            )  # fmt: skip
        self._check_channels(chunk.channels)
        ranges = {
            gripper_channel(name): arm.gripper.width
            for name, arm in self._robot.arms.items()
            if arm.gripper is not None
        }
        alone = make_scheduler("newest", ranges, interpolation="linear")
        alone.add(chunk, now_ns)
        first = alone.sample(max(acts_ns, int(chunk.due_ns[0])))
        if first is not None:
            self._check_near(first)
        self._scheduler.add(chunk, now_ns)

    def tick(self, now_ns: int, measured: Mapping[str, Measured], steady_ns: int) -> dict[str, Command]:
        """One control period: {arm: its command}; empty where nothing may be sent.

        measured: {arm: newest joint states}, an arm without any is left out. steady_ns: a monotonic clock.
        Call at the YAML's rate.
        """
        if now_ns < self._now_ns - CLOCK_AHEAD_NS:
            # Simulated time was set back: what is due and what is stale has lost its meaning.
            self._forget_chunks(now_ns)
            self._step("lost", "clock", "the clock jumped back")
        self._now_ns = now_ns
        self._measured = dict(measured)
        self._watch_joints(now_ns)
        acts_ns = now_ns + self.latency_ns
        if self.mode == WAITING:
            self._try_to_engage(acts_ns)
        elif self.mode == POLICY:
            self._next_target(acts_ns)
        elif self.mode == HOMING and self._home is None:
            self._set_off_for_home(now_ns)
        sent = {name: self._advance(name) for name, follower in self._arms.items() if follower.live}
        commands = {
            name: Command(
                stamp_ns=now_ns,
                acts_at_ns=acts_ns,
                source=self.source,
                wanted=result.wanted,
                motion=self._motion(result.sent),
                gripper=self._gripper.get(name),
                gripper_wanted=self._gripper.get(name),
                interventions=result.interventions,
            )
            for name, result in sent.items()
        }
        self._after(now_ns)
        return commands

    def _motion(self, sent: FloatArray) -> Motion:
        still = np.zeros((2, len(sent)))
        after_s = np.array([1.0, 2.0]) / self._robot.control.rate_hz
        return Motion(after_s, np.vstack([sent, sent]), still, still)

    def _advance(self, name: str) -> Sent:
        follower = self._arms[name]
        if self.mode == HOMING and self._home is not None:
            return follower.follow_joints(self._home.at(name, self._now_ns))
        if self.mode == POLICY and self._target is not None:
            pose, joints, gripper = _parts(self._target, name, len(self._robot.arms[name].joints))
            if gripper is not None:
                self._gripper[name] = gripper
            if pose is not None:
                return follower.follow_pose(pose)
            if joints is not None:
                return follower.follow_joints(joints)
        return follower.hold()

    def _after(self, now_ns: int) -> None:
        """Transitions that depend on where the arms have got to."""
        if self._home is not None:
            distance = max(
                float(np.max(np.abs(follower.q - self._robot.arms[name].home)))
                for name, follower in self._arms.items()
            )
            if self._home.over_for(now_ns) >= 0 and distance <= HOME_TOLERANCE:
                self._step("arrived", "home", "home is reached")
            elif self._home.over_for(now_ns) > HOME_PATIENCE_NS:
                self._step("lost", "home_blocked", f"home is not reached: {distance:.3f} rad are left")
        if self.mode == STOPPING and all(follower.at_rest for follower in self._arms.values()):
            # Counted and not timed: simulated time may stand still.
            self._rested += 1
            if self._rested > REST_TICKS:
                self._step("rested", "rest", "at rest")
                for follower in self._arms.values():
                    follower.end()
        else:
            self._rested = 0

    def _watch_joints(self, now_ns: int) -> None:
        if self.mode not in (POLICY, HOMING):
            return
        safety = self._robot.safety
        for name, follower in self._arms.items():
            newest = self._measured.get(name)
            stamp = newest.stamp_ns if newest is not None else None
            if newest is None or not joint_states_fresh(stamp, now_ns, safety):
                self._step("lost", "joint_states", f"{name}: {_age_text(stamp, now_ns)}")
                return
            apart = np.abs(newest.q - follower.q)
            if follower.live and not np.all(apart <= safety.first_command_joint):
                joint = self._robot.arms[name].joints[int(np.argmax(apart))]
                self._step(
                    "fault",
                    "not_following",
                    f"{name}: {joint} is {apart.max():.3f} rad from its command; is the driver listening? "
                    "Start again when it is",
                )
                return

    def _try_to_engage(self, acts_ns: int) -> None:
        target = self._scheduler.sample(acts_ns)
        if target is None or not self._all_fresh():
            return
        try:
            self._check_near(target)
        except Refused as refused:
            # The scheduler keeps asking for it until it is over: tell once per chunk.
            if self._far_reported != target.stamp_ns:
                self._far_reported = target.stamp_ns
                self._events.append(Event("refused_chunk", refused.reason, str(refused)))
            self._scheduler.clear()
            return
        for name, follower in self._arms.items():
            follower.begin(self._measured[name].q)
        self._target = target
        self._step("engaged", "policy", "following the policy")

    def _next_target(self, acts_ns: int) -> None:
        target = self._scheduler.sample(acts_ns)
        if target is not None:
            self._target = target
        elif chunks_ran_out(self._scheduler.last_due_ns(), acts_ns, self._robot.safety):
            timeout = self._robot.safety.chunk_timeout_ms
            self._step("lost", "stale_chunk", f"no chunk reaches further than {timeout:.0f} ms ago")

    def _set_off_for_home(self, now_ns: int) -> None:
        for name, follower in self._arms.items():
            follower.begin(self._measured[name].q)
        begin = {name: follower.q.copy() for name, follower in self._arms.items()}
        self._home = HomePath(begin, self._robot, now_ns)

    def _check_near(self, target: Target) -> None:
        """Raises Refused("far"). While following, a target has to be near the command that goes on;
        otherwise near the measured state, and without one it is refused too."""
        safety = self._robot.safety
        for name, arm in self._robot.arms.items():
            pose, joints, _ = _parts(target, name, len(arm.joints))
            if pose is None and joints is None:
                continue
            if self.mode == POLICY:
                reference, what = self._arms[name].q, "the command being sent"
            else:
                newest = self._measured.get(name)
                if newest is None:
                    raise Refused("far", f"{name}: no joint states to compare the target with")
                reference, what = newest.q, "the measured state"
            if joints is not None:
                check_near_joints(joints, reference, safety, what)
            if pose is not None:
                check_near_pose(pose, self._kinematics[name].forward(reference), safety, what)

    def _check_channels(self, channels: tuple[str, ...]) -> None:
        for name, arm in self._robot.arms.items():
            for group in (joint_channels(name, len(arm.joints)), tool_channels(name)):
                some = [channel for channel in group if channel in channels]
                if some and len(some) != len(group):
                    missing = [channel for channel in group if channel not in channels]
                    raise Refused("channels", f"the chunk has {some} but not {missing}")
            if joint_channels(name, 1)[0] in channels and tool_channels(name)[0] in channels:
                raise Refused("channels", f"the chunk has both joint and tool targets for {name}")

    def _require_joint_states(self, what: str, now_ns: int) -> None:
        for name in self._arms:
            newest = self._measured.get(name)
            stamp = newest.stamp_ns if newest is not None else None
            if not joint_states_fresh(stamp, now_ns, self._robot.safety):
                text = _age_text(stamp, now_ns)
                topic = self._robot.arms[name].states.topic
                raise Refused("joint_states", f"cannot {what}: {name}: {text}; is {topic} being published?")

    def _all_fresh(self) -> bool:
        return all(
            name in self._measured
            and joint_states_fresh(self._measured[name].stamp_ns, self._now_ns, self._robot.safety)
            for name in self._arms
        )

    def _forget_chunks(self, now_ns: int) -> None:
        self._scheduler.clear()
        self._target = None
        self._started_ns = now_ns
        self._far_reported = None
        self._gripper = {}

    def _step(self, event: str, reason: str, text: str) -> None:
        if event not in TRANSITIONS[self.mode]:
            return
        self.hold_reason = f"{reason}: {text}" if event in ("lost", "fault") else ""
        self._events.append(
            Event("mode" if event in ("engaged", "arrived", "rested") else event, reason, text)
        )
        self._go(event)

    def _go(self, event: str) -> None:
        self.mode = TRANSITIONS[self.mode][event]
        self._rested = 0
        if self.mode != HOMING:
            self._home = None


def channels_of(robot: Robot) -> frozenset[str]:
    """Every channel that a chunk for this robot may name."""
    channels: set[str] = set()
    for name, arm in robot.arms.items():
        channels |= {*joint_channels(name, len(arm.joints)), *tool_channels(name)}
        if arm.gripper is not None:
            channels.add(gripper_channel(name))
    return frozenset(channels)


def _parts(
    target: Target, arm: str, joints: int
) -> tuple[FloatArray | None, FloatArray | None, float | None]:
    """(tool pose [7], joints [J], gripper width) of one arm in a target; None for what it does not name."""
    column = {name: index for index, name in enumerate(target.channels)}

    def pick(names: tuple[str, ...]) -> FloatArray | None:
        return target.values[[column[name] for name in names]] if names[0] in column else None

    width = pick((gripper_channel(arm),))
    return (
        pick(tool_channels(arm)),
        pick(joint_channels(arm, joints)),
        None if width is None else float(width[0]),
    )


def _age_text(stamp_ns: int | None, now_ns: int) -> str:
    if stamp_ns is None:
        return "no joint states have arrived"
    age = (now_ns - stamp_ns) / 1e6
    return f"the newest joint states are {age:.0f} ms old"
