"""Which target holds at a given time, from overlapping chunks: newest replacement, or temporal ensembling.

Chunks are put on one time axis by their due times, so inference latency needs no constant: steps that are
past due are simply never asked for, and a late chunk joins in the middle. Beyond the last due time there is
no target; nothing is extrapolated or invented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.interpolate import blend, interpolate, rows_around
from vla_ros.action.rotations import mean
from vla_ros.types import ActionChunk, FloatArray

# A gripper that votes around one half would chatter: it opens above 0.5 + BAND and closes below 0.5 - BAND.
GRIPPER_BAND = 0.1


@dataclass(frozen=True)
class Target:
    """What is wanted at one time: values float64 [C] of `channels`, and the stamp of the newest
    observation that had a say."""

    channels: tuple[str, ...]
    values: FloatArray
    stamp_ns: int


class Scheduler(Protocol):
    """Chunks in, targets out. Not thread-safe: the owner serialises calls."""

    def add(self, chunk: ActionChunk, now_ns: int) -> None:
        """Take a chunk that arrived at `now_ns`, ROS clock. One with other channels than those before
        starts anew."""
        ...

    def sample(self, time_ns: int) -> Target | None:
        """The target at `time_ns`, or None where no chunk covers it. Times must not decrease."""
        ...

    def last_due_ns(self) -> int | None:
        """The latest due time of any chunk, or None without one."""
        ...

    def clear(self) -> None:
        """Forget every chunk and the gripper's state."""
        ...


class Newest:
    """The newest chunk (by its observation's stamp) wins wherever it covers the time."""

    def __init__(self) -> None:
        self._timeline = _Timeline()

    def add(self, chunk: ActionChunk, now_ns: int) -> None:
        """See Scheduler."""
        self._timeline.add(chunk)

    def sample(self, time_ns: int) -> Target | None:
        """See Scheduler."""
        timeline = self._timeline
        valid = timeline.valid(time_ns)
        if not valid:
            return None
        chunk, row, fraction = valid[-1]
        values = interpolate(chunk.targets, row, fraction, timeline.orientations, timeline.grippers)
        return Target(timeline.channels, values, chunk.stamp_ns)

    def last_due_ns(self) -> int | None:
        """See Scheduler."""
        return self._timeline.last_due_ns

    def clear(self) -> None:
        """See Scheduler."""
        self._timeline = _Timeline()


class TemporalEnsemble:
    """ACT's temporal ensembling (Zhao et al. 2023, section IV-C): a weighted mean of every prediction for
    the same moment with weights exp(-m i), i = 0 for the *oldest* prediction; m = 0.01 in the paper.

    Positions and joints are averaged linearly, orientations by the eigenvector mean, and grippers by a
    weighted vote of open against closed: it switches only with a clear majority (60 %), else it stays.

    gripper_range: {gripper channel: narrowest and widest opening, m}; wider than the middle counts as open.
    """

    def __init__(self, m: float, gripper_range: Mapping[str, tuple[float, float]]) -> None:
        if not np.isfinite(m):
            raise ValueError(f"m must be a number, found {m}")
        self._m = m
        self._middle = {name: (low + high) / 2 for name, (low, high) in gripper_range.items()}
        self._timeline = _Timeline()
        self._open: dict[str, bool] = {}

    def add(self, chunk: ActionChunk, now_ns: int) -> None:
        """See Scheduler."""
        self._timeline.add(chunk)

    def sample(self, time_ns: int) -> Target | None:
        """See Scheduler."""
        timeline = self._timeline
        valid = timeline.valid(time_ns)
        if not valid:
            return None
        # All chunks at once: numpy's cost here is per call, and up to a horizon's worth of them overlap.
        first = np.array([chunk.targets[row] for chunk, row, _ in valid])
        second = np.array([chunk.targets[min(row + 1, len(chunk.targets) - 1)] for chunk, row, _ in valid])
        fraction = np.array([fraction for _, _, fraction in valid])
        each = blend(first, second, fraction, timeline.orientations, timeline.grippers)
        weights = np.exp(-self._m * np.arange(len(each)))
        weights /= weights.sum()
        values = weights @ each
        for columns in timeline.orientations:
            values[columns] = mean(each[:, columns], weights)
        for column in timeline.grippers.tolist():
            values[column] = self._vote(column, each[:, column], weights)
        return Target(timeline.channels, values, valid[-1][0].stamp_ns)

    def last_due_ns(self) -> int | None:
        """See Scheduler."""
        return self._timeline.last_due_ns

    def clear(self) -> None:
        """See Scheduler."""
        self._timeline = _Timeline()
        self._open = {}

    def _vote(self, column: int, widths: FloatArray, weights: FloatArray) -> float:
        """The width that wins: the newest prediction's among those on the winning side of the middle."""
        channel = self._timeline.channels[column]
        opens = widths > self._middle[channel]
        share = float(weights[opens].sum())
        before = self._open.get(channel)
        if before is None:
            is_open = share > 0.5
        elif share > 0.5 + GRIPPER_BAND:
            is_open = True
        elif share < 0.5 - GRIPPER_BAND:
            is_open = False
        else:
            is_open = before
        self._open[channel] = is_open
        # Some are on the winning side: a state without any vote would have lost by the rule above.
        return float(widths[opens == is_open][-1])


class _Timeline:
    """The chunks that still matter, oldest observation first, all of the same channels."""

    def __init__(self) -> None:
        self.channels: tuple[str, ...] = ()
        self.orientations: tuple[slice, ...] = ()
        self.grippers: NDArray[np.intp] = np.empty(0, dtype=np.intp)
        self.last_due_ns: int | None = None
        self._chunks: list[ActionChunk] = []

    def add(self, chunk: ActionChunk) -> None:
        if chunk.channels != self.channels:
            self._start(chunk.channels)
        # A chunk made again from the same observation replaces its elder.
        self._chunks = [kept for kept in self._chunks if kept.stamp_ns != chunk.stamp_ns]
        self._chunks.append(chunk)
        self._chunks.sort(key=lambda kept: kept.stamp_ns)
        self.last_due_ns = max(int(kept.due_ns[-1]) for kept in self._chunks)

    def valid(self, time_ns: int) -> list[tuple[ActionChunk, int, float]]:
        """(chunk, row, fraction) of every chunk that covers the time; drops those that are over."""
        if any(chunk.due_ns[-1] < time_ns for chunk in self._chunks):
            self._chunks = [chunk for chunk in self._chunks if chunk.due_ns[-1] >= time_ns]
        found = []
        for chunk in self._chunks:
            place = rows_around(chunk.due_ns, time_ns)
            if place is not None:
                found.append((chunk, *place))
        return found

    def _start(self, channels: tuple[str, ...]) -> None:
        self.channels = channels
        first = [index for index, name in enumerate(channels) if name.endswith("/tcp/orientation.x")]
        self.orientations = tuple(slice(index, index + 4) for index in first)
        self.grippers = np.array(
            [index for index, name in enumerate(channels) if name.endswith("/gripper")], dtype=np.intp
        )
        self._chunks = []
