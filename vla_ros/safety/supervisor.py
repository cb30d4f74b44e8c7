"""What the robot is doing and what it may do next: the rules of the control loop, tick by tick.

A `Supervisor` is called from one thread only. It takes requests (start, stop, reset, home, estop) and chunks
between ticks, and at each tick turns the wanted target into commands, or into a hold. Its modes are those of
`vla_ros.safety.modes`.

Where something that is needed is lost, the arms are brought to a hold and the base to a stand, and it goes on
by itself once there is a target again that may be taken up. Only what does not follow its commands though it
says where it is has to be looked at by a person: an arm is an emergency stop, a base (its own may have been
pressed) waits for a new start. Either is reported in `events`. Taking up a target, the first time and after
each hold, is allowed only near the measured state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.action.schedule import Scheduler
from vla_ros.errors import Refused
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.arms import Arms, Moved
from vla_ros.safety.base import BaseMeasured
from vla_ros.safety.chunks import Chunks
from vla_ros.safety.clock import ClockWatch
from vla_ros.safety.home import HomePath
from vla_ros.safety.intake import channels_of
from vla_ros.safety.joints import Measured
from vla_ros.safety.modes import ANSWERS, ESTOP, HOMING, IDLE, POLICY, SOURCES, STOPPING, TRANSITIONS, WAITING
from vla_ros.safety.senses import Senses
from vla_ros.safety.watch import MS
from vla_ros.types import ActionChunk, BaseCommand, Command, FloatArray

__all__ = ["BaseMeasured", "Event", "Measured", "Supervisor", "channels_of"]

# Home is reached within this, rad.
HOME_TOLERANCE = 2e-3
# A limit (the workspace, say) may keep the arm from home: this long after it was due it is given up.
HOME_PATIENCE_NS = 3000 * MS
# For so many ticks the resting position is still sent after a stop, so that a lost message does not matter.
REST_TICKS = 20
# A loop that has not ticked for this long was not late but stopped: what is due then was not looked at.
STALLED_NS = 200 * MS
# What concerns the policy alone, and does not keep an arm from going home.
POLICYS = ("policy_gone", "stale_chunk")


@dataclass(frozen=True)
class Event:
    """Something worth counting and telling: `kind` is "refused_chunk", "lost" (a hold), "estop", "fault" (it
    is given up), "counted" (nothing else follows from it) or "mode". part: the arm, or "base", that does not
    follow: what its driver was told before it began, it may not do any more."""

    kind: str
    reason: str
    text: str
    part: str = ""


class Supervisor:
    """The control loop's rules for all arms of a robot, and its base. Not thread-safe.

    kinematics: {arm: its kinematics}; scheduler: what turns chunks into targets.

    base_command: the base's part of the last tick, None where nothing may be sent, or there is no base.

    hold_reason: "reason: text" of what was lost, while it keeps the arms from following; "" otherwise.
    estop_reason: why, while the emergency stop is latched; "" otherwise.
    moves: what does not rest yet, for people; "" where all does.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, Kinematics], scheduler: Scheduler) -> None:
        self.mode = IDLE
        self.channels = channels_of(robot)
        self.base_command: BaseCommand | None = None
        self.estop_reason = ""
        self.hold_reason = ""
        self.moves = ""
        self._robot = robot
        self._period_ns = round(1e9 / robot.control.rate_hz)
        self._chunks = Chunks(robot, kinematics, scheduler)
        self._arms = Arms(robot, kinematics)
        self._senses = Senses(robot)
        self._clock = ClockWatch()
        self._events: list[Event] = []
        self._now_ns = 0
        self._steady_ns: int | None = None
        self._moved_ns = 0
        self._home: HomePath | None = None
        self._rested = 0
        # Whether the streams end with the arms at rest, emergency stop or not.
        self._let_go = False
        # Whether it was told what is in the way of taking anything up.
        self._told = False

    @property
    def source(self) -> str:
        """What decides the command: policy, hold, home or estop."""
        return SOURCES[self.mode]

    @property
    def live(self) -> bool:
        """Whether a stream of commands is open; one begins at the measured state, or where the last one
        ended if the arms are still there."""
        return self._arms.live

    @property
    def at_rest(self) -> bool:
        """Whether neither an arm nor the base is being moved, and none is about to be."""
        return self.mode not in (POLICY, HOMING) and self._arms.at_rest

    @property
    def chunk_stamp_ns(self) -> int | None:
        """The observation stamp behind the present target, None without one."""
        target = self._chunks.target
        return target.stamp_ns if self.mode == POLICY and target is not None else None

    @property
    def last_due_ns(self) -> int | None:
        """When the last step of the chunks followed is, or was, due; None before the first one and after they
        were forgotten."""
        return self._chunks.last_due_ns

    @property
    def latencies_ns(self) -> Mapping[str, int]:
        """{arm: actuation latency as measured, ns}."""
        return self._senses.latencies_ns

    def take_events(self) -> list[Event]:
        """Events since the last call."""
        events, self._events = self._events, []
        return events

    def lose(self, reason: str, text: str, now_ns: int, for_good: bool = False, part: str = "") -> None:
        """Take note that something needed is gone: chunks in hand are forgotten, and the arms are brought to
        a hold where they follow the policy or go home. May be called at every tick while it is gone.

        for_good: its coming back is not enough to go on. The streams end with the arms at rest, those of an
        emergency stop too, and only a new start opens them. part: see `Event`."""
        if self.mode in (WAITING, POLICY):
            self._chunks.forget(now_ns)
            self.hold_reason = f"{reason}: {text}"
        if for_good:
            self._let_go = self._let_go or self.mode == ESTOP
            self._step("fault", reason, text, part)
        elif self.mode != HOMING or reason not in POLICYS:
            self._step("lost", reason, text)
        if reason == "driver_gone" and self._arms.at_rest:
            # A driver that comes back may have moved its gripper.
            self._arms.forget_grippers()

    def check(self, what: str, now_ns: int) -> None:
        """Raises Refused where :meth:`request` would refuse `what` now; changes nothing."""
        if what not in TRANSITIONS[self.mode]:
            hint = " call reset first" if self.mode == ESTOP else " stop first"
            raise Refused(self.mode, f"{what} is not possible in mode '{self.mode}':{hint}")
        if what in ("start", "home"):
            reason, text = self._senses.stale(now_ns)
            if not reason and not self.live:
                reason, text = "base_moves", self._senses.base_moves(now_ns)
            if text:
                raise Refused(reason, f"cannot {what}: {text}")

    def request(self, what: str, now_ns: int, reason: str = "") -> str:
        """Serve "start", "stop", "reset", "home" or "estop"; returns what happens, for people.

        reason: for the emergency stop, why.

        Raises Refused where it cannot be done now.
        """
        self.check(what, now_ns)
        if what == "start" and self.mode == POLICY:
            return "already started"
        self._go(what)
        self._let_go = False
        self.estop_reason = (self.estop_reason or reason or "requested") if self.mode == ESTOP else ""
        self.hold_reason = ""
        self._chunks.forget(now_ns)
        if what == "reset":
            self._arms.forget()
            self._senses.forget()
        self._home = None
        return ANSWERS[what]

    def add_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """Take a chunk, or raise Refused: "not_started", "old" (seen before the last start, reset or loss),
        "future", "late" (every step is past due), "channels" (an arm or a base only partly named), "nan" or
        "far"."""
        if self.mode not in (WAITING, POLICY):
            raise Refused("not_started", f"a chunk arrived in mode '{self.mode}'")
        ahead_ns = self._senses.ahead_ns
        rests = self.mode == WAITING and chunk.stamp_ns > self._moved_ns + ahead_ns
        self._chunks.add(chunk, now_ns, now_ns + ahead_ns, rests, *self._references())

    def tick(
        self,
        now_ns: int,
        measured: Mapping[str, Measured],
        steady_ns: int,
        base: BaseMeasured | None = None,
    ) -> dict[str, Command]:
        """One control period: {arm: its command}; empty where nothing may be sent. What the base is to be
        sent with them is `base_command`.

        now_ns: ROS clock; measured: {arm: newest joint states}, an arm without any is left out. steady_ns: a
        monotonic clock, by which the driver goes on with what it was sent. base: the newest odometry, None
        without any. Call at the YAML's rate.
        """
        self._now_ns = now_ns
        if self._senses.base is not None:
            self._senses.base.take(base)
        self._look_at_time(now_ns, steady_ns)
        for wrong in self._senses.take(measured, self.live):
            self._events.append(Event("counted", "glitch", f"{wrong}; not taken"))
        self._watch_state(now_ns)
        acts_ns = now_ns + self._senses.ahead_ns
        if self.mode == WAITING:
            self._try_to_engage(acts_ns)
        elif self.mode == POLICY:
            self._go_on(acts_ns)
        elif self.mode == HOMING and self._home is None:
            self._try_to_set_off(now_ns)
        if not self._senses.arms_stale(now_ns):
            self._arms.begin_grippers(self._senses.measured)
        commands = {name: self._command(name, moved, acts_ns) for name, moved in self._advance().items()}
        driven = self._arms.driven
        self.base_command = None if driven is None else driven.command(now_ns, self.source)
        self._after(now_ns)
        return commands

    def unsent(self, steady_ns: int) -> None:
        """The last tick's commands were not sent: arms' drivers are on the way to rest that they were given
        before, and from there they go on. A base drives on: `base_command` is what it is to be sent at once
        instead, slower than before; None for nothing. steady_ns: the monotonic time by now."""
        self._arms.unsent(steady_ns)
        self._senses.unsent()
        driven = self._arms.driven
        self.base_command = None if driven is None else driven.command(self._now_ns, self.source)

    def _look_at_time(self, now_ns: int, steady_ns: int) -> None:
        wrong = self._clock.look(now_ns, steady_ns)
        if wrong:
            # What is due and what is stale has lost its meaning.
            self._senses.forget()
            self.lose("clock", wrong, now_ns)
            self._chunks.forget(now_ns)
        self._arms.tick(steady_ns, None if self._senses.base is None else self._senses.base.lately(now_ns))
        if self._steady_ns is not None and self.live:
            silent_ns = steady_ns - self._steady_ns
            if silent_ns > max(STALLED_NS, 2 * self._period_ns):
                self._senses.interrupt()
                self._step("lost", "stalled", f"the control loop stood still for {silent_ns / 1e9:.3f} s")
        self._steady_ns = steady_ns

    def _advance(self) -> dict[str, Moved]:
        if self.mode == HOMING and self._home is not None:
            home = self._home
            return self._arms.go(lambda name: home.at(name, self._now_ns))
        if self.mode == POLICY and self._chunks.target is not None:
            return self._arms.follow(self._chunks.target, self._chunks.ran_out)
        return self._arms.hold()

    def _command(self, name: str, moved: Moved, acts_ns: int) -> Command:
        self._senses.sent(name, self._now_ns, moved.motion.q[0])
        return moved.command(self._now_ns, acts_ns, self.source)

    def _after(self, now_ns: int) -> None:
        """Transitions that depend on where the robot has got to."""
        self.moves = self._senses.base_moves(now_ns)
        if not self._arms.at_rest:
            self.moves = self.moves or "it is still being slowed down"
        if self.moves:
            self._moved_ns = now_ns
        if self._home is not None:
            distance = self._home.left(self._arms.q)
            if self._home.over_for(now_ns) >= 0 and distance <= HOME_TOLERANCE:
                self._step("arrived", "home", "home is reached")
            elif self._home.over_for(now_ns) > HOME_PATIENCE_NS:
                self._step("fault", "home_blocked", f"home is not reached: {distance:.3f} rad are left")
        if (self.mode == STOPPING or self._let_go) and not self.moves:
            # Counted and not timed: simulated time may stand still.
            self._rested += 1
            if self._rested > REST_TICKS:
                self._step("rested", "rest", "at rest")
                self._arms.end()
                self._senses.interrupt()
        else:
            self._rested = 0

    def _watch_state(self, now_ns: int) -> None:
        """What is measured, while it is acted on."""
        self._watch_base(now_ns)
        if self.mode not in (POLICY, HOMING):
            return
        reason, text = self._senses.stale(now_ns)
        if reason:
            self._step("lost", reason, text)
            return
        if not self.live:
            return
        arm, text = self._senses.arm_astray(self._arms.q)
        if arm:
            text += " though joint states come; is the driver listening, or something in the way? Reset and "
            text += "start again when it is mended"
            self._events.append(Event("estop", "not_following", text, arm))
            self.request("estop", now_ns, f"not_following: {text}")
            # Nor is it sent there when the driver listens again.
            self._let_go = True

    def _watch_base(self, now_ns: int) -> None:
        """Whether the base does what it is sent, in every mode: it may roll on though it is to stand."""
        if self._senses.base is None or self.base_command is None:
            return
        reason, text = "base_not_following", self._senses.base.strays(self.base_command.sent, now_ns)
        if not text:
            return
        if "fault" in TRANSITIONS[self.mode]:
            self.lose(reason, text, now_ns, for_good=True, part="base")
        elif not self.hold_reason.startswith(reason):
            self.hold_reason = f"{reason}: {text}"
            self._events.append(Event("lost", reason, text, "base"))

    def _in_the_way(self) -> bool:
        """Whether nothing may be taken up from where the robot says it is; told once."""
        reason, text = "base_moves", self._senses.base_moves(self._now_ns)
        if self.live:
            reason, (_, text) = "joint_states", self._senses.arm_apart(self._arms.q)
            if text:
                text += "; held until they agree. Where the arm was moved, stop and start again"
        if not text:
            self._told = False
            return False
        # Nor may a chunk be that was planned from there.
        self.lose(reason, text, self._now_ns)
        if not self._told:
            self._told = True
            self._events.append(Event("lost", reason, text))
        return True

    def _rolls_on(self) -> bool:
        """Whether the base moves though it is sent to stand. Not told: it may only be late."""
        sent = self.base_command
        return sent is not None and not sent.sent.any() and bool(self._senses.base_moves(self._now_ns))

    def _try_to_engage(self, acts_ns: int) -> None:
        target = self._chunks.sample(acts_ns)
        if not self._senses.settled or self._senses.stale(self._now_ns)[0]:
            return
        if not self._senses.newer_than(self._chunks.since_ns) or self._rolls_on():
            return
        if self._in_the_way() or target is None:
            return
        try:
            self._chunks.check_near(target, *self._references())
        except Refused as refused:
            if self._chunks.drop(target):
                self._events.append(Event("refused_chunk", refused.reason, str(refused)))
            return
        self._arms.begin(self._senses.measured)
        self._chunks.follow(target)
        self._step("engaged", "policy", "following the policy")

    def _go_on(self, acts_ns: int) -> None:
        if self._chunks.go_on(acts_ns):
            # The last target is gone to within the limits, and that is where the arm stops.
            self._events.append(Event("counted", "horizon", "the chunks in hand came to their end"))
        if self._chunks.over():
            timeout = self._robot.safety.chunk_timeout_ms
            self._step("lost", "stale_chunk", f"no chunk reaches further than {timeout:.0f} ms ago")

    def _try_to_set_off(self, now_ns: int) -> None:
        if self._senses.settled and (self.live or not self._senses.base_moves(now_ns)):
            self._arms.begin(self._senses.measured)
            self._home = HomePath(self._arms.q, self._robot, now_ns)

    def _references(self) -> tuple[Mapping[str, FloatArray], str]:
        """What a target has to be near, and what that is, for people: while following, the command that goes
        on; otherwise the measured state, and without one it is refused too."""
        if self.mode == POLICY:
            return self._arms.q, "the command being sent"
        return {name: newest.q for name, newest in self._senses.measured.items()}, "the measured state"

    def _step(self, event: str, reason: str, text: str, part: str = "") -> None:
        if event not in TRANSITIONS[self.mode]:
            return
        if event != "rested":  # what brought the arms to rest stays true
            self.hold_reason = f"{reason}: {text}" if event in ("lost", "fault") else ""
        self._events.append(
            Event("mode" if event in ("engaged", "arrived", "rested") else event, reason, text, part)
        )
        self._go(event)

    def _go(self, event: str) -> None:
        self.mode = TRANSITIONS[self.mode][event]
        self._rested = 0
        self._told = False
        if self.mode != HOMING:
            self._home = None
