"""Braking in discrete time, exactly: the arithmetic under every limit.

A joint is commanded by points one period dt apart. It moves by v dt per tick, and v changes by at most
A = a dt from tick to tick. Stopping from v as fast as it may therefore takes D(v) = dt (v + (v - A) +
(v - 2A) + ...), the sum over the positive terms, and not v^2 / 2a: the difference is what makes a limiter
overshoot.

Joints brake together: over as many ticks as the one that needs most, each by the same amount per tick, so
that the arm stays on its line and the tool slows down steadily. A joint that would meet its position limit
on the way stops there instead, sooner. Braking again from anywhere on the way is the same way.
"""

from __future__ import annotations

import numpy as np

from vla_ros.types import FloatArray

# Of one tick: a velocity of n changes is stopped in n ticks though it was rounded up.
_ROUNDING = 1e-9
_NONE = float(np.finfo(np.float64).tiny)


def braking_speed(distance: FloatArray, change: FloatArray, period_s: float) -> FloatArray:
    """The greatest speed >= 0 in this tick from which a joint still rests within `distance`, [J].

    The exact inverse of D (see the module). Zero where the distance is zero or negative.
    """
    x = np.maximum(distance, 0.0) / (change * period_s)
    n = np.floor(np.sqrt(2.0 * x + 0.25) - 0.5)
    return change * (x / (n + 1.0) + 0.5 * n)


def ticks_to_rest(speed: FloatArray, change: FloatArray) -> int:
    """After how many ticks all joints can rest; speed: |v| of the last tick, [J]."""
    return int(np.ceil((speed / change).max(initial=0.0) - _ROUNDING))


def deceleration(
    speed: FloatArray, room: FloatArray, change: FloatArray, period_s: float, ticks: int
) -> FloatArray:
    """By how much each joint's speed shrinks per tick when all brake together, rad/s, [J].

    speed: |v| of the last tick; room: rad to the position limit ahead; ticks: of `ticks_to_rest`, > 0.
    """
    together = speed / ticks
    short = room < speed * (0.5 * (ticks - 1) * period_s)
    if not short.any():
        return together
    # After k whole steps of d the rest of the speed goes: the way is dt (k v - d k (k + 1) / 2), which is
    # between dt v (k - 1) / 2 and dt v k / 2.
    way = np.maximum(room, 0.0) / period_s
    moving = np.where(short, speed, 1.0)
    k = np.floor(2.0 * way / moving) + 1.0
    stops_there = 2.0 * (k * speed - way) / (k * (k + 1.0))
    return np.where(short, np.minimum(np.maximum(stops_there, together), change), together)


def braked(speed: FloatArray, deceleration: FloatArray, ticks: FloatArray, period_s: float) -> FloatArray:
    """The way gone, rad [P, J], `ticks` [P, 1] into a braking from `speed` [J]."""
    whole = np.minimum(ticks, np.floor(speed / np.maximum(deceleration, _NONE) + _ROUNDING))
    return period_s * whole * (speed - 0.5 * (whole + 1.0) * deceleration)
