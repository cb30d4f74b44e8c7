"""Measured latencies: a robust running figure, and the delay from a command to the joints doing it."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

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
