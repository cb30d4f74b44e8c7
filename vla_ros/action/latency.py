"""Measured latencies: a robust running figure, and the delay from a command to the joints doing it."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import deque

import numpy as np

from vla_ros.types import FloatArray

# So many of the newest values count.
WINDOW = 100


class Latency:
    """A running median and 95th percentile of the newest values; an outlier moves neither."""

    def __init__(self) -> None:
        self._newest: deque[int] = deque()
        self._sorted: list[int] = []

    def add(self, value_ns: int) -> None:
        """Take one measured value."""
        if len(self._newest) == WINDOW:
            del self._sorted[bisect_left(self._sorted, self._newest.popleft())]
        self._newest.append(value_ns)
        insort(self._sorted, value_ns)

    @property
    def typical_ns(self) -> int | None:
        """The median, None before the first value."""
        return self._at(0.5)

    @property
    def high_ns(self) -> int | None:
        """The 95th percentile, None before the first value."""
        return self._at(0.95)

    def _at(self, share: float) -> int | None:
        return self._sorted[int(share * (len(self._sorted) - 1) + 0.5)] if self._sorted else None


# Delays looked for, s, and their spacing; smooth motion makes the error between them a parabola.
LONGEST_S, SPACING_S = 0.5, 0.02
DELAYS_NS = np.rint(np.arange(0.0, LONGEST_S + SPACING_S / 2, SPACING_S) * 1e9).astype(np.int64)
# Moving: a joint that was sent further than this, rad, within LONGEST_S.
MOVING = 5e-3
# A measured joint beyond what was sent lately by more than half of that range and this, rad, is no answer to
# it: a glitch, a push, a driver that does not obey.
BEYOND = 0.02
# Motion further back than this, s of moving, counts by less than a third.
MEMORY_S = 5.0
# Enough motion: so many samples, and between the worst and the best delay this much RMS error, rad, of which
# the best leaves less than half.
SAMPLES, CONTRAST, LEFT = 25, 2e-3, 0.5
# The estimate decides which target is asked for, so it drifts to a new value instead of jumping, s per s.
DRIFT = 0.05
# A pause in what is sent longer than this, s, is not motion.
PAUSE_S = 0.25
ROWS = 2048


class ActuationLatency:
    """The delay from a command's stamp to the joints doing it, ns, found while they move.

    Least squares of measured(t) against sent(t - delay), of each joint up to a constant (a joint that sags is
    not late), with an exponential memory. For a first-order lag this is its time constant, for slow motion.
    It begins at `start_ns`, stays there until there was enough motion, and then drifts to what is found;
    always in [0, 0.5 s]. Motion at constant velocity says nothing by itself: a lag looks like an offset.
    """

    def __init__(self, start_ns: int) -> None:
        self._estimate = float(np.clip(start_ns, 0, LONGEST_S * 1e9))
        self._found: float | None = None
        self._sums: FloatArray | None = None
        self._weight = 0.0
        self._samples = 0
        self._counted_ns: int | None = None
        self._measured_ns: int | None = None
        self._waiting: tuple[int, FloatArray] | None = None
        self._stamps = np.zeros(ROWS, dtype=np.int64)
        self._rows: FloatArray = np.zeros((ROWS, 0))
        self._count = 0

    @property
    def estimate_ns(self) -> int:
        """The delay, ns."""
        return round(self._estimate)

    def sent(self, stamp_ns: int, q: FloatArray) -> None:
        """Joint positions [J] rad of the command with this stamp. A stamp that goes back, or far ahead,
        begins a new history."""
        joints = np.asarray(q, dtype=np.float64)
        if not np.isfinite(joints).all():
            return
        if self._rows.shape[1] != len(joints):
            self._rows, self._sums, self._samples = np.zeros((ROWS, len(joints))), None, 0
            self.clear_history()
        if self._count:
            passed = stamp_ns - int(self._stamps[self._count - 1])
            if passed == 0:
                return
            if not 0 < passed <= PAUSE_S * 1e9:
                self.clear_history()
        if self._count == ROWS:
            # Half is kept: shifting is rare.
            half = ROWS // 2
            self._stamps[:half], self._rows[:half] = self._stamps[half:].copy(), self._rows[half:].copy()
            self._count = half
        self._stamps[self._count], self._rows[self._count] = stamp_ns, joints
        self._count += 1
        if self._waiting is not None and self._waiting[0] <= stamp_ns:
            waiting, self._waiting = self._waiting, None
            self._compare(*waiting)

    def measured(self, stamp_ns: int, q: FloatArray) -> None:
        """Joint positions [J] rad, measured at this stamp. One that is not newer than the last is ignored."""
        if self._measured_ns is not None:
            passed = stamp_ns - self._measured_ns
            if -LONGEST_S * 1e9 < passed <= 0:
                return
            self._drift(min(max(passed, 0) / 1e9, PAUSE_S))
        self._measured_ns = stamp_ns
        if self._counted_ns is not None and 0 <= stamp_ns - self._counted_ns < SPACING_S * 0.9e9:
            # Closer samples say the same again.
            return
        joints = np.asarray(q, dtype=np.float64)
        if not self._count or joints.shape != self._rows.shape[1:] or not np.isfinite(joints).all():
            return
        if stamp_ns <= self._stamps[self._count - 1]:
            self._compare(stamp_ns, joints)
        else:
            self._waiting = (stamp_ns, joints)

    def clear_history(self) -> None:
        """Forget what was sent and measured, at the start of a new stream; what was learnt stays."""
        self._count = 0
        self._waiting = None
        self._measured_ns = None
        self._counted_ns = None

    def _compare(self, stamp_ns: int, joints: FloatArray) -> None:
        """Add one measured sample's squared error at each delay."""
        stamps = self._stamps[: self._count]
        if stamp_ns - LONGEST_S * 1e9 < stamps[0] or stamp_ns - PAUSE_S * 1e9 > stamps[-1]:
            return
        times = stamp_ns - DELAYS_NS
        # None lies before the first stamp; what lies after the last is held.
        after = np.minimum(stamps.searchsorted(times, side="right"), self._count - 1)
        begin, end = stamps[after - 1], stamps[after]
        share = np.minimum((times - begin) / (end - begin), 1.0)[:, None]
        sent = self._rows[after - 1] * (1.0 - share) + self._rows[after] * share
        low, high = sent.min(axis=0), sent.max(axis=0)
        span = high - low
        if span.max() < MOVING:
            return
        # Half the range from its middle, and as much again.
        if (np.abs(joints - 0.5 * (low + high)) > span + BEYOND).any():
            return
        error = joints - sent
        if self._sums is None:
            self._sums = np.zeros((2, *error.shape))
        passed = SPACING_S if self._counted_ns is None else min((stamp_ns - self._counted_ns) / 1e9, PAUSE_S)
        self._counted_ns = stamp_ns
        keep = math.exp(-max(passed, 0.0) / MEMORY_S)
        self._sums *= keep
        self._sums[0] += error
        self._sums[1] += error * error
        self._weight = self._weight * keep + 1.0
        self._samples += 1
        if self._samples >= SAMPLES and self._samples % 5 == 0:
            self._fit(self._sums / self._weight)

    def _fit(self, means: FloatArray) -> None:
        """Find the delay of the least variance, means [2, delays, J] of the error and its square."""
        variance = (means[1] - means[0] ** 2).sum(axis=1)
        best = int(variance.argmin())
        least, most = float(variance[best]), float(variance.max())
        if most - least < CONTRAST**2 or least > LEFT * most:
            return
        centre = min(max(best, 1), len(variance) - 2)
        before, here, after = variance[centre - 1 : centre + 2].tolist()
        bend = before - 2.0 * here + after
        aside = 0.5 * (before - after) / bend if bend > 0.0 else best - centre
        found = (centre + min(max(aside, -1.0), 1.0)) * SPACING_S
        self._found = min(max(found, 0.0), LONGEST_S) * 1e9

    def _drift(self, passed_s: float) -> None:
        if self._found is not None:
            step = DRIFT * passed_s * 1e9
            self._estimate += min(max(self._found - self._estimate, -step), step)
