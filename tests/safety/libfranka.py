"""What a Franka Research 3 checks of the joint positions it is sent every millisecond.

Restated from libfranka's include/franka/rate_limiting.h (0.15 and later): velocity limits that depend on the
position, acceleration and jerk. A stream that breaks one of them stops the arm with a reflex, such as
joint_motion_generator_acceleration_discontinuity.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

PERIOD_S = 1e-3
EPS = 1e-3
ACCELERATION = 10.0 - EPS
JERK = 5000.0 - EPS
FASTEST = np.array([2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])
OFFSET = np.array([0.30, 0.20, 0.20, 0.30, 0.35, 0.35, 0.35])
SLOPE = np.array([12.0, 5.17, 7.0, 8.0, 34.0, 11.0, 34.0])
UPPER = np.array([2.75010, 1.79180, 2.90650, -0.1458, 2.81010, 4.52050, 3.01960])
LOWER = np.array([-2.750100, -1.791800, -2.906500, -3.048100, -2.810100, 0.54092, -3.019600])


def velocity_limits(q: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(lower, upper) velocity limits at joints q [N, 7], as computeLowerLimitsJointVelocity and its twin."""

    def towards(distance: FloatArray) -> FloatArray:
        speed = np.sqrt(np.maximum(0.0, SLOPE * distance)) - OFFSET
        return np.minimum(FASTEST, np.maximum(0.0, speed)) - EPS

    return -towards(q - LOWER), towards(UPPER - q)


def broken(q: FloatArray) -> dict[str, float]:
    """By how much a stream of positions [N, 7], one per millisecond, at rest before, exceeds each."""
    q = np.concatenate([np.repeat(q[:1], 3, axis=0), q])
    v = np.diff(q, axis=0) / PERIOD_S
    a = np.diff(v, axis=0) / PERIOD_S
    jerk = np.diff(a, axis=0) / PERIOD_S
    lower, upper = velocity_limits(q[1:])
    excess = {
        "velocity": np.max(np.where(v > 0, v - upper, np.where(v < 0, lower - v, -EPS))),
        "acceleration": np.max(np.abs(a)) - ACCELERATION,
        "jerk": np.max(np.abs(jerk)) - JERK,
    }
    return {name: float(value) for name, value in excess.items() if value > 0}
