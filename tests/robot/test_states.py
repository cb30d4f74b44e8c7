"""Joint states are read by name; what is missing is refused, not filled in."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.errors import Refused
from vla_ros.robot.config import Gripper
from vla_ros.robot.states import gripper_width, positions_by_name

WANTED = [f"fr3_joint{index}" for index in range(1, 8)]
GRIPPER = Gripper.model_validate(
    {
        "joints": ["finger1", "finger2"],
        "states": {"topic": "/g", "rate_hz": 15, "max_age_ms": 250},
        "width": [0.0, 0.08],
        "speed": 0.1,
        "action": {"action": "/a", "max_effort": 30},
    }
)

messages = st.dictionaries(
    st.sampled_from([*WANTED, "fr3_finger_joint1", "x"]), st.floats(allow_nan=False, allow_infinity=False)
)


@given(st.permutations([*WANTED, "fr3_finger_joint1", "fr3_finger_joint2"]), st.data())
def test_order_and_company_do_not_matter(names: list[str], data: st.DataObject) -> None:
    values = {name: data.draw(st.floats(-3, 3)) for name in names}
    found = positions_by_name(names, [values[name] for name in names], WANTED)
    assert found.dtype == np.float64
    assert found.tolist() == [values[name] for name in WANTED]


@given(messages)
def test_all_or_refused(message: dict[str, float]) -> None:
    names, positions = list(message), list(message.values())
    if set(WANTED) <= set(names):
        assert positions_by_name(names, positions, WANTED).tolist() == [message[name] for name in WANTED]
    else:
        with pytest.raises(Refused) as caught:
            positions_by_name(names, positions, WANTED)
        assert caught.value.reason == "missing_joint"
        assert str(next(name for name in WANTED if name not in message)) in str(caught.value)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(Refused, match="fr3_joint3") as caught:
        positions_by_name(WANTED, [0, 0, bad, 0, 0, 0, 0], WANTED)
    assert caught.value.reason == "nan"
    # What nobody asked for may be anything.
    assert positions_by_name([*WANTED, "x"], [0] * 7 + [bad], WANTED).tolist() == [0] * 7


def test_lengths_that_differ_are_refused() -> None:
    for positions in ([0.0] * 6, [0.0] * 8, []):
        with pytest.raises(Refused) as caught:
            positions_by_name(WANTED, positions, WANTED)
        assert caught.value.reason == "incomplete"


def test_a_name_twice_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        positions_by_name([*WANTED, "fr3_joint2"], [0.0] * 8, WANTED)
    assert caught.value.reason == "duplicate_joint"
    assert positions_by_name([*WANTED, "x", "x"], [0.0] * 9, WANTED).tolist() == [0.0] * 7


def test_gripper_width_is_the_sum_of_the_fingers() -> None:
    assert gripper_width(GRIPPER, ["finger2", "arm", "finger1"], [0.01, 9.0, 0.03]) == pytest.approx(0.04)
    with pytest.raises(Refused) as caught:
        gripper_width(GRIPPER, ["finger1"], [0.02])
    assert caught.value.reason == "missing_joint"
