"""How fast the tool moves: within its limits in every tick, and on the way to rest after it.

A step that keeps the tool slow is not enough. While joints brake their axes turn, and what one did to the
tool against another comes to light: where many joints move fast and the tool does not, it can get faster
though every joint slows down. So a step is only taken if the tool keeps its limits on all of the way to rest
after it. The way to rest after the step before was looked at a tick ago and lies within the joints' limits,
so there is always one to fall back on: limits of joints and of the tool hold at once, always, from rest on.

Speeds are the control points' chords: from one forward kinematics to the next, exact for what is gone. What
is sent (see `vla_ros.safety.limits`) keeps them but for how much the tool's path bends more in one tick than
in the one before it.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.robot.config import Safety
from vla_ros.safety.limits import NOTICEABLE, JointLimiter, Step
from vla_ros.types import FloatArray

# Shares of the limits. A step is chosen for AIM, and refused if beyond MOST it or its way to rest would go:
# what lies between lets a tool that gets faster be slowed down steadily. Over MOST is for bends.
AIM, MOST = 0.94, 0.98


class ToolKinematics(Protocol):
    """What is needed of `vla_ros.robot.kinematics.Kinematics`.

    reach: m per rad that the tool moves at most by each joint, float64 [J].
    """

    reach: FloatArray

    def forward_all(self, q: FloatArray) -> FloatArray:
        """Tool poses, [K, 4, 4], for joints [K, J]."""
        ...

    def jacobian(self, q: ArrayLike) -> FloatArray:
        """Tool twist per joint velocity, 6xJ."""
        ...


class ToolLimiter:
    """See the module: of one arm, on top of its joints' limiter."""

    def __init__(self, safety: Safety, kinematics: ToolKinematics, limiter: JointLimiter) -> None:
        self._linear, self._angular = safety.tool_speed, safety.tool_rotation_speed
        self._kinematics = kinematics
        self._limiter = limiter

    def limit(self, step: Step) -> tuple[Step, FloatArray]:
        """(the step, or a slower one, that keeps the tool within its limits; its way to rest, see
        `JointLimiter.way_to_rest`). "tool_speed" is among the step's limits where that changed it."""
        limiter = self._limiter
        # Half a period on: of all Jacobians, this one tells the chord best.
        jacobian = self._kinematics.jacobian(limiter.q + (0.5 * limiter.period_s) * limiter.v)
        twist = jacobian @ step.v
        linear, angular = _norm(twist[:3]), _norm(twist[3:])
        if linear <= AIM * self._linear and angular <= AIM * self._angular:
            way = limiter.way_to_rest(step)
            if self._surely_keeps(linear, angular, step) or self._keeps(way):
                return step, way
        slower, way = self._slowed(step, self._share(jacobian, twist))
        if np.abs(slower.v - step.v).max() * limiter.period_s > NOTICEABLE:
            slower = replace(slower, limits=(*step.limits, "tool_speed"))
        return slower, way

    def _slowed(self, step: Step, share: float) -> tuple[Step, FloatArray]:
        """The first that keeps the limits of: `share` of the way from braking to the step, half of that, and
        braking, which does."""
        limiter = self._limiter
        for part in (share, 0.5 * share):
            slower = limiter.slower(step, part)
            way = limiter.way_to_rest(slower)
            if self._keeps(way):
                return slower, way
        stop = limiter.plan_stop()
        return stop, limiter.way_to_rest(stop)

    def _share(self, jacobian: FloatArray, twist: FloatArray) -> float:
        """How far from braking to a step with this twist the tool reaches AIM: 1 where it does not, 0 where
        it is beyond it even braking."""
        begin = jacobian @ self._limiter.plan_stop().v
        way = twist - begin
        return min(
            _leaves(begin[:3], way[:3], AIM * self._linear), _leaves(begin[3:], way[3:], AIM * self._angular)
        )

    def _surely_keeps(self, linear: float, angular: float, step: Step) -> bool:
        """Whether a step with these speeds of the tool, and the way to rest after it, needs no look: the
        joints are so slow that the tool cannot get too fast.

        Where all joints brake together, the tool's speed after a share x of the time T falls to (1 - x) of
        what it would be, and to that the turning axes have added at most x T times their rate: a quarter of
        T times the rate is the most, at x = 1/2. A joint's axis and lever are turned by other joints, so the
        rate is bounded by the sum of all joints' speeds times that of the speeds that they give the tool;
        twice, since a pair of joints counts in both orders.
        """
        ticks = self._limiter.brakes_together(step)
        if ticks is None:
            return False
        speed = np.abs(step.v)
        turning = float(speed.sum())
        levers = float(self._kinematics.reach @ speed)
        # One period for the step itself.
        time_s = (1.0 + 0.25 * ticks) * self._limiter.period_s
        return (
            linear + 2.0 * turning * levers * time_s <= MOST * self._linear
            and angular + turning * turning * time_s <= MOST * self._angular
        )

    def _keeps(self, way: FloatArray) -> bool:
        """Whether the tool keeps its limits from the newest control point over a way's [K, J] to its end."""
        poses = self._kinematics.forward_all(np.concatenate([self._limiter.q[None], way]))
        change = np.diff(poses[:, :3], axis=0)
        moved, turned = change[:, :, 3], change[:, :, :3]
        furthest = MOST * self._limiter.period_s * self._linear
        widest = min(MOST * self._limiter.period_s * self._angular, math.pi)
        # Of two rotations' difference the norm is sqrt(8) sin(angle / 2).
        return bool(
            np.einsum("ki,ki->k", moved, moved).max() <= furthest**2
            and np.einsum("kij,kij->k", turned, turned).max() <= 8.0 * math.sin(0.5 * widest) ** 2
        )


def _norm(vector: FloatArray) -> float:
    return math.sqrt(vector @ vector)


def _leaves(begin: FloatArray, way: FloatArray, most: float) -> float:
    """The share in [0, 1] of `way` [3] at whose end |begin + share way| is `most`; 1 if that is longer, 0 if
    it begins beyond."""
    a, b, c = float(way @ way), float(begin @ way), float(begin @ begin) - most * most
    if c >= 0.0:
        return 0.0
    if a + 2.0 * b + c <= 0.0:
        return 1.0
    return -c / (b + math.sqrt(b * b - a * c))
