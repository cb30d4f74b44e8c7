"""Is the ROS clock still one to act on? Held against a monotonic clock, tick by tick."""

from __future__ import annotations

from vla_ros.safety.watch import MS

# The two clocks may drift apart by this much in one tick: simulated time comes in steps, and runs at a pace
# of its own.
JUMP_NS = 100 * MS
# A clock that has not moved for this long stands still: the simulation is paused, or its publisher is gone.
STILL_NS = 250 * MS


class ClockWatch:
    """See the module. What is due and what is stale means nothing while `look` finds something."""

    def __init__(self) -> None:
        self._now_ns: int | None = None
        self._steady_ns = 0
        self._moved_ns = 0

    def look(self, now_ns: int, steady_ns: int) -> str:
        """What is wrong with the ROS clock at this tick, for people; "" where nothing is.

        now_ns: ROS clock; steady_ns: a monotonic one.
        """
        before, passed_ns = self._now_ns, steady_ns - self._steady_ns
        self._now_ns, self._steady_ns = now_ns, steady_ns
        if before is None or now_ns != before:
            self._moved_ns = steady_ns
        if before is None:
            return ""
        jumped_ns = now_ns - before - passed_ns
        if now_ns < before - JUMP_NS:
            return f"the clock jumped back by {(before - now_ns) / 1e9:.3f} s"
        if jumped_ns > JUMP_NS:
            return f"the clock jumped ahead by {jumped_ns / 1e9:.3f} s"
        if steady_ns - self._moved_ns > STILL_NS:
            return f"the clock has stood still for {(steady_ns - self._moved_ns) / 1e9:.3f} s"
        return ""
