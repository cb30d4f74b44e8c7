import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.safety.stop import braked, braking_speed, deceleration, ticks_to_rest

speed = st.floats(0, 10)
change = st.floats(1e-3, 1)
DT = 0.01
FAR = 1e9


def way_to_rest(v: float, a: float) -> float:
    """How far a joint goes that slows down by `a` per tick, after the tick in which it moves by v."""
    total = 0.0
    while v > 0:
        v -= a
        total += max(v, 0.0) * DT
    return total


@given(st.floats(0, 5), change)
def test_braking_speed_is_the_fastest_that_still_stops_in_time(distance, a) -> None:
    v = float(braking_speed(np.array([distance]), np.array([a]), DT)[0])
    assert v * DT + way_to_rest(v, a) == pytest.approx(distance, rel=1e-9, abs=1e-12)


def test_no_room_means_no_speed() -> None:
    assert braking_speed(np.array([0.0, -1.0]), np.ones(2), DT).tolist() == [0.0, 0.0]


@given(st.lists(speed, min_size=3, max_size=3), st.lists(change, min_size=3, max_size=3))
def test_joints_brake_over_the_ticks_that_the_slowest_needs(speeds, changes) -> None:
    v, a = np.array(speeds), np.array(changes)
    ticks = ticks_to_rest(v, a)
    assert ticks == pytest.approx(np.max(np.ceil(v / a - 1e-9)))
    if ticks:
        d = deceleration(v, np.full(3, FAR), a, DT, ticks)
        assert np.all(d <= a * (1 + 1e-8))
        np.testing.assert_allclose(v - ticks * d, 0, atol=1e-9)


@given(st.lists(speed, min_size=2, max_size=2), st.lists(change, min_size=2, max_size=2), st.floats(0, 2))
def test_a_joint_near_its_limit_stops_at_it(speeds, changes, more) -> None:
    """However the others brake, and with no more than it may."""
    v, a = np.array(speeds), np.array(changes)
    room = np.array([way_to_rest(s, c) * (1 + more) for s, c in zip(speeds, changes, strict=True)])
    ticks = ticks_to_rest(v, a)
    if ticks:
        d = deceleration(v, room, a, DT, ticks)
        assert np.all(d <= a * (1 + 1e-8))
        assert np.all(d * ticks >= v - 1e-9)
        assert np.all(braked(v, d, np.array([[ticks + 0.0]]), DT) <= room + 1e-9)


@given(speed, change)
def test_the_way_of_a_braking_is_what_it_takes_tick_by_tick(v, d) -> None:
    ticks = np.arange(12.0)[:, None]
    ways = braked(np.array([v]), np.array([d]), ticks, DT)
    stepped = np.maximum(v - np.arange(12) * d, 0.0)
    np.testing.assert_allclose(ways[1:, 0], np.cumsum(stepped[1:]) * DT, atol=1e-9)


def test_joints_at_rest_stay() -> None:
    assert ticks_to_rest(np.zeros(3), np.ones(3)) == 0
    assert not braked(np.zeros(3), np.zeros(3), np.array([[0.0], [5.0]]), DT).any()
