"""Which target holds at a given time, from chunks that overlap.

Chunks are put on one time axis by their due times, so inference latency needs no constant: steps that are
past due are simply never asked for, and a late chunk joins in the middle. Beyond the last due time there is
no target; nothing is extrapolated or invented.

sync       each chunk begins when it arrives (the robot stood still meanwhile) and is executed to its end
newest     the newest observation's chunk alone
crossfade  each chunk takes over linearly from those before it, within the interval at which chunks arrive
ensemble   ACT's weighted mean of all chunks, each fading in when it comes and out before it ends
rtc        the policy continues its own last chunk, so that chunks agree; the rest is crossfaded
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, Protocol

import numpy as np

from vla_ros.action import weights
from vla_ros.action.interpolate import INTERPOLATIONS, Interpolation, evaluate
from vla_ros.action.rotations import mean
from vla_ros.action.timeline import Target, Timeline
from vla_ros.action.vote import GripperVote
from vla_ros.types import ActionChunk

__all__ = ["MODES", "Mode", "Scheduler", "Target", "make_scheduler"]

Mode = Literal["sync", "newest", "crossfade", "ensemble", "rtc"]
MODES: tuple[Mode, ...] = ("sync", "newest", "crossfade", "ensemble", "rtc")

_RULES: Mapping[str, weights.Rule] = {
    "sync": weights.newest,
    "newest": weights.newest,
    "crossfade": weights.crossfade,
    "ensemble": weights.ensemble,
    "rtc": weights.crossfade,
}


class Scheduler(Protocol):
    """Chunks in, targets out. Not thread-safe: the owner serialises calls."""

    def timed(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """The chunk with the due times that it gets if added at `now_ns`: its own, but in mode sync."""
        ...

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
        """Forget every chunk and the grippers' states."""
        ...


def make_scheduler(
    mode: str,
    gripper_range: Mapping[str, tuple[float, float]],
    m: float = 0.01,
    interpolation: str = "cubic",
) -> Scheduler:
    """The scheduler of a mode.

    gripper_range: {gripper channel: narrowest and widest opening, m}; wider than the middle counts as open.
    m: of "ensemble", 0.01 in the paper. Raises ValueError for an unknown mode or interpolation, or an m that
    is no number.
    """
    if mode not in _RULES:
        raise ValueError(f"mode: found '{mode}'; expected one of {', '.join(MODES)}")
    for known in INTERPOLATIONS:
        if known == interpolation:
            return _Scheduler(mode, known, m, GripperVote(gripper_range))
    raise ValueError(f"interpolation: found '{interpolation}'; expected one of {', '.join(INTERPOLATIONS)}")


class _Scheduler:
    """One of the modes: a timeline, and a rule for what each chunk on it weighs."""

    def __init__(self, mode: str, interpolation: Interpolation, m: float, vote: GripperVote) -> None:
        if not np.isfinite(m):
            raise ValueError(f"m must be a number, found {m}")
        self._rule = _RULES[mode]
        self._begins_on_arrival = mode == "sync"
        self._make = lambda: Timeline(interpolation, m if mode == "ensemble" else 0.0)
        self._timeline = self._make()
        self._vote = vote

    def timed(self, chunk: ActionChunk, now_ns: int) -> ActionChunk:
        """See Scheduler."""
        if not self._begins_on_arrival:
            return chunk
        # Not before what was asked for last: commands look ahead by the actuation latency, and a first step
        # that is due earlier would be skipped.
        later = self._timeline.earliest_ns(now_ns) - int(chunk.due_ns[0])
        return replace(chunk, due_ns=chunk.due_ns + later)

    def add(self, chunk: ActionChunk, now_ns: int) -> None:
        """See Scheduler."""
        self._timeline.add(self.timed(chunk, now_ns), now_ns)

    def sample(self, time_ns: int) -> Target | None:
        """See Scheduler."""
        timeline = self._timeline
        chunks = timeline.at(time_ns)
        if not chunks:
            return None
        every = zip(chunks, *self._rule(time_ns, chunks), strict=True)
        heard = [(chunk, share, vote) for chunk, share, vote in every if share > 0.0 or vote > 0.0]
        shares = np.array([share for _, share, _ in heard])
        votes = np.array([vote for _, _, vote in heard])
        rows = evaluate([chunk.curve for chunk, _, _ in heard], time_ns)
        values = shares @ rows
        columns = timeline.columns
        for turn in columns.orientations:
            values[turn] = mean(rows[:, turn], shares)
        for column in columns.grippers.tolist():
            values[column] = self._vote(columns.channels[column], rows[:, column], votes)
        return Target(columns.channels, values, heard[-1][0].stamp_ns)

    def last_due_ns(self) -> int | None:
        """See Scheduler."""
        return self._timeline.last_due_ns

    def clear(self) -> None:
        """See Scheduler."""
        self._timeline = self._make()
        self._vote.clear()
