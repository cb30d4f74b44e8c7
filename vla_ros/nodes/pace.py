"""When the commanding thread ticks, and what time it is then.

Times of ticks are nominal: whole periods apart, however late the thread wakes. Commands are stamped with
them, and a driver that interpolates would make a jerk of every stamp's jitter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from vla_ros.nodes.realtime import sleep_until

MS = 1_000_000
# The ROS clock is the system's, which somebody may set: a step of more than this is followed. (What NTP does
# otherwise, it does to CLOCK_MONOTONIC too.)
CLOCK_STEP_NS = 2 * MS
# Two readings of clocks further apart than this tell nothing: the thread was held up between them.
READING_NS = MS
# Simulated time: how often it is looked at, when it counts as standing still, and how far behind it a tick is
# made up for (its steps may be longer than a period).
LOOK_NS, STANDS_NS, BEHIND_PERIODS = MS, 250 * MS, 10


@dataclass(frozen=True)
class Tick:
    """now_ns: ROS time, nominal. steady_ns: CLOCK_MONOTONIC, nominal. begin_ns: CLOCK_MONOTONIC, now.
    missed: ticks left out since the last one, because they were past. late_ns: how far this period was from
    the nominal one, None where that means nothing."""

    now_ns: int
    steady_ns: int
    begin_ns: int
    missed: int = 0
    late_ns: int | None = None


class Pace(Protocol):
    """awake_ns: CLOCK_MONOTONIC when the thread that waits was last seen awake, 0 before."""

    awake_ns: int

    def wait(self) -> Tick:
        """Sleep until the next tick."""
        ...


class WallPace:
    """Ticks at absolute deadlines on CLOCK_MONOTONIC, so that nothing adds up to a drift.

    ros_now_ns: the ROS clock, which follows the system's.
    """

    def __init__(self, period_ns: int, ros_now_ns: Callable[[], int]) -> None:
        self.awake_ns = 0
        self._period_ns = period_ns
        self._ros_now_ns = ros_now_ns
        self._deadline = time.monotonic_ns()
        self._before: int | None = None
        _, self._offset = min(self._reading() for _ in range(5))

    def wait(self) -> Tick:
        """See Pace. What is past is left out: catching up would be a burst of commands."""
        self._deadline += self._period_ns
        missed = self._skip_past(time.monotonic_ns() - 1)
        sleep_until(self._deadline)
        begin = self.awake_ns = time.monotonic_ns()
        missed += self._skip_past(begin - self._period_ns)
        width, offset = self._reading()
        if width < READING_NS and abs(offset - self._offset) > CLOCK_STEP_NS:
            self._offset = offset
        late = None if self._before is None else abs(begin - self._before - self._period_ns)
        self._before = begin
        return Tick(self._deadline + self._offset, self._deadline, begin, missed, late)

    def _skip_past(self, time_ns: int) -> int:
        """Move the deadline on by whole periods until it is later than `time_ns`; returns how many."""
        missed = max(0, (time_ns - self._deadline) // self._period_ns + 1)
        self._deadline += missed * self._period_ns
        return missed

    def _reading(self) -> tuple[int, int]:
        """(ns that reading both clocks took, ROS clock less CLOCK_MONOTONIC)."""
        before = time.monotonic_ns()
        ros = self._ros_now_ns()
        after = time.monotonic_ns()
        return after - before, ros - (before + after) // 2


class SimPace:
    """Ticks when simulated time, as /clock tells it, reaches the next deadline.

    While it stands still, and before it begins, there are ticks too, a period of real time apart, with the
    same `now_ns`: requests are served, and whoever compares the clocks can see it.
    """

    def __init__(self, period_ns: int, ros_now_ns: Callable[[], int]) -> None:
        self.awake_ns = 0
        self._period_ns = period_ns
        self._ros_now_ns = ros_now_ns
        self._now = ros_now_ns()
        self._seen = self._now
        self._moved = self._ticked = time.monotonic_ns()

    def wait(self) -> Tick:
        """See Pace. No tick counts as missed: simulated time goes as it goes."""
        while True:
            seen = self._ros_now_ns()
            steady = self.awake_ns = time.monotonic_ns()
            if seen != self._seen:
                self._seen, self._moved = seen, steady
            ahead = seen - self._now
            if ahead >= self._period_ns or ahead < -self._period_ns:
                in_step = 0 < ahead <= BEHIND_PERIODS * self._period_ns
                self._now = self._now + self._period_ns if in_step else seen
                break
            if steady - self._moved > STANDS_NS and steady - self._ticked >= self._period_ns:
                break
            sleep_until(steady + LOOK_NS)
        self._ticked = steady
        return Tick(self._now, steady, steady)
