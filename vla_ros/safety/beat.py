"""When ticks ought to have been: a loop wakes up late now and then, but what it commands is evenly spaced."""

from __future__ import annotations


class Beat:
    """An even row of ticks, one period apart, laid through the times at which a loop really woke up."""

    # Less than this share of a period is being late, not having missed a tick.
    LATE = 0.9
    # So many periods late, and the clock was set or the process was stopped: a new row begins.
    LONGEST = 1000

    def __init__(self, period_ns: int) -> None:
        self._period_ns = period_ns
        self.restart()

    def restart(self) -> None:
        """Begin a new row with the next tick."""
        self._last_ns: int | None = None
        self.late_s = 0.0

    def undo(self) -> None:
        """Count the last tick among those that were missed."""
        if self._last_ns is not None:
            self._last_ns -= self._period_ns

    def tick(self, now_ns: int) -> int:
        """Ticks missed before the one at `now_ns`. Sets `late_s`, how long after its place in the row this
        one came; negative where it came early."""
        missed = 0
        period = self._period_ns
        if self._last_ns is None:
            place = now_ns
        else:
            place = self._last_ns + period
            late = now_ns - place
            if late > self.LATE * period:
                missed = max(round(late / period), 1)
                place += missed * period
            if missed > self.LONGEST or late < -period:
                place, missed = now_ns, min(missed, self.LONGEST)
        self._last_ns = place
        self.late_s = (now_ns - place) / 1e9
        return missed
