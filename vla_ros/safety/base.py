"""A mobile base: its velocity within limits, tick by tick, and what its odometry says of it.

What is sent is a velocity, and the base's driver keeps it until the next one comes or its own patience is
over. So there is no way to rest to be sent along, as for arms: to stop is to go on sending, less each tick,
in ticks too whose commands for the arms are not sent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.robot.config import BaseLimits, MobileBase
from vla_ros.safety.stop import ticks_to_rest
from vla_ros.safety.watch import MS, age_text, fresh
from vla_ros.types import BaseCommand, FloatArray

# After such a silence it is not known any more whether a driver still does what it was sent last: SLATE's
# stops after 0.3 s, ros2_control's diff_drive_controller after 0.5 s where nothing else is set.
SILENT_NS = 200 * MS
# Of the velocity limits: a base slower than this share of them stands, and one this far from what it is sent
# still follows.
SMALL = 0.1
# For so long a base may do something else than it is sent: it is heavy, its odometry comes at 20 Hz.
PATIENCE_NS = 1000 * MS
# Or it may stand though it was sent more than CLEAR of the velocity limits within PATIENCE_NS for ASKED_NS in
# all, and had ANSWER_NS more to answer: so pulses count too, and a heavy base has its dead time.
CLEAR = 2 * SMALL
ASKED_NS, ANSWER_NS = 350 * MS, 500 * MS
_STANDING = np.zeros(2)


@dataclass(frozen=True)
class BaseMeasured:
    """A base's odometry: velocity float64 [2], forward m/s and turning rad/s, finite, and its stamp."""

    velocity: FloatArray
    stamp_ns: int


@dataclass(frozen=True)
class Driven:
    """A base's tick. wanted: velocity asked for, sent: what is sent, float64 [2], forward m/s and turning
    rad/s; interventions: what changed it."""

    wanted: FloatArray
    sent: FloatArray
    interventions: tuple[str, ...] = ()

    def command(self, stamp_ns: int, source: str) -> BaseCommand:
        """The tick's command, see `BaseCommand` for the arguments."""
        return BaseCommand(stamp_ns, source, self.wanted, self.sent, self.interventions)


class BaseLimiter:
    """Follows wanted velocities within the limits, from standing. One tick is `tick` and then `follow`. A
    stream of commands has to end, and so the next begins, with the base standing.

    velocity: what was sent last, float64 [2], forward m/s and turning rad/s.
    """

    def __init__(self, limits: BaseLimits, period_s: float) -> None:
        self._most = np.array(limits.velocity, dtype=np.float64)
        self._change = np.array(limits.acceleration, dtype=np.float64) * period_s
        self._now_ns = 0
        self.velocity = self._before = _STANDING
        self._sent_ns: int | None = None
        self._sent_before_ns: int | None = None

    @property
    def at_rest(self) -> bool:
        """Whether the last command was to stand."""
        return not self.velocity.any()

    def tick(self, steady_ns: int, measured: FloatArray | None) -> None:
        """Begin a tick at a monotonic time.

        measured: the base's velocity [2], None where that is not known. After a silence the driver may have
        stopped: then it goes on from where the base is slower, and standing where nothing is known. (Ticks
        missed in a shorter one it drove on with what it was sent last, and it goes on from there.)
        """
        self._now_ns = steady_ns
        if self._sent_ns is None or steady_ns - self._sent_ns <= SILENT_NS:
            return
        slowest = _STANDING if measured is None else measured
        self.velocity = np.clip(slowest, np.minimum(self.velocity, 0.0), np.maximum(self.velocity, 0.0))

    def follow(self, wanted: FloatArray | None) -> Driven:
        """One tick towards a velocity [2]; None: slowing down, and then standing. What is no number is not
        followed either. Interventions: "velocity", "acceleration", "nan"."""
        self._before, self._sent_before_ns = self.velocity, self._sent_ns
        self._sent_ns = self._now_ns
        if wanted is None or not np.isfinite(wanted).all():
            self.velocity = self._slower()
            return Driven(_STANDING, self.velocity, () if wanted is None else ("nan",))
        goal = np.clip(wanted, -self._most, self._most)
        words = ("velocity",) if (goal != wanted).any() else ()
        way = goal - self.velocity
        near = np.abs(way) <= self._change
        if not near.all():
            words = (*words, "acceleration")
        self.velocity = np.where(near, goal, self.velocity + np.copysign(self._change, way))
        return Driven(wanted, self.velocity, words)

    def undo(self) -> None:
        """Take the last `follow` back: it was not sent."""
        self.velocity, self._sent_ns = self._before, self._sent_before_ns

    def unsent(self, steady_ns: int) -> Driven | None:
        """Take the last `follow` back and slow down instead, for the base drives on with what it was sent:
        to be sent at this monotonic time, however late. None after a silence: what its driver does now is for
        the next tick to see, and what was right before might push it."""
        self.undo()
        if self._sent_ns is None or steady_ns - self._sent_ns > SILENT_NS:
            return None
        self._sent_ns = steady_ns
        self.velocity = self._slower()
        return Driven(_STANDING, self.velocity)

    def _slower(self) -> FloatArray:
        """A tick slower. Both stop together, as late as the one that needs longer: the base keeps its arc."""
        ticks = ticks_to_rest(np.abs(self.velocity), self._change)
        return self.velocity * ((ticks - 1) / ticks) if ticks > 1 else _STANDING


class BaseWatch:
    """What a base's odometry says: is it fresh, does the base stand, and does it do what it is sent?"""

    def __init__(self, base: MobileBase) -> None:
        self._odometry = base.odometry
        self._small = SMALL * np.array(base.limits.velocity)
        self._clear = CLEAR * np.array(base.limits.velocity)
        self._newest: BaseMeasured | None = None
        self._since_ns: int | None = None
        self._looked_ns: int | None = None
        self._asked_since_ns: int | None = None
        self._due_ns: int | None = None
        self.forget()

    @property
    def stamp_ns(self) -> int | None:
        """Of the newest odometry, None before any."""
        return None if self._newest is None else self._newest.stamp_ns

    def take(self, measured: BaseMeasured | None) -> None:
        """Take this tick's newest odometry."""
        if measured is not None:
            self._newest = measured

    def forget(self) -> None:
        """Compare anew with what is sent: the clock or the world was set, or another stream began."""
        self._since_ns = self._looked_ns = None
        self._unasked()

    def stale(self, now_ns: int) -> str:
        """Why the odometry cannot be acted on, for people; "" if it can."""
        if fresh(self.stamp_ns, now_ns, self._odometry.max_age_ms):
            return ""
        age = age_text("odometry", self.stamp_ns, now_ns)
        return f"base: {age}; is {self._odometry.topic} being published?"

    def velocity(self, now_ns: int) -> FloatArray | None:
        """The measured velocity [2], m/s and rad/s, None where none is known that is fresh."""
        return None if self._newest is None or self.stale(now_ns) else self._newest.velocity

    def lately(self, now_ns: int) -> FloatArray | None:
        """The velocity as it is now, [2], None where the newest odometry may be from before a driver lost its
        patience, fresh or not."""
        old = self._newest is None or now_ns - self._newest.stamp_ns > SILENT_NS
        return None if old else self.velocity(now_ns)

    def moves(self, now_ns: int) -> str:
        """That the base moves, where nothing is sent to it, for people; "" where it stands, and where that is
        not known."""
        velocity = self.velocity(now_ns)
        if velocity is None or (np.abs(velocity) <= self._small).all():
            return ""
        return f"the base moves at {_text(velocity)} though nothing drives it here; bring it to a stand"

    def strays(self, sent: FloatArray, now_ns: int) -> str:
        """What the base does instead of what it is sent, [2] in this tick, for people; "" while it follows.

        Looked at over a time in which it has to have come near: all of what it did then lay beyond all that
        it was sent. So neither a base that is late counts nor a bump. Or it stood though it was asked to move
        for long enough, and be it in pulses, with all that it was sent on both sides of standing.
        """
        velocity = self.velocity(now_ns)
        if velocity is None:
            self.forget()
            return ""
        beyond, stood = self._beyond(sent, velocity, now_ns), self._stood(sent, velocity, now_ns)
        if stood:
            sent = self._asked
            self.forget()
        if not (beyond or stood):
            return ""
        if (np.abs(velocity) > np.abs(sent) + self._small).any():
            why = "is it pushed, does it roll, or does its driver not listen? Stop it at the base itself"
        else:
            why = (
                "are its motors off, its emergency stop pressed, something in the way, or is that too slow "
                "for its wheels to turn? Start again when it is mended"
            )
        return f"the base is at {_text(velocity)} and was sent {_text(sent)}; {why}"

    def _beyond(self, sent: FloatArray, velocity: FloatArray, now_ns: int) -> bool:
        """Whether for a while all that it did lay beyond all that it was sent."""
        if self._since_ns is None:
            self._since_ns = now_ns
            self._sent = self._did = (np.full(2, np.inf), np.full(2, -np.inf))
        self._sent, self._did = _widened(self._sent, sent), _widened(self._did, velocity)
        if now_ns - self._since_ns < PATIENCE_NS:
            return False
        self._since_ns = None
        (least, most), (slowest, fastest) = self._sent, self._did
        return bool((fastest < least - self._small).any() or (slowest > most + self._small).any())

    def _stood(self, sent: FloatArray, velocity: FloatArray, now_ns: int) -> bool:
        """Whether it has stood all along though it was asked clearly to move."""
        passed_ns = 0 if self._looked_ns is None else now_ns - self._looked_ns
        self._looked_ns = now_ns
        if (np.abs(velocity) > self._small).any():
            self._unasked()
            return False
        if self._due_ns is not None:
            return self._newest is not None and self._newest.stamp_ns >= self._due_ns
        if self._asked_since_ns is not None and now_ns - self._asked_since_ns > PATIENCE_NS:
            self._unasked()
        if (np.abs(sent) > self._clear).any():
            self._asked = sent
            if self._asked_since_ns is None:
                self._asked_since_ns = now_ns
            else:
                self._asked_ns += passed_ns
            if self._asked_ns >= ASKED_NS:
                self._due_ns = now_ns + ANSWER_NS
        return False

    def _unasked(self) -> None:
        """Count anew for how long it was asked to move."""
        self._asked = _STANDING
        self._asked_ns = 0
        self._asked_since_ns = self._due_ns = None


def _widened(span: tuple[FloatArray, FloatArray], value: FloatArray) -> tuple[FloatArray, FloatArray]:
    return np.minimum(span[0], value), np.maximum(span[1], value)


def _text(velocity: FloatArray) -> str:
    return f"{velocity[0]:.2f} m/s, {velocity[1]:.2f} rad/s"
