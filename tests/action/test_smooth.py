import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.action.smooth import JerkLimited
from vla_ros.robot.config import JointLimits
from vla_ros.types import FloatArray

DT = 0.01
LIMITS = JointLimits(
    position=[(-1.0, 2.0), (-3.0, -0.1), (0.0, 0.3)],
    velocity=[1.5, 2.0, 0.7],
    acceleration=[7.0, 9.0, 0.5],
    jerk=[300.0, 100.0, 40.0],
)
START = np.array([0.0, -1.0, 0.15])


def run(targets: FloatArray) -> FloatArray:
    tracker = JerkLimited(LIMITS, DT)
    tracker.reset(START)
    return np.array([START] * 3 + [tracker.step(target) for target in targets])


def assert_within(q: FloatArray) -> None:
    """Finite differences of what is in the limits at every moment are too."""
    v = np.diff(q, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    low, high = np.array(LIMITS.position).T
    assert np.all(q >= low - 1e-9)
    assert np.all(q <= high + 1e-9)
    assert np.all(np.abs(v) <= np.array(LIMITS.velocity) + 1e-9)
    assert np.all(np.abs(a) <= np.array(LIMITS.acceleration) + 1e-7)
    assert np.all(np.abs(np.diff(a, axis=0)) / DT <= np.array(LIMITS.jerk) + 1e-5)


value = st.one_of(st.floats(-4, 4), st.sampled_from([-1e9, 1e300, 0.0, 2.0, -1.0]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 50), value, value, value), min_size=1, max_size=8))
def test_no_run_of_targets_breaks_a_limit(segments) -> None:
    assert_within(run(np.array([target for ticks, *target in segments for _ in range(ticks)])))


def test_a_target_is_reached_and_kept() -> None:
    goal = np.array([1.5, -2.5, 0.01])
    q = run(np.tile(goal, (400, 1)))
    np.testing.assert_allclose(q[-1], goal, atol=1e-9)
    np.testing.assert_allclose(q[-100], goal, atol=1e-9)


def test_a_shaking_target_is_followed_with_less_shaking() -> None:
    rng = np.random.default_rng(0)
    targets = (
        START + 0.2 * np.sin(np.arange(600) * DT)[:, None] * [1, 1, 0.3] + rng.normal(0, 0.002, (600, 3))
    )
    q = run(targets)
    assert_within(q)
    assert np.abs(q[3:] - targets)[100:].max() < 0.05
    assert np.std(np.diff(q, 2, axis=0)[:, 0]) < 0.3 * np.std(np.diff(targets, 2, axis=0)[:, 0])


def test_starts_anew_from_where_it_is_reset_to() -> None:
    tracker = JerkLimited(LIMITS, DT)
    tracker.reset(START)
    for _ in range(30):
        tracker.step(np.array([2.0, -3.0, 0.3]))
    tracker.reset(START)
    np.testing.assert_array_equal(tracker.q, START)
    np.testing.assert_allclose(tracker.step(START), START, atol=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_target_that_is_no_number_is_an_error(bad) -> None:
    tracker = JerkLimited(LIMITS, DT)
    with pytest.raises(ValueError, match="not a number"):
        tracker.step(np.array([0.0, bad, 0.0]))


def test_where_no_course_can_be_computed_it_slows_down() -> None:
    tracker = JerkLimited(LIMITS, DT)
    tracker.reset(np.full(3, 1e300))
    assert np.isfinite(tracker.step(START)).all()
