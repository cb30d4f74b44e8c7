"""What an episode's commands, measurements and chunks say about each other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vla_ros.recording.episode import RecordedChunk, Signal

FloatArray = NDArray[np.float64]
NS_PER_S = 1e9


def thin(signal: Signal, rate_hz: float) -> Signal:
    """At most `rate_hz` samples a second, first and last kept; order as it was."""
    count = len(signal.stamps_ns)
    if count < 3:
        return signal
    span_s = (int(signal.stamps_ns[-1]) - int(signal.stamps_ns[0])) / NS_PER_S
    kept = min(count, max(2, round(span_s * rate_hz) + 1))
    rows = np.unique(np.linspace(0, count - 1, kept).round().astype(int))
    return Signal(signal.names, signal.stamps_ns[rows], signal.values[rows])


def seconds(stamps_ns: NDArray[np.int64], zero_ns: int) -> FloatArray:
    """Stamps as seconds since `zero_ns`, float64 (differences are taken in integers)."""
    return (stamps_ns - zero_ns).astype(np.float64) / NS_PER_S


def chunk_disagreement(chunks: Sequence[RecordedChunk], channels: Sequence[str]) -> FloatArray:
    """How far each chunk departs from the one before it where both speak of the same time.

    Returns one value per pair of neighbours that overlap: the mean Euclidean distance over
    `channels` (all in one unit) at the later chunk's due times inside the earlier one's span, the
    earlier one interpolated linearly. Small means that the policy keeps its mind.
    """
    found = []
    for before, after in pairwise(chunks):
        if not set(channels) <= set(before.channels) or not set(channels) <= set(after.channels):
            continue
        inside = (after.due_ns >= before.due_ns[0]) & (after.due_ns <= before.due_ns[-1])
        if not inside.any():
            continue
        at = seconds(after.due_ns[inside], int(before.due_ns[0]))
        known = seconds(before.due_ns, int(before.due_ns[0]))
        difference = np.stack(
            [
                after.targets[inside, after.channels.index(name)]
                - np.interp(at, known, before.targets[:, before.channels.index(name)])
                for name in channels
            ]
        )
        found.append(float(np.linalg.norm(difference, axis=0).mean()))
    return np.array(found)


def tracking_lag_s(command: Signal, measured: Signal, names: Sequence[tuple[str, str]]) -> float | None:
    """The delay in s at which the measured joints match the commanded ones best, 0 to 0.2 s.

    names: (name in `command`, name in `measured`). Searched in steps of 5 ms by least squares. None
    when there is too little motion (below 0.05 rad RMS about the mean) or too little overlap to tell.
    """
    if len(command.stamps_ns) < 20 or len(measured.stamps_ns) < 20:
        return None
    zero = int(measured.stamps_ns[0])
    at, when = seconds(measured.stamps_ns, zero), seconds(command.stamps_ns, zero)
    wanted = np.stack([command.column(name) for name, _ in names], axis=1)
    actual = np.stack([measured.column(name) for _, name in names], axis=1)
    usable = np.isfinite(wanted).all(axis=1)
    wanted, when = wanted[usable], when[usable]
    rows = (at >= when[0] + 0.2) & (at <= when[-1]) if len(when) else np.zeros(0, bool)
    if rows.sum() < 20 or np.sqrt(actual[rows].var(axis=0).sum()) < 0.05:
        return None
    delays = np.arange(0.0, 0.2001, 0.005)
    errors = [
        sum(
            float(((actual[rows, j] - np.interp(at[rows] - delay, when, wanted[:, j])) ** 2).sum())
            for j in range(wanted.shape[1])
        )
        for delay in delays
    ]
    return float(delays[int(np.argmin(errors))])
