"""How far a base has driven, from the velocities of its odometry.

Its pose is left aside: not every driver fills it in, and the velocity is what the rest of this project reads.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np

from vla_ros.observation.ring import Ring
from vla_ros.types import FloatArray


class Driven(NamedTuple):
    """velocity: float64 [2], forward m/s and turning rad/s. way: float64 [2], its integral in m and rad since
    some time, forward and left counting as positive."""

    velocity: FloatArray
    way: FloatArray


def driven(ring: Ring[Driven], stamp_ns: int, velocity: FloatArray) -> Driven:
    """What to keep of a velocity [2] measured at `stamp_ns`, after those that `ring` holds.

    Between two samples the velocity changes evenly. What happened in a gap longer than the stream's max_age
    is not known, and counts as nothing.
    """
    if not ring.samples:
        return Driven(velocity, np.zeros(2))
    before_ns, before = ring.samples[-1]
    elapsed_ns = stamp_ns - before_ns
    if not 0 < elapsed_ns <= ring.max_age_ns:
        return Driven(velocity, before.way)
    return Driven(velocity, before.way + (before.velocity + velocity) / 2 * (elapsed_ns / 1e9))


def way_at(ring: Ring[Driven], stamp_ns: int) -> FloatArray | None:
    """The way [2] at a time, linearly between samples, before the first one that of the first; None while no
    sample is as new as that."""
    stamps = [stamp for stamp, _ in ring.samples]
    after = bisect.bisect_left(stamps, stamp_ns)
    if after == len(stamps):
        return None
    after_ns, last = ring.samples[after]
    if after == 0:
        return last.way
    before_ns, first = ring.samples[after - 1]
    share = (stamp_ns - before_ns) / (after_ns - before_ns)
    return np.asarray(first.way + share * (last.way - first.way))
