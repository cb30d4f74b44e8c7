import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.safety.stop import brake, braking_speed, stopping_distance

speed = st.floats(0, 10)
change = st.floats(1e-3, 1)
DT = 0.01


def simulated_distance(v: float, a: float) -> float:
    total = 0.0
    while v > 0:
        total += v * DT
        v -= a
    return total


@given(speed, change)
def test_stopping_distance_is_what_braking_really_takes(v, a) -> None:
    assert stopping_distance(np.array([-v]), np.array([a]), DT)[0] == pytest.approx(
        simulated_distance(v, a), abs=1e-9
    )


@given(st.floats(0, 5), change)
def test_braking_speed_is_the_inverse(distance, a) -> None:
    v = braking_speed(np.array([distance]), np.array([a]), DT)
    assert stopping_distance(v, np.array([a]), DT)[0] == pytest.approx(distance, rel=1e-9, abs=1e-12)


def test_no_room_means_no_speed() -> None:
    assert braking_speed(np.array([0.0, -1.0]), np.ones(2), DT).tolist() == [0.0, 0.0]


def test_brake_ends_at_exactly_zero() -> None:
    v = np.array([1.0, -0.05, 0.0])
    for _ in range(20):
        v = brake(v, np.full(3, 0.07))
    assert v.tolist() == [0.0, 0.0, 0.0]
