"""Joint limits per tick, tool speed and workspace: what makes any target safe to send.

Position, velocity and acceleration limits hold exactly for the finite differences of the positions sent,
whatever is asked for: a tick's velocity is chosen from the interval that respects all three and from which
the joint can still stop in time, and that interval is never empty (see `vla_ros.safety.stop`). Jerk holds
too: the acceleration used is at most jerk dt / 2, so that it cannot change by more than jerk dt per tick.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.robot.config import Box, JointLimits
from vla_ros.safety.stop import brake, braking_speed, stopping_distance
from vla_ros.types import FloatArray

# A limit is said to have changed a command when it moved a joint by more than this, rad.
NOTICEABLE = 1e-4
# What a joint is behind its target is made up for in about this time, not at once: noise in the targets
# would otherwise become bursts of acceleration. A target that moves is followed without lag all the same.
CLOSING_S = 0.03


@dataclass(frozen=True)
class Step:
    """One tick's outcome: position q and velocity v float64 [J], and the limits that changed it."""

    q: FloatArray
    v: FloatArray
    limits: tuple[str, ...]


@dataclass(frozen=True)
class ToolSpeed:
    """Bounds of the tool's motion: m/s and rad/s."""

    linear: float
    angular: float


class JointLimiter:
    """Follows joint targets within the limits, from a position at rest.

    q, v: what was sent last, float64 [J] (rad, rad/s). It reaches a moving target exactly and stays on it
    as long as the limits allow, and otherwise catches up without overshooting.
    """

    def __init__(self, limits: JointLimits, period_s: float) -> None:
        position = np.array(limits.position, dtype=np.float64)
        self.lower, self.upper = position[:, 0], position[:, 1]
        self.velocity = np.array(limits.velocity, dtype=np.float64)
        jerk = np.array(limits.jerk, dtype=np.float64)
        acceleration = np.array(limits.acceleration, dtype=np.float64)
        self.change = np.minimum(acceleration, 0.5 * jerk * period_s) * period_s
        self.period_s = period_s
        self.q: FloatArray = np.zeros(len(position))
        self.v: FloatArray = np.zeros(len(position))

    def reset(self, q: FloatArray) -> None:
        """Start from q [J] at rest. Outside the position limits a joint can only move back inside."""
        self.q = np.array(q, dtype=np.float64)
        self.v = np.zeros_like(self.q)

    @property
    def at_rest(self) -> bool:
        """Whether the last command did not move."""
        return not np.any(self.v)

    def plan(
        self,
        target: FloatArray,
        target_velocity: FloatArray,
        jacobian: FloatArray | None = None,
        tool: ToolSpeed | None = None,
    ) -> Step:
        """The step to take towards a target; `commit` takes it.

        target: where the joints are wanted at the end of this tick, rad [J]; target_velocity: how fast it
        moves, rad/s [J]. jacobian: 6xJ at the present q, to keep within `tool`'s speeds.
        Raises ValueError for a target that is not finite.
        """
        if not (np.all(np.isfinite(target)) and np.all(np.isfinite(target_velocity))):
            raise ValueError("a joint target is not a number")
        feedforward = np.clip(target_velocity, -self.velocity, self.velocity)
        goal = np.clip(target, self.lower, self.upper)
        behind = goal - feedforward * self.period_s - self.q
        closing = braking_speed(np.abs(behind), self.change, self.period_s)
        closing = np.minimum(closing, np.abs(behind) / max(CLOSING_S, self.period_s))
        wanted = feedforward + np.sign(behind) * closing
        low, high = self._interval()
        v = np.clip(wanted, low, high)
        limits = []
        noticeable = NOTICEABLE / self.period_s
        if np.any(np.abs(goal - target) > NOTICEABLE):
            limits.append("position")
        if np.any(np.abs(wanted) > self.velocity + noticeable):
            limits.append("velocity")
        if np.any(np.abs(np.clip(wanted, -self.velocity, self.velocity) - v) > noticeable):
            limits.append("acceleration")
        if jacobian is not None and tool is not None:
            slower = self._within_tool_speed(v, low, high, jacobian, tool)
            if np.any(np.abs(slower - v) > noticeable):
                limits.append("tool_speed")
            v = slower
        return self._step(v, tuple(limits))

    def plan_stop(self) -> Step:
        """The step that slows every joint down as fast as it may."""
        return self._step(brake(self.v, self.change), ())

    def commit(self, step: Step) -> None:
        """Make `step` what was sent last."""
        self.q, self.v = step.q, step.v

    def resting_place(self, step: Step) -> FloatArray:
        """Where the joints come to rest, [J], when braking starts right after `step`."""
        after = brake(step.v, self.change)
        return step.q + np.sign(after) * stopping_distance(after, self.change, self.period_s)

    def _interval(self) -> tuple[FloatArray, FloatArray]:
        """Velocities allowed in this tick, [J] each."""
        up = braking_speed(self.upper - self.q, self.change, self.period_s)
        down = braking_speed(self.q - self.lower, self.change, self.period_s)
        low = np.maximum(np.maximum(self.v - self.change, -self.velocity), -down)
        high = np.minimum(np.minimum(self.v + self.change, self.velocity), up)
        # Equal where a joint brakes with all it has, but for rounding.
        return np.minimum(low, high), high

    def _within_tool_speed(
        self, v: FloatArray, low: FloatArray, high: FloatArray, jacobian: FloatArray, tool: ToolSpeed
    ) -> FloatArray:
        """v slowed down until the tool keeps its speed, as far as [low, high] allows.

        Goes from the present velocity, which keeps it already, towards the scaled-down wish: all points
        between two that keep a convex bound keep it too.
        """
        twist = jacobian @ v
        linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
        scale = min(1.0, tool.linear / max(linear, 1e-12), tool.angular / max(angular, 1e-12))
        if scale >= 1.0:
            return v
        start = np.clip(self.v, low, high)
        way = scale * v - start
        room = np.where(way > 0, high - start, start - low)
        moving = np.abs(way) > 1e-12
        share = float(np.min(room[moving] / np.abs(way[moving]), initial=1.0))
        return start + share * way

    def _step(self, v: FloatArray, limits: tuple[str, ...]) -> Step:
        q = self.q + v * self.period_s
        # Rounding must not cross a limit, and a joint that is outside must not be pulled in by a step.
        q = np.clip(q, np.minimum(self.lower, self.q), np.maximum(self.upper, self.q))
        return Step(q, v, limits)


def into_box(position: FloatArray, box: Box) -> FloatArray:
    """The point of the box nearest to `position` [3], m."""
    return np.clip(position, box.min, box.max)


def outside_box(position: FloatArray, box: Box) -> float:
    """How far `position` [3] lies outside the box, m; 0 inside."""
    return float(np.linalg.norm(position - into_box(position, box)))
