"""Polynomials between two states of the joints, of the degree that ros2_control's
joint_trajectory_controller uses (its Trajectory::interpolate_between_points): a straight line from positions
alone, a cubic with velocities, a quintic with accelerations too.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

# A state: position, velocity and acceleration, float64 [J] each; None for what it does not say.
State = tuple[FloatArray, FloatArray | None, FloatArray | None]


def coefficients(start: State, end: State, duration_s: float) -> FloatArray:
    """float64 [N, J]: the polynomial's coefficients, of 1, t, t^2 ..., t in seconds since `start`.

    Both states need a velocity for a cubic (N = 4), and an acceleration for a quintic (N = 6).
    Raises ValueError for a duration that is not positive.
    """
    if duration_s <= 0:
        raise ValueError(f"a duration is positive, found {duration_s} s")
    (q0, v0, a0), (q1, v1, a1) = start, end
    t = duration_s
    way = q1 - q0
    if v0 is None or v1 is None:
        return np.array([q0, way / t])
    if a0 is None or a1 is None:
        return np.array([q0, v0, (3 * way / t - 2 * v0 - v1) / t, (v0 + v1 - 2 * way / t) / t**2])
    # What is left for the last three to do, of position, velocity and acceleration: small numbers, so that
    # little is lost where large ones cancel.
    p = (way - (v0 + 0.5 * a0 * t) * t) / t**3
    v = (v1 - v0 - a0 * t) / t**2
    a = (a1 - a0) / t
    return np.array(
        [
            q0,
            v0,
            0.5 * a0,
            10 * p - 4 * v + 0.5 * a,
            (7 * v - 15 * p - a) / t,
            (6 * p - 3 * v + 0.5 * a) / t**2,
        ]
    )


def position(polynomial: FloatArray, t: float) -> FloatArray:
    """The joints [J] at t seconds."""
    return t ** np.arange(len(polynomial)) @ polynomial


def state(polynomial: FloatArray, t: float) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(position, velocity, acceleration), [J] each, at t seconds."""
    power = np.arange(len(polynomial))
    rate = power[1:, None] * polynomial[1:]
    change = power[1:-1, None] * rate[1:]
    return position(polynomial, t), position(rate, t), position(change, t) if len(change) else 0.0 * rate[0]
