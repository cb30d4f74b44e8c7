"""Joint limits per tick, and the workspace: what makes any target safe to send.

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

import math
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.config import Box, JointLimits
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
        # Towards a position limit.
        self._approach = self.change
        if limits.approach is not None:
            self._approach = np.minimum(self.change, np.array(limits.approach) * period_s)
        self.period_s = period_s
        self._beat = Beat(round(period_s * 1e9))
        self._zeros = np.zeros(len(position))
        self._scale = 1.0
        self._braking: tuple[FloatArray, FloatArray, tuple[FloatArray, int, set[int]]] | None = None
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

    def tick(self, now_ns: int) -> int:
        """Begin a tick at `now_ns`, ROS clock, before planning; returns how many ticks were missed since the
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
        if not (np.isfinite(target).all() and np.isfinite(target_velocity).all()):
            raise ValueError("a joint target is not a number")
        period = self.period_s
        fastest = self.velocity * self._scale
        feedforward = np.minimum(np.maximum(target_velocity, -fastest), fastest)
        goal = np.minimum(np.maximum(target, self.lower), self.upper)
        behind = goal - self.q
        behind -= feedforward * period
        distance = np.abs(behind)
        closing = np.minimum(braking_speed(distance, self.change, period), distance / max(CLOSING_S, period))
        wanted = feedforward + np.copysign(closing, behind)
        low, high = self._interval()
        v = np.minimum(np.maximum(wanted, low), high)
        limits = []
        noticeable = NOTICEABLE / period
        if np.abs(goal - target).max() > NOTICEABLE:
            limits.append("position")
        if np.abs(wanted - v).max() > noticeable:
            possible = np.minimum(np.maximum(wanted, -fastest), fastest)
            if np.abs(wanted - possible).max() > noticeable:
                limits.append("velocity")
            if np.abs(possible - v).max() > noticeable:
                limits.append("acceleration")
        return self._step(v, tuple(limits))

    def plan_stop(self) -> Step:
        """The step that slows all joints down together as fast as they may."""
        speed = np.abs(self.v)
        slower = np.maximum(speed - self._deceleration(self.q, self.v, speed)[0], 0.0)
        return self._step(np.copysign(slower, self.v) if slower.any() else self._zeros, ())

    def slower(self, step: Step, share: float) -> Step:
        """The step that lies `share` of the way from braking to a planned one; between the two every joint
        keeps its limits."""
        low, high = self._interval()
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
        bend = (self.q - self._middle) - (self._middle - self._oldest)
        knot = self._middle + bend / 6.0
        knot_v = (self.q - self._oldest) / (2.0 * period)
        knot_a = bend / period**2
        speed = np.abs(self.v)
        slowing, ticks, whole = self._deceleration(self.q, self.v, speed)
        index = {0, max(ticks - 1, 0), ticks}
        for k in whole:
            index |= {k - 1, k, k + 1}
        at = np.array(sorted(index), dtype=np.float64)
        this, way = braked(speed, slowing, at[:, None], period)
        following = np.maximum(this - slowing, 0.0)
        # At rest, but for rounding.
        this[-1] = following[-1] = 0.0
        sign = np.sign(self.v)
        q, v, a = np.empty((3, len(at) + 1, len(sign)))
        q[0], v[0], a[0] = knot, knot_v, knot_a
        np.multiply(this + following, 0.5 * sign, out=v[1:])
        change = (following - this) * sign
        np.divide(change, period, out=a[1:])
        np.add(self._inside(self.q + sign * way), change * (period / 6.0), out=q[1:])
        after_s = np.empty(len(at) + 1)
        after_s[0] = due_s
        np.add((at + 1.0) * period, due_s, out=after_s[1:])
        return Motion(after_s, q, v, a)

    def way_to_rest(self, step: Step) -> FloatArray:
        """Control points from `step` on when braking starts right after it, one per tick, [K, J]; the joints
        rest at the last. (For `vla_ros.safety.clearance`.)"""
        speed = np.abs(step.v)
        slowing, ticks, _ = self._deceleration(step.q, step.v, speed)
        way = braked(speed, slowing, np.arange(ticks + 1.0)[:, None], self.period_s)[1]
        return step.q + np.copysign(way, step.v)

    def brakes_together(self, step: Step) -> int | None:
        """After how many ticks all joints rest when braking starts right after `step`; None where some rest
        sooner than others."""
        _, ticks, sooner = self._deceleration(step.q, step.v, np.abs(step.v))
        return None if sooner else ticks

    def _deceleration(
        self, q: FloatArray, v: FloatArray, speed: FloatArray
    ) -> tuple[FloatArray, int, set[int]]:
        """(deceleration per tick [J], ticks to rest, after how many ticks those joints that stop sooner have
        their last whole step behind them)."""
        if self._braking is not None and self._braking[0] is v and self._braking[1] is q:
            # Of a step that was looked at, and then taken.
            return self._braking[2]
        ticks = ticks_to_rest(speed, self.change)
        slowing, whole = speed, set()
        if ticks:
            room = np.where(v > 0, self.upper - q, q - self.lower)
            slowing = deceleration(speed, room, self.change, self.period_s, ticks)
            sooner = slowing * ticks > speed * (1 + 1e-12)
            if sooner.any():
                whole = {int(k) for k in np.floor(speed[sooner] / slowing[sooner] + 1e-9)}
        self._braking = v, q, (slowing, ticks, whole)
        return self._braking[2]

    def _interval(self) -> tuple[FloatArray, FloatArray]:
        """Velocities allowed in this tick, [J] each."""
        fastest = self.velocity * self._scale
        up = braking_speed(self.upper - self.q, self._approach, self.period_s)
        down = braking_speed(self.q - self.lower, self._approach, self.period_s)
        low = np.maximum(np.maximum(self.v - self.change, -fastest), -down)
        high = np.minimum(np.minimum(self.v + self.change, fastest), up)
        # Equal where a joint brakes with all it has, but for rounding.
        return np.minimum(low, high), high

    def _step(self, v: FloatArray, limits: tuple[str, ...]) -> Step:
        return Step(self._inside(self.q + v * self.period_s), v, limits)

    def _inside(self, q: FloatArray) -> FloatArray:
        """Rounding must not cross a limit, and a joint that is outside must not be pulled in by a step."""
        return np.minimum(np.maximum(q, np.minimum(self.lower, self.q)), np.maximum(self.upper, self.q))


def into_box(position: FloatArray, box: Box) -> FloatArray:
    """The point of the box nearest to `position` [3], m."""
    return np.clip(position, box.min, box.max)


def outside_box(position: FloatArray, box: Box) -> float:
    """How far `position` [3] lies outside the box, m; 0 inside."""
    sides = zip(position.tolist(), box.min, box.max, strict=True)
    return math.hypot(*(max(low - place, 0.0, place - high) for place, low, high in sides))
