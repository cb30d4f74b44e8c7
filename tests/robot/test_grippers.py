"""A gripper's width in the driver's units: straight lines through closed and open, both ways."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import Refused
from vla_ros.robot.config import Gripper
from vla_ros.robot.grippers import command_for, reading_at, width_commanded, width_read


def gripper(**changes) -> Gripper:
    return Gripper.model_validate(
        {
            "joints": ["left_finger"],
            "states": {"topic": "/g", "rate_hz": 50, "max_age_ms": 250},
            "width": [0.0, 0.08],
            "speed": 0.1,
            "action": {"action": "/a", "max_effort": 30},
            **changes,
        }
    )


FRANKA = gripper(commands=[0.0, 0.04])
# The ROS 2 follower of ALOHA: read as one finger's travel in m, commanded as the motor's angle in rad.
ALOHA = gripper(width=[0.0, 0.0278], reads=[0.0440, 0.0579], commands=[0.6197, 1.6214])
# Older AgileX arms count the motor's way, which falls as the gripper opens.
FALLING = gripper(reads=[3.0, 0.0], commands=[3.0, 0.0])
pairs = st.tuples(st.floats(-100, 100), st.floats(-100, 100)).filter(
    lambda pair: abs(pair[0] - pair[1]) > 0.01
)


def test_franka_is_sent_one_fingers_travel_and_read_by_both() -> None:
    """franka_gripper doubles the goal's position and aborts beyond the hand's width."""
    assert command_for(FRANKA, 0.06) == pytest.approx(0.03)
    assert 2 * command_for(FRANKA, 0.0801) == 0.08
    assert command_for(FRANKA, -0.001) == 0.0
    assert width_read(FRANKA, 0.0123) == 0.0123


def test_aloha_is_read_in_metres_and_commanded_in_radians() -> None:
    assert [width_read(ALOHA, metres) for metres in (0.0440, 0.0579)] == [0.0, 0.0278]
    assert [command_for(ALOHA, width) for width in (0.0, 0.0278)] == [0.6197, 1.6214]
    assert width_read(ALOHA, 0.05095) == pytest.approx(0.0139)
    assert command_for(ALOHA, 0.0139) == pytest.approx((0.6197 + 1.6214) / 2)


def test_a_driver_may_count_the_other_way() -> None:
    assert width_read(FALLING, 3.0) == 0.0 and width_read(FALLING, 0.75) == pytest.approx(0.06)
    assert command_for(FALLING, 0.5) == 0.0, "no further than open"
    assert command_for(FALLING, -0.5) == 3.0


def test_a_reading_beyond_the_range_is_told_as_it_is() -> None:
    assert width_read(ALOHA, 0.0590) > 0.0278
    assert width_read(FRANKA, 0.0807) == 0.0807


@given(pairs, pairs, st.floats(0.0, 0.08))
def test_both_ways_are_each_others_inverse(reads, commands, width: float) -> None:
    one = gripper(reads=reads, commands=commands)
    assert width_read(one, reading_at(one, width)) == pytest.approx(width, abs=1e-9)
    assert width_commanded(one, command_for(one, width)) == pytest.approx(width, abs=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_width_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(Refused) as caught:
        command_for(FRANKA, bad)
    assert caught.value.reason == "nan"
