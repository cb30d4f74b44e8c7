"""How much each of the chunks that overlap at one time counts.

Each rule takes the time and the chunks that cover it, oldest observation first, and returns
(weights for values, weights for gripper votes), each [N] and summing to 1. Plain numbers: chunks are few, and
numpy's cost is per call.
"""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.action.timeline import Placed

Weights = list[float]
Rule = Callable[[int, list[Placed]], tuple[Weights, Weights]]

# Fading in takes this part of a chunk's life, and so does fading out. Where chunks come more seldom it takes
# this part of the interval between them, so that one fade goes over into the next, up to LONGEST of a life.
# The longer the fades the smoother; the shorter, the more chunks have a say.
FADE, OF_INTERVAL, LONGEST = 0.3, 0.9, 0.4


def newest(time_ns: int, chunks: list[Placed]) -> tuple[Weights, Weights]:
    """The newest observation's chunk alone."""
    weights = [*([0.0] * (len(chunks) - 1)), 1.0]
    return weights, weights


def crossfade(time_ns: int, chunks: list[Placed]) -> tuple[Weights, Weights]:
    """Each chunk takes over linearly from those before it, within the interval at which chunks arrive, or
    sooner if theirs end sooner. One that ends before an older one gives back to it the same way."""
    weights = [0.0] * len(chunks)
    left = 1.0
    for index in range(len(chunks) - 1, 0, -1):
        placed = chunks[index]
        overlap, outlast = placed.elders_overlap_ns, placed.elders_outlast_ns
        longest = overlap if placed.interval_ns is None else placed.interval_ns
        taken = 1.0
        if overlap > 0:
            taken = _ramp(time_ns - placed.begins_ns, min(longest, overlap))
        if outlast is not None:
            taken = min(taken, _ramp(placed.ends_ns - time_ns, min(longest, placed.ends_ns - outlast)))
        weights[index] = left * taken
        left *= 1.0 - taken
    weights[0] = left
    return weights, weights


def ensemble(time_ns: int, chunks: list[Placed]) -> tuple[Weights, Weights]:
    """ACT's exp(-m i), i = 0 for the oldest (Zhao et al. 2023, section IV-C), times a window per chunk.

    A chunk's share rises from nothing when it arrives, and falls to nothing before it ends, along the
    minimum-jerk curve (Flash and Hogan 1985), so that its coming and going makes no step in position,
    velocity or acceleration. The rise is over before the chunks before it end, the fall begins when there is
    one that lasts longer: a chunk that is alone has it all. Grippers are binary, and vote without windows.
    """
    shares = [placed.share for placed in chunks]
    weights = [placed.share * _window(time_ns, placed) for placed in chunks]
    total = sum(weights)
    if not total > 0.0:
        # Only where time went back to before any of them had a say.
        return newest(time_ns, chunks)
    voters = sum(shares)
    return [weight / total for weight in weights], [share / voters for share in shares]


def _window(time_ns: int, placed: Placed) -> float:
    ends_ns = placed.ends_ns
    life = ends_ns - placed.begins_ns
    interval = life if placed.interval_ns is None else placed.interval_ns
    longest = min(LONGEST * life, max(FADE * life, OF_INTERVAL * interval))
    window = 1.0
    if placed.overlap_ns > 0:
        window = _smooth(_ramp(time_ns - placed.begins_ns, min(placed.overlap_ns, longest)))
    if placed.outlasted_ns is not None:
        fall = min(ends_ns - placed.outlasted_ns, longest)
        window *= _smooth(_ramp(ends_ns - time_ns, fall))
    return window


def _ramp(passed_ns: int, whole_ns: float) -> float:
    """From 0 to 1 while `whole_ns` pass."""
    if passed_ns <= 0:
        return 0.0
    return 1.0 if passed_ns >= whole_ns else passed_ns / whole_ns


def _smooth(x: float) -> float:
    """The minimum-jerk curve from 0 to 1."""
    return x * x * x * (10.0 + x * (6.0 * x - 15.0))
