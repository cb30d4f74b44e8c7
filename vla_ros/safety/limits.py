"""Joint limits per tick: what makes any target safe to send.

A limiter chooses one *control point* per tick. Their finite differences keep the position, velocity and
acceleration limits exactly, whatever is asked for: a tick's velocity is chosen from the interval that
respects all three and from which the joint can still stop in time, and that interval is never empty (see
`vla_ros.safety.stop`). Jerk holds too: the acceleration used is at most jerk dt / 2, so that it cannot change
by more than jerk dt per tick.

What is sent is the uniform cubic B-spline of the control points. It lies in their convex hull, and its first
three derivatives in those of their finite differences (de Boor, A Practical Guide to Splines, chapter X), so
every limit holds at every moment, and not only from command to command. Its knots, one per tick, are

    q = (c[m-1] + 4 c[m] + c[m+1]) / 6    v = (c[m+1] - c[m-1]) / 2dt    a = (c[m+1] - 2 c[m] + c[m-1]) / dt^2

and lag one period behind the newest control point c[m+1].
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vla_ros.robot.config import JointLimits
from vla_ros.safety.beat import Beat
from vla_ros.safety.stop import braked, braking_speed, deceleration, ticks_to_rest
from vla_ros.types import FloatArray, Motion

# A limit is said to have changed a command when it moved a joint by more than this, rad.
NOTICEABLE = 1e-4
# What a joint is behind its target is made up for in about this time, not at once: noise in the targets
# would otherwise become bursts of acceleration. A target that moves is followed without lag all the same.
CLOSING_S = 0.03


@dataclass(frozen=True)
class Step:
    """One tick's outcome: control point q and its velocity v (its difference from the one before), float64
    [J], and the limits that changed it."""

    q: FloatArray
    v: FloatArray
    limits: tuple[str, ...]


@dataclass(frozen=True)
class _Braking:
    """All joints braking from control point q [J] and its velocity v [J].

    slowing: rad/s per tick, [J]; ticks: until all rest; together: whether none rests sooner; bends: after how
    many ticks an acceleration changes its course; way: control points [ticks + 1, J], q the first.
    """

    q: FloatArray
    v: FloatArray
    slowing: FloatArray
    ticks: int
    together: bool
    bends: list[int]
    way: FloatArray


class JointLimiter:
    """Follows joint targets within the limits, from a position at rest.

    q, v: the newest control point, and its difference from the one before, float64 [J] (rad, rad/s). It
    reaches a moving target exactly and stays on it as long as the limits allow, and otherwise catches up
    without overshooting.

    One tick is `tick`, `plan` or `plan_stop`, `commit`, `motion`.
    """

    def __init__(self, limits: JointLimits, period_s: float) -> None:
        position = np.array(limits.position, dtype=np.float64)
        self.lower, self.upper = position[:, 0].copy(), position[:, 1].copy()
        self.velocity = np.array(limits.velocity, dtype=np.float64)
        jerk = np.array(limits.jerk, dtype=np.float64)
        acceleration = np.array(limits.acceleration, dtype=np.float64)
        self.change = np.minimum(acceleration, 0.5 * jerk * period_s) * period_s
        # Towards either position limit, and towards a target.
        approach = self.change
        if limits.approach is not None:
            approach = np.minimum(self.change, np.array(limits.approach) * period_s)
        self._changes = np.array([approach, approach, self.change])
        self.period_s = period_s
        self._beat = Beat(round(period_s * 1e9))
        self._zeros = np.zeros(len(position))
        self._scale = 1.0
        self._fastest, self._slowest = self.velocity, -self.velocity
        self._braking: _Braking | None = None
        self.reset(self._zeros)

    def reset(self, q: FloatArray) -> None:
        """Start from q [J] at rest. Outside the position limits a joint can only move back inside."""
        self.q = np.array(q, dtype=np.float64)
        self.v = np.zeros_like(self.q)
        # The control points before q: at rest all three are the same.
        self._middle = self._oldest = self.q
        self._before = (self._oldest, self._middle, self.q, self.v)
        self._beat.restart()

    @property
    def at_rest(self) -> bool:
        """Whether nothing moves any more: the newest three control points are the same."""
        return not (self.v.any() or (self._middle != self._oldest).any())

    @property
    def scale(self) -> float:
        """The share of the velocity limits that targets may use, (0, 1]; braking always has all it needs."""
        return self._scale

    @scale.setter
    def scale(self, share: float) -> None:
        """Raises ValueError out of (0, 1], or for less than before while the joints move."""
        if not 0.0 < share <= 1.0:
            raise ValueError(f"a share of the velocity limits is in (0, 1], found {share}")
        if share < self._scale and not self.at_rest:
            raise ValueError(
                f"the share of the velocity limits shrinks from {self._scale} to {share} in motion"
            )
        self._scale = share
        self._fastest, self._slowest = self.velocity * share, self.velocity * -share

    def tick(self, now_ns: int) -> int:
        """Begin a tick at `now_ns`, steady clock, before planning; returns how many were missed since the
        last one.

        In those the driver has been (or will be) on the way to rest that `motion` gave it, so that is where
        the limiter is afterwards too.
        """
        missed = self._beat.tick(now_ns)
        for _ in range(missed):
            if self.at_rest:
                break
            self.commit(self.plan_stop())
        return missed

    def plan(self, target: FloatArray, target_velocity: FloatArray) -> Step:
        """The step to take towards a target; `commit` takes it.

        target: where the joints are wanted at this tick's control point, one period after the knot that is
        sent, rad [J]; target_velocity: how fast it moves, rad/s [J]. Raises ValueError for a target that is
        not finite.
        """
        if not np.isfinite(target + target_velocity).all():
            raise ValueError("a joint target is not a number")
        period = self.period_s
        feedforward = np.minimum(np.maximum(target_velocity, self._slowest), self._fastest)
        goal = np.minimum(np.maximum(target, self.lower), self.upper)
        behind = goal - self.q
        behind -= feedforward * period
        distance = np.abs(behind)
        room = np.array([self.upper - self.q, self.q - self.lower, distance])
        up, down, closing = braking_speed(room, self._changes, period)
        closing = np.minimum(closing, distance / max(CLOSING_S, period))
        wanted = feedforward + np.copysign(closing, behind)
        low, high = self._interval(up, down)
        v = np.minimum(np.maximum(wanted, low), high)
        limits = []
        noticeable = NOTICEABLE / period
        if np.abs(goal - target).max() > NOTICEABLE:
            limits.append("position")
        if np.abs(wanted - v).max() > noticeable:
            possible = np.minimum(np.maximum(wanted, self._slowest), self._fastest)
            if np.abs(wanted - possible).max() > noticeable:
                limits.append("velocity")
            if np.abs(possible - v).max() > noticeable:
                limits.append("acceleration")
        return self._step(v, tuple(limits))

    def plan_stop(self) -> Step:
        """The step that slows all joints down together as fast as they may."""
        speed = np.abs(self.v)
        slower = np.maximum(speed - self._brake(self.q, self.v).slowing, 0.0)
        return self._step(np.copysign(slower, self.v) if slower.any() else self._zeros, ())

    def slower(self, step: Step, share: float) -> Step:
        """The step that lies `share` of the way from braking to a planned one; between the two every joint
        keeps its limits."""
        room = np.array([self.upper - self.q, self.q - self.lower])
        low, high = self._interval(*braking_speed(room, self._changes[:2], self.period_s))
        # Braking, but for joints near the end of their range, which have to be slower yet.
        braking = np.minimum(np.maximum(self.plan_stop().v, low), high)
        return self._step(braking + share * (step.v - braking), step.limits)

    def commit(self, step: Step) -> None:
        """Make `step` the newest control point."""
        self._before = (self._oldest, self._middle, self.q, self.v)
        self._oldest, self._middle = self._middle, self.q
        self.q, self.v = step.q, step.v

    def undo(self) -> None:
        """Take the last `commit` back, because its motion was not sent: its tick was missed after all."""
        self._oldest, self._middle, self.q, self.v = self._before
        self._beat.undo()

    def motion(self) -> Motion:
        """What to send after `commit`: the knot, and the spline of braking from here as rows wherever its
        acceleration changes its course, so that quintic interpolation gives exactly the spline.

        Two rows at least, one period apart; the last one rests.
        """
        period = self.period_s
        due_s = period - self._beat.late_s
        if self.at_rest:
            rest = np.zeros((2, len(self.q)))
            return Motion(np.array([due_s, due_s + period]), np.vstack([self.q, self.q]), rest, rest)
        braking = self._brake(self.q, self.v)
        points = np.concatenate([[self._oldest, self._middle], braking.way, braking.way[-1:]])
        steps = points[1:] - points[:-1]
        # At rest, but for rounding.
        steps[-2:] = 0.0
        rows = [1, *(2 + tick for tick in braking.bends)]
        back, ahead = steps[[row - 1 for row in rows]], steps[rows]
        bend = ahead - back
        after_s = np.array([due_s, *(due_s + (1 + tick) * period for tick in braking.bends)])
        return Motion(after_s, points[rows] + bend / 6.0, (back + ahead) / (2.0 * period), bend / period**2)

    def way_to_rest(self, step: Step) -> FloatArray:
        """Control points from `step` on when braking starts right after it, one per tick, [K, J]; the joints
        rest at the last."""
        return self._brake(step.q, step.v).way

    def brakes_together(self, step: Step) -> int | None:
        """After how many ticks all joints rest when braking starts right after `step`; None where some rest
        sooner than others."""
        braking = self._brake(step.q, step.v)
        return braking.ticks if braking.together else None

    def _brake(self, q: FloatArray, v: FloatArray) -> _Braking:
        """The braking from a control point and its velocity."""
        known = self._braking
        if known is not None and known.v is v and known.q is q:
            # Of a step that was looked at, and then taken.
            return known
        speed = np.abs(v)
        ticks = ticks_to_rest(speed, self.change)
        slowing = speed / max(ticks, 1)
        way = q + _course(ticks) * (v * self.period_s)
        bends = {0, max(ticks - 1, 0), ticks}
        # A joint that would come to rest beyond a limit stops sooner; one that begins there has to be asked.
        together = bool(((way[-1] >= self.lower) & (way[-1] <= self.upper)).all())
        if ticks and not together:
            room = np.where(v > 0, self.upper - q, q - self.lower)
            slowing = deceleration(speed, room, self.change, self.period_s, ticks)
            sooner = slowing * ticks > speed * (1 + 1e-12)
            together = not sooner.any()
            way = q + np.copysign(braked(speed, slowing, np.arange(ticks + 1.0)[:, None], self.period_s), v)
            for tick in np.floor(speed[sooner] / slowing[sooner] + 1e-9).tolist():
                # Hardly sooner, it has no bend after all rest.
                bends |= {int(tick) - 1, int(tick), min(int(tick) + 1, ticks)}
        # Rounding must not cross a limit; a joint that is outside may come back slowly.
        way = np.minimum(np.maximum(way, np.minimum(self.lower, q)), np.maximum(self.upper, q))
        self._braking = _Braking(q, v, slowing, ticks, together, sorted(bends), way)
        return self._braking

    def _interval(self, up: FloatArray, down: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Velocities allowed in this tick, [J] each, where position limits allow `up` and `down`."""
        low = np.maximum(np.maximum(self.v - self.change, self._slowest), -down)
        high = np.minimum(np.minimum(self.v + self.change, self._fastest), up)
        # Equal where a joint brakes with all it has, but for rounding.
        return np.minimum(low, high), high

    def _step(self, v: FloatArray, limits: tuple[str, ...]) -> Step:
        return Step(self._inside(self.q + v * self.period_s), v, limits)

    def _inside(self, q: FloatArray) -> FloatArray:
        """Rounding must not cross a limit, and a joint that is outside must not be pulled in by a step."""
        return np.minimum(np.maximum(q, np.minimum(self.lower, self.q)), np.maximum(self.upper, self.q))


@lru_cache(maxsize=256)
def _course(ticks: int) -> FloatArray:
    """How far a joint has come after k = 0 .. ticks of braking at v, shares of v dt, [ticks + 1, 1]."""
    k = np.arange(ticks + 1.0)[:, None]
    return k - k * (k + 1.0) / (2.0 * max(ticks, 1))
