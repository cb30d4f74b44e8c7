"""When the next inference begins. Times are arguments: steady ones for rates, the ROS clock's for chunks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TRIGGERS = ("rate", "horizon", "back_to_back")


@dataclass(frozen=True)
class Pace:
    """How often is inferred, and how much of a chunk is done.

    mode: of the scheduler (`vla_ros.action.schedule.MODES`); "sync" infers only when what was published
    has been done, whatever the trigger.
    trigger: "rate" (every period_ns), "horizon" (when no more than horizon_ns of what was published last is
    still to come), "back_to_back" (at once).
    execute_steps: rows of a chunk that are published; 0: all.
    speed: 1 is the speed that the policy was trained at; rows are due 1 / speed as far apart.
    """

    mode: str
    trigger: str
    period_ns: int
    horizon_ns: int
    execute_steps: int
    speed: float


class Trigger:
    """Says how long to wait for the next inference."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """A new episode: the next inference waits for nothing."""
        self._rate_due_ns: int | None = None
        self._published_ns = self._last_due_ns = self._done_ns = 0

    def begun(self, pace: Pace, steady_ns: int) -> None:
        """An inference begins. The rate holds on average; a whole period that was missed is left out."""
        due = self._rate_due_ns
        base = due if due is not None and steady_ns - due < pace.period_ns else steady_ns
        self._rate_due_ns = base + pace.period_ns

    def published(self, due_ns: NDArray[np.int64], dt_ns: int, now_ns: int) -> None:
        """A chunk was published now. due_ns: when its rows are due, dt_ns apart."""
        self._published_ns, self._last_due_ns = now_ns, int(due_ns[-1])
        self._done_ns = now_ns + len(due_ns) * dt_ns

    def wait_ns(self, pace: Pace, steady_ns: int, now_ns: int) -> int:
        """How long to wait, at most, before asking again; 0: now."""
        if pace.mode == "sync":
            return max(0, self.observe_after_ns(pace, now_ns) - now_ns)
        if pace.trigger == "rate":
            return max(0, (self._rate_due_ns or 0) - steady_ns)
        if pace.trigger == "horizon" and now_ns >= self._published_ns:
            return max(0, self._last_due_ns - pace.horizon_ns - now_ns)
        return 0

    def observe_after_ns(self, pace: Pace, now_ns: int) -> int:
        """No observation from before this time is to be used: in mode sync the robot was still moving.

        Zero once the ROS clock was set back behind the last publication.
        """
        return self._done_ns if pace.mode == "sync" and now_ns >= self._published_ns else 0
