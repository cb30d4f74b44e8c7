"""The chunks that still matter on one time axis, and what a scheduler answers with."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass

import numpy as np

from vla_ros.action.interpolate import Columns, Curve, Interpolation, columns_of
from vla_ros.action.latency import Latency
from vla_ros.types import ActionChunk, FloatArray


@dataclass(frozen=True)
class Target:
    """What is wanted at one time: values float64 [C] of `channels`, and the stamp of the newest
    observation that had a say."""

    channels: tuple[str, ...]
    values: FloatArray
    stamp_ns: int


@dataclass
class Placed:
    """A chunk on the time axis.

    stamp_ns: of its observation. begins_ns: from when on it can have a say: no earlier than its first due
    time, nor than the time that was asked for last when it arrived.
    overlap_ns: how long, from begins_ns on, chunks that began before it go on; 0 where none does.
    outlasted_ns: from when on a chunk that ends later can take over, None while there is none.
    elders_overlap_ns, elders_outlast_ns: the same with chunks of older observations alone.
    interval_ns: how long chunks took to follow each other when it arrived, measured; None if not known yet.
    share: its weight before any fading, relative to the other chunks'.
    """

    stamp_ns: int
    curve: Curve
    begins_ns: int
    interval_ns: int | None
    share: float
    overlap_ns: int = 0
    outlasted_ns: int | None = None
    elders_overlap_ns: int = 0
    elders_outlast_ns: int | None = None

    @property
    def ends_ns(self) -> int:
        """The last due time."""
        return self.curve.last_ns


class Timeline:
    """Chunks of the same channels, oldest observation first; those that are over are dropped.

    m: of two chunks, the one whose observation came next has exp(-m) times the share of the one before.
    """

    def __init__(self, interpolation: Interpolation, m: float = 0.0) -> None:
        self.columns: Columns = columns_of(())
        self.asked_ns: int | None = None
        self._interpolation = interpolation
        self._m = m
        self._chunks: list[Placed] = []
        self._intervals = Latency()
        self._arrived_ns: int | None = None

    @property
    def last_due_ns(self) -> int | None:
        """The latest due time of any chunk, None without one."""
        return max((placed.ends_ns for placed in self._chunks), default=None)

    def earliest_ns(self, now_ns: int) -> int:
        """From when on a chunk that arrives at `now_ns` can have a say."""
        return now_ns if self.asked_ns is None else max(now_ns, self.asked_ns)

    def add(self, chunk: ActionChunk, now_ns: int) -> Placed:
        """Take a chunk that arrived at `now_ns`. One from the same observation replaces its elder; one with
        other channels than those before starts anew."""
        if chunk.channels != self.columns.channels:
            self.columns = columns_of(chunk.channels)
            self._chunks = []
        curve = Curve(chunk, self.columns, self._interpolation)
        interval = self._interval(now_ns)
        for placed in self._chunks:
            if placed.stamp_ns == chunk.stamp_ns:
                placed.curve = curve
                return placed
        begins = max(self.earliest_ns(now_ns), curve.first_ns)
        placed = Placed(chunk.stamp_ns, curve, begins, interval, self._share(chunk.stamp_ns))
        for other in self._chunks:
            _relate(other, placed)
        insort(self._chunks, placed, key=lambda kept: kept.stamp_ns)
        largest = max(kept.share for kept in self._chunks)
        for kept in self._chunks:
            kept.share /= largest
        return placed

    def at(self, time_ns: int) -> list[Placed]:
        """The chunks that cover a time, oldest observation first. Times before it will not be asked again."""
        if any(placed.ends_ns < time_ns for placed in self._chunks):
            self._chunks = [placed for placed in self._chunks if placed.ends_ns >= time_ns]
        self.asked_ns = time_ns
        return [placed for placed in self._chunks if placed.curve.first_ns <= time_ns]

    def _interval(self, now_ns: int) -> int | None:
        if self._arrived_ns is not None and now_ns > self._arrived_ns:
            self._intervals.add(now_ns - self._arrived_ns)
        self._arrived_ns = now_ns
        return self._intervals.typical_ns

    def _share(self, stamp_ns: int) -> float:
        """Shares are only compared with each other, so that each chunk's can be fixed once."""
        before = [placed for placed in self._chunks if placed.stamp_ns < stamp_ns]
        after = [placed for placed in self._chunks if placed.stamp_ns > stamp_ns]
        step = float(np.exp(-self._m))
        if before and after:
            return float(np.sqrt(before[-1].share * after[0].share))
        if before:
            return before[-1].share * step
        return after[0].share / step if after else 1.0


def _relate(there: Placed, new: Placed) -> None:
    """Note which of two chunks began first, and which ends first; on equal terms the new one is the later."""
    first, second = (there, new) if there.begins_ns <= new.begins_ns else (new, there)
    if first.curve.first_ns <= second.begins_ns:
        overlap = first.ends_ns - second.begins_ns
        second.overlap_ns = max(second.overlap_ns, overlap)
        if first.stamp_ns < second.stamp_ns:
            second.elders_overlap_ns = max(second.elders_overlap_ns, overlap)
    shorter, longer = (there, new) if there.ends_ns <= new.ends_ns else (new, there)
    since = max(there.begins_ns, new.begins_ns)
    if since <= shorter.ends_ns:
        shorter.outlasted_ns = _earlier(shorter.outlasted_ns, since)
        if longer.stamp_ns < shorter.stamp_ns:
            shorter.elders_outlast_ns = _earlier(shorter.elders_outlast_ns, since)


def _earlier(known_ns: int | None, new_ns: int) -> int:
    return new_ns if known_ns is None else min(known_ns, new_ns)
