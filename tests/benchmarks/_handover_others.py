"""How others turn chunks into commands, restated from their code: scheduling rules only, in virtual time.

Each class names the file its rule is from. Constants are those shipped unless the name says otherwise.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from vla_ros.benchmarks._handover_world import HORIZON, STEP_NS
from vla_ros.types import FloatArray


class BlockingBroker:
    """openpi-client, action_chunk_broker.py: rows are sent one by one; when they are used up, the control
    loop itself waits for the next chunk. `execute` of a chunk's 50 rows are used: openpi's examples use half
    of their horizons."""

    def __init__(self, execute: int = 25) -> None:
        self._execute = execute
        self._rows: deque[FloatArray] = deque()
        self._asked_ns: int | None = None

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""
        if not self._rows and self._asked_ns is None:
            self._asked_ns = now_ns

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        return self._asked_ns

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""
        self._rows = deque(rows[: self._execute])
        self._asked_ns = None

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        return self._rows.popleft() if self._rows else None


class ReplacedQueue:
    """lerobot, policies/rtc/action_queue.py and rollout/inference/rtc.py, for a policy without guidance: with
    30 rows left a new chunk is computed, and replaces the queue less the rows that its inference took."""

    THRESHOLD = 30

    def __init__(self) -> None:
        self._rows: deque[FloatArray] = deque()
        self._observed_ns = 0
        self._began_ns = 0

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""
        self._observed_ns = now_ns

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        if len(self._rows) > self.THRESHOLD:
            return None
        self._began_ns = now_ns
        return self._observed_ns

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""
        delay = math.ceil((now_ns - self._began_ns) / STEP_NS)
        self._rows = deque(rows[delay:])

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        return self._rows.popleft() if self._rows else None


class AsyncAverage:
    """lerobot, async_inference/robot_client.py and policy_server.py with `weighted_average`: below half a
    chunk the client sends its observation at every tick, the server keeps the newest; where steps of old and
    new coincide they become 0.3 old + 0.7 new.

    filtered: the server drops observations whose joints differ by less than 1 from those it used last, unless
    the queue is empty. In degrees that is little; in radians, as here, nothing but an empty queue counts.
    """

    THRESHOLD = 0.5
    SIMILAR = 1.0

    def __init__(self, filtered: bool) -> None:
        self._filtered = filtered
        self._joints = np.zeros(0)
        self._used: FloatArray | None = None
        self._rows: dict[int, FloatArray] = {}
        self._latest = -1
        self._size = -1
        # What waits at the server, and what it works on: time, timestep and joints of an observation.
        self._waiting: tuple[int, int, FloatArray] | None = None
        self._begun = 0

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""
        self._joints = measured

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        if self._waiting is None:
            return None
        (observed_ns, self._begun, self._used), self._waiting = self._waiting, None
        return observed_ns

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""
        merged = {}
        for step, row in enumerate(rows, start=self._begun):
            if step > self._latest:
                old = self._rows.get(step)
                merged[step] = row if old is None else 0.3 * old + 0.7 * row
        self._rows = merged
        self._size = max(self._size, len(rows))

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        row = None
        if self._rows:
            step = min(self._rows)
            row, self._latest = self._rows.pop(step), step
        if len(self._rows) / self._size <= self.THRESHOLD:
            apart = np.inf if self._used is None else float(np.linalg.norm(self._joints - self._used))
            if not (self._filtered and self._rows and apart < self.SIMILAR):
                self._waiting = (now_ns, max(self._latest, 0), self._joints)
        return row


class Crossfade:
    """EVA-CLIENT, strategy/action_buffer.py (StreamActionBuffer): a new chunk loses its first
    min(rows sent since the last one, latency_k) rows and is blended in over all that is left of the old one.
    `latency_k` is the constant to be set by hand; configurations ship 4 to 10, most 4."""

    SHIPPED = 4
    SHORTEST_BLEND = 8

    def __init__(self, latency_k: int) -> None:
        self._latency_k = latency_k
        self._rows: deque[FloatArray] = deque()
        self._last: FloatArray | None = None
        self._sent = 0

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        return now_ns

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""
        dropped = min(self._sent, self._latency_k)
        if dropped >= len(rows):
            return
        new = rows[dropped:]
        old = np.array(self._rows)
        if not self._rows:
            if self._last is None:
                self._rows, self._sent = deque(new), 0
                return
            old = np.tile(self._last, (self.SHORTEST_BLEND, 1))
            self._last = None
        elif len(old) < self.SHORTEST_BLEND:
            old = np.vstack([old, np.tile(old[-1], (self.SHORTEST_BLEND - len(old), 1))])
        overlap = min(len(old), len(new))
        weight = np.linspace(1.0, 0.0, overlap)[:, None] if overlap > 1 else np.ones((1, 1))
        blended = weight * old[:overlap] + (1 - weight) * new[:overlap]
        self._rows, self._sent = deque([*blended, *new[overlap:]]), 0

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        if not self._rows:
            return None
        if len(self._rows) == 1:
            self._last = self._rows[0]
        self._sent += 1
        return self._rows.popleft()


# The constant cannot usefully exceed the chunk.
LATENCY_KS = range(HORIZON // 2)
