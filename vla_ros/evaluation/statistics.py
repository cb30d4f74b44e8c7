"""Proportions with their uncertainty, and latency summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval of a proportion; `low` and `high` in [0, 1]."""

    low: float
    high: float


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for `successes` out of `trials` (Wilson 1927, JASA 22:209).

    Unlike p +- z sqrt(p (1 - p) / n) it stays inside [0, 1] and keeps its coverage for the few tens
    of trials a robot evaluation has. No trials say nothing: [0, 1].

    Raises:
        ValueError: counts that are negative or more successes than trials, or a confidence outside
            (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes={successes} must lie in [0, trials={trials}]")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence={confidence} must lie in (0, 1)")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = successes / trials
    spread = 1.0 + z * z / trials
    centre = (p + z * z / (2 * trials)) / spread
    half = z / spread * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    # At the ends the formula gives exactly 0 and 1; rounding must not move them.
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


@dataclass(frozen=True)
class Percentiles:
    """Percentiles of a sample, in the sample's unit; `count` values."""

    p50: float
    p95: float
    p99: float
    max: float
    count: int

    def as_dict(self) -> dict[str, float | int]:
        """As it stands in summary.json."""
        return {"p50": self.p50, "p95": self.p95, "p99": self.p99, "max": self.max, "count": self.count}


def percentiles(values: Sequence[float] | NDArray[np.float64]) -> Percentiles | None:
    """p50, p95, p99 (linear interpolation) and maximum, or None when there is nothing to summarise.

    Raises:
        ValueError: a value that is not finite.
    """
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return None
    if not np.isfinite(data).all():
        raise ValueError(f"{int((~np.isfinite(data)).sum())} of {data.size} values are not finite")
    p50, p95, p99 = np.percentile(data, [50, 95, 99])
    return Percentiles(float(p50), float(p95), float(p99), float(data.max()), int(data.size))
