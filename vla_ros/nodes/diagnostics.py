"""Figures about a running node: latencies, counters and states on /diagnostics, twice a second.

Recording a sample costs about a microsecond and never blocks; percentiles are made only when published.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

CAPACITY = 20_000
PERIOD_S = 0.5

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Samples:
    """The last `capacity` values of one quantity, and how many there ever were.

    `add` may be called from one thread and `summary` from another: a summary may miss the newest value, no
    more.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._values = np.zeros(capacity)
        self._count = 0

    def add(self, value: float) -> None:
        """Record one value."""
        self._values[self._count % len(self._values)] = value
        self._count += 1

    @property
    def count(self) -> int:
        """How many values were ever added."""
        return self._count

    def values(self) -> np.ndarray:
        """A copy of the values kept, float64 [min(count, capacity)], in no particular order."""
        return self._values[: min(self._count, len(self._values))].copy()

    def summary(self) -> dict[str, float]:
        """p50, p95, p99 and max of the values kept, and count; only count = 0 where there is none."""
        kept = self.values()
        if not len(kept):
            return {"count": 0}
        p50, p95, p99 = np.percentile(kept, [50, 95, 99])
        return {
            "p50": float(p50),
            "p95": float(p95),
            "p99": float(p99),
            "max": float(kept.max()),
            "count": self._count,
        }


class DiagnosticsPublisher:
    """Publishes one DiagnosticStatus for `node` on /diagnostics at 2 Hz.

    Keys: `<name>.p50 .p95 .p99 .max .count` of every `sample`, each counter of `count`, each text of
    `value`, and whatever `refresh` adds by those methods just before publishing. The status' name is the
    node's name with its namespace, without the leading slash. The timer runs on the steady clock: figures
    keep coming when simulated time stands still.
    """

    def __init__(self, node: Node, refresh: Callable[[], None] | None = None) -> None:
        self.node = node
        self.level: bytes = OK
        self.message = "ok"
        self._refresh = refresh
        self._lock = threading.Lock()
        self._samples: dict[str, Samples] = {}
        self._counters: dict[str, int] = {}
        self._values: dict[str, str] = {}
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=steady)

    def sample(self, name: str, value: float) -> None:
        """Record one value of `name` (the unit belongs in the name: `tick_ms`)."""
        samples = self._samples.get(name)
        if samples is None:
            with self._lock:
                samples = self._samples.setdefault(name, Samples())
        samples.add(value)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counters[name] = self._counters.get(name, 0) + by

    def value(self, name: str, value: object) -> None:
        """Set a state that is published as text."""
        with self._lock:
            self._values[name] = f"{value:.3f}" if isinstance(value, float) else str(value)

    def state(self, level: bytes, message: str) -> None:
        """Set the status' level (OK, WARN, ERROR) and message."""
        self.level, self.message = level, message

    def counters(self) -> Mapping[str, int]:
        """A copy of all counters."""
        with self._lock:
            return dict(self._counters)

    def reset(self) -> None:
        """Forget all samples and counters (a new episode); states stay."""
        with self._lock:
            self._samples = {}
            self._counters = {}

    def publish(self) -> None:
        """Publish now."""
        if self._refresh is not None:
            self._refresh()
        with self._lock:
            samples = dict(self._samples)
            pairs = {**self._values, **{name: str(number) for name, number in self._counters.items()}}
        for name, kept in samples.items():
            for key, number in kept.summary().items():
                pairs[f"{name}.{key}"] = str(number) if key == "count" else f"{number:.4f}"
        message = DiagnosticArray()
        message.header.stamp = self.node.get_clock().now().to_msg()
        message.status = [
            DiagnosticStatus(
                level=self.level,
                name=self.node.get_fully_qualified_name().lstrip("/"),
                message=self.message,
                values=[KeyValue(key=key, value=pairs[key]) for key in sorted(pairs)],
            )
        ]
        self._publisher.publish(message)

    def destroy(self) -> None:
        """Stop publishing."""
        self.node.destroy_timer(self._timer)
        self.node.destroy_publisher(self._publisher)
