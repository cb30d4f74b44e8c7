"""Real-time pacing of a simulation on absolute deadlines, and the stamp of each step."""

from __future__ import annotations

import time

# Further behind than this the simulation stops catching up and goes on from now.
_GIVE_UP_NS = 100_000_000
_SECOND_NS = 1_000_000_000


class Timeline:
    """Steps of a fixed period against the monotonic clock.

    Stamps are on the system clock (what ROS nodes use by default), re-read once a second. With
    `simulated`, they advance by exactly one period per step instead, for publishing on /clock.
    """

    def __init__(self, period_ns: int, simulated: bool) -> None:
        self.period_ns = period_ns
        self.simulated = simulated
        self.steps = 0
        self.late_ns = 0
        self.given_up = 0
        self._deadline_ns = time.monotonic_ns()
        self._offset_ns = _offset_ns()
        self._offset_due_ns = self._deadline_ns + _SECOND_NS
        self._stamp_ns = self._deadline_ns + self._offset_ns

    def wait(self) -> int:
        """Sleep until the next step is due; returns its stamp in ns. Returns at once when behind."""
        self._deadline_ns += self.period_ns
        self._stamp_ns += self.period_ns
        self.steps += 1
        now_ns = time.monotonic_ns()
        if now_ns < self._deadline_ns:
            time.sleep((self._deadline_ns - now_ns) / _SECOND_NS)
            now_ns = time.monotonic_ns()
        self.late_ns = now_ns - self._deadline_ns
        if self.late_ns > _GIVE_UP_NS:
            self.given_up += 1
            self._deadline_ns = now_ns
        if self.simulated:
            return self._stamp_ns
        if self._deadline_ns >= self._offset_due_ns:
            self._offset_due_ns = self._deadline_ns + _SECOND_NS
            self._offset_ns = _offset_ns()
        self._stamp_ns = max(self._stamp_ns, self._deadline_ns + self._offset_ns)
        return self._stamp_ns


def _offset_ns() -> int:
    """System clock minus monotonic clock: of three readings the one least disturbed."""
    readings = []
    for _ in range(3):
        before = time.monotonic_ns()
        system = time.time_ns()
        after = time.monotonic_ns()
        readings.append((after - before, system - (before + after) // 2))
    return min(readings)[1]
