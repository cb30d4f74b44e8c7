"""Braking in discrete time, exactly: the arithmetic under every limit.

A joint is commanded by positions one period dt apart. It moves by v dt per tick, and v changes by at most
A = a dt from tick to tick. Stopping from v therefore takes D(v) = dt (v + (v - A) + (v - 2A) + ...), the sum
over the positive terms, and not v^2 / 2a: the difference is what makes a limiter overshoot.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray


def stopping_distance(velocity: FloatArray, change: FloatArray, period_s: float) -> FloatArray:
    """How far a joint that moves by velocity dt in this tick goes until it rests, >= 0, [J].

    velocity: rad/s of this tick (its sign is no matter); change: A, rad/s per tick.
    """
    x = np.abs(velocity) / change
    n = np.floor(x)
    return change * period_s * (n + 1.0) * (x - 0.5 * n)


def braking_speed(distance: FloatArray, change: FloatArray, period_s: float) -> FloatArray:
    """The greatest speed >= 0 in this tick from which a joint still rests within `distance`, [J].

    The exact inverse of `stopping_distance`. Zero where the distance is zero or negative.
    """
    x = np.maximum(distance, 0.0) / (change * period_s)
    n = np.floor(0.5 * (np.sqrt(1.0 + 8.0 * x) - 1.0))
    return change * (x / (n + 1.0) + 0.5 * n)


def brake(velocity: FloatArray, change: FloatArray) -> FloatArray:
    """The velocity one tick later when every joint slows down as fast as it may, [J] rad/s."""
    return velocity - np.clip(velocity, -change, change)
