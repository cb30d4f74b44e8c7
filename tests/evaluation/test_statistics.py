from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from vla_ros.evaluation.statistics import percentiles, wilson_interval


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.999))
def test_wilson_interval_is_scipys(counts: tuple[int, int], confidence: float) -> None:
    successes, trials = counts
    expected = binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    found = wilson_interval(successes, trials, confidence)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)
    assert 0.0 <= found.low <= successes / trials <= found.high <= 1.0


def test_wilson_interval_at_the_ends() -> None:
    assert wilson_interval(0, 10).low == 0.0
    assert wilson_interval(10, 10).high == 1.0
    assert wilson_interval(10, 10).low > 0.65


def test_no_trials_say_nothing() -> None:
    assert (wilson_interval(0, 0).low, wilson_interval(0, 0).high) == (0.0, 1.0)


@pytest.mark.parametrize("counts", [(3, 2), (-1, 2), (1, 0)])
def test_impossible_counts_are_refused(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(*counts)


def test_confidence_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson_interval(1, 2, 95)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_percentiles_are_ordered_and_numpys(values: list[float]) -> None:
    found = percentiles(values)
    assert found is not None
    assert found.p50 <= found.p95 <= found.p99 <= found.max == max(values)
    assert found.p95 == pytest.approx(float(np.percentile(values, 95)))
    assert found.count == len(values)


def test_percentiles_of_nothing_and_of_nan() -> None:
    assert percentiles([]) is None
    with pytest.raises(ValueError, match="1 of 3"):
        percentiles([1.0, float("nan"), 2.0])
