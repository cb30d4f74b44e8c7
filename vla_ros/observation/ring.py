"""The newest samples of one stream, and whether the newest may be used.

Time comes in as an argument; nothing here waits.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

from vla_ros.action.latency import Latency
from vla_ros.errors import Refused

T = TypeVar("T")
MS = 1_000_000


class Ring(Generic[T]):
    """The newest samples of one stream, in strictly increasing order of their stamps.

    samples: (stamp_ns, value), oldest first. received: messages seen; dropped: {reason: how many of
    them were not kept}; missed: how many more there would have been between the stamps at the stream's
    own rate, lost on the way or never sent; latency: from stamp to arrival.
    """

    def __init__(self, stream: str, topic: str, capacity: int, max_age_ns: int, rate_hz: float) -> None:
        self.stream, self.topic = stream, topic
        self.max_age_ns = max_age_ns
        self.period_ns = 1e9 / rate_hz
        self.missed = 0
        self.samples: deque[tuple[int, T]] = deque(maxlen=capacity)
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.latency = Latency()
        self._repeats = 0
        self._back_ns = 0
        self._unusable: Refused | None = None
        self._foreign: Refused | None = None

    def clear(self) -> None:
        """Forget all samples and faults; the counters go on."""
        self.samples.clear()
        self._repeats = self._back_ns = 0
        self._unusable = self._foreign = None

    def push(self, stamp_ns: int, value: T, now_ns: int) -> None:
        """Keep a sample that arrives now, unless its stamp says that it is none.

        The same stamp again: not kept ("frozen"). Older than the newest: out of order, or from a stream whose
        clock was set back, and not kept ("back_in_time"). Where the machine's clock was set back, the newest
        is from the future, and was dropped as such.
        """
        self.received += 1
        if stamp_ns == 0:
            self._drop(Refused("no_stamp", f"{self.topic}: header.stamp is not set; the driver must set it"))
            return
        self._drop_future(now_ns)
        self._unusable = self._foreign = None
        if self.samples:
            newest = self.samples[-1][0]
            if stamp_ns == newest:
                self._repeats += 1
                self.dropped["frozen"] += 1
                return
            if stamp_ns < newest:
                self._back_ns = newest - stamp_ns
                self.dropped["back_in_time"] += 1
                return
            self.missed += max(0, round((stamp_ns - newest) / self.period_ns) - 1)
        self._repeats = self._back_ns = 0
        self.samples.append((stamp_ns, value))
        self.latency.add(now_ns - stamp_ns)

    def refuse(self, reason: Refused) -> None:
        """Note a message that cannot be used. No observation is made until a usable one arrives."""
        self.received += 1
        self._drop(reason)

    def ignore(self, reason: Refused) -> None:
        """Note a message that is not about this stream's subject (other joints on a shared topic). It is
        the reason given when nothing better keeps coming."""
        self.received += 1
        self.dropped[reason.reason] += 1
        self._foreign = reason

    def _drop(self, reason: Refused) -> None:
        self.dropped[reason.reason] += 1
        self._unusable = reason

    def check(self, now_ns: int) -> None:
        """Raise Refused when the newest sample must not be used now.

        Samples from the future are dropped: the clock was set back, or the stream's is ahead. So a stream is
        as good as new with its first sample after either.

        Reasons: "incomplete" (nothing yet), "future", "stale", or for a stale stream why it is so:
        "frozen", "back_in_time"; and whatever made the last message unusable.
        """
        self._drop_future(now_ns)
        if self._unusable is not None:
            raise self._unusable
        if not self.samples:
            if self._foreign is not None:
                raise self._foreign
            raise Refused("incomplete", f"{self.stream}: nothing received on {self.topic}")
        age = now_ns - self.samples[-1][0]
        if age <= self.max_age_ns:
            return
        if self._foreign is not None:
            raise self._foreign
        limit = f"{_ms(age)} old, at most {_ms(self.max_age_ns)} is allowed (max_age_ms)"
        if self._repeats:
            text = f"{self.stream}: {self.topic} repeats one stamp ({self._repeats} times); {limit}"
            raise Refused("frozen", text)
        if self._back_ns:
            text = f"{self.stream}: stamps on {self.topic} jumped back by {_ms(self._back_ns)}; {limit}"
            raise Refused("back_in_time", text)
        raise Refused("stale", f"{self.stream}: newest sample on {self.topic} is {limit}")

    def _drop_future(self, now_ns: int) -> None:
        ahead = self.samples[-1][0] - now_ns if self.samples else 0
        if ahead <= self.max_age_ns:
            return
        # None of those ahead is of the present, and each would stand in the way of new samples.
        while self.samples and self.samples[-1][0] > now_ns:
            self.samples.pop()
            self.dropped["future"] += 1
        self._unusable = Refused(
            "future",
            f"{self.stream}: stamped {_ms(ahead)} ahead of this machine's clock on {self.topic}; synchronise "
            f"the clocks (chrony, PTP)",
        )

    def nearest(self, stamp_ns: int) -> tuple[int, T]:
        """The sample whose stamp is nearest. The ring must not be empty."""
        return min(self.samples, key=lambda sample: abs(sample[0] - stamp_ns))

    def at_or_before(self, stamp_ns: int) -> tuple[int, T] | None:
        """The newest sample that is not newer than `stamp_ns`."""
        return next((sample for sample in reversed(self.samples) if sample[0] <= stamp_ns), None)


def _ms(ns: int) -> str:
    return f"{ns / MS:.0f} ms"
