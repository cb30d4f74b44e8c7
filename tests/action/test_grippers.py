from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vla_ros.action.grippers import gripper_from_width, gripper_is_open, gripper_to_width
from vla_ros.policy.manifest_model import Binary, GripperRule, GripperUnit

ENDS = (0.01, 0.09)
UNITS = [
    GripperUnit(unit="open_fraction"),
    GripperUnit(unit="closed_fraction"),
    GripperUnit(unit="signed", open_is=1),
    GripperUnit(unit="signed", open_is=-1),
    GripperUnit(unit="logit", open_is=1),
    GripperUnit(unit="logit", open_is=-1),
    GripperUnit(unit="width_m"),
    GripperUnit(unit="finger_m", closed=0.0440, open=0.0579),
    GripperUnit(unit="joint_rad", closed=0.6197, open=1.6214),
    GripperUnit(unit="joint_rad", closed=0.8, open=0.0),
]


def name(unit: GripperUnit) -> str:
    return f"{unit.unit}{unit.open_is or ''}"


@pytest.mark.parametrize("unit", UNITS, ids=name)
@given(fraction=st.floats(0, 1))
def test_a_width_comes_back(unit: GripperUnit, fraction: float) -> None:
    width = ENDS[0] + fraction * (ENDS[1] - ENDS[0])
    value = gripper_from_width(width, unit, ENDS)
    assert gripper_to_width(value, unit, ENDS) == pytest.approx(width, abs=1e-12)


# 30 mm of 10 to 90 mm is a quarter of the way.
@pytest.mark.parametrize(
    ("unit", "value"),
    [
        (UNITS[0], 0.25),
        (UNITS[1], 0.75),
        (UNITS[2], -0.5),
        (UNITS[3], 0.5),
        (UNITS[4], -np.log(3)),
        (UNITS[5], np.log(3)),
        (UNITS[6], 0.03),
        (UNITS[7], 0.0440 + 0.0139 / 4),
        (UNITS[8], 0.6197 + 1.0017 / 4),
        (UNITS[9], 0.6),
    ],
    ids=lambda x: name(x) if isinstance(x, GripperUnit) else "",
)
def test_each_unit_by_hand(unit: GripperUnit, value: float) -> None:
    assert gripper_from_width([0.03], unit, ENDS).tolist() == pytest.approx([value], abs=1e-12)
    assert gripper_to_width([value], unit, ENDS).tolist() == pytest.approx([0.03], abs=1e-12)


@pytest.mark.parametrize("unit", UNITS, ids=name)
@given(value=st.floats(-1e6, 1e6))
def test_what_the_arm_gets_is_within_its_gripper(unit: GripperUnit, value: float) -> None:
    assert ENDS[0] <= gripper_to_width(value, unit, ENDS) <= ENDS[1]


def test_a_width_measured_beyond_an_end_stays_beyond_it() -> None:
    """A fingertip that gives, an offset of half a millimetre: the network saw such values in training."""
    assert gripper_from_width(0.094, UNITS[0], ENDS) == pytest.approx(1.05)


def test_aloha_reads_metres_and_commands_radians() -> None:
    """ALOHA's follower (Interbotix, ROS 2): half open is 50.95 mm of finger travel and 1.12055 rad.

    The two ranges are those of ROBOTS.md; half way between 0.0440 and 0.0579 m and between 0.6197 and
    1.6214 rad.
    """
    half = sum(ENDS) / 2
    assert gripper_from_width(half, UNITS[7], ENDS) == pytest.approx(0.05095)
    assert gripper_to_width(1.12055, UNITS[8], ENDS) == pytest.approx(half)


def test_pi0_s_action_map_on_aloha_is_not_the_inverse_of_its_state_map() -> None:
    """openpi, src/openpi/policies/aloha_policy.py, `_gripper_from_angular`: a command v is what the gripper
    is driven to at (v + 0.5476 + 0.6213) / (1.4910 + 0.6213) of its way. The state passes through another
    map, so each side declares its own two points."""
    command = GripperUnit(unit="joint_rad", closed=-0.6213 - 0.5476, open=1.4910 - 0.5476)
    state = GripperUnit(unit="joint_rad", closed=0.5476, open=1.6296)
    v = 0.3
    fraction = (v + 0.5476 + 0.6213) / (1.4910 + 0.6213)
    width = gripper_to_width(v, command, (0.0, 1.0))
    assert width == pytest.approx(fraction)
    assert gripper_from_width(width, state, (0.0, 1.0)) != pytest.approx(v, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"unit": "signed"}, "open_is"),
        ({"unit": "open_fraction", "open_is": 1}, "open_is"),
        ({"unit": "joint_rad", "closed": 1.0}, "closed and open are needed"),
        ({"unit": "width_m", "closed": 0.0, "open": 0.1}, "only there"),
        ({"unit": "finger_m", "closed": 0.1, "open": 0.1}, "the same"),
        ({"unit": "joint_rad", "closed": float("nan"), "open": 0.1}, "finite"),
        ({"unit": "percent"}, "open_fraction"),
    ],
)
def test_a_unit_says_all_and_nothing_else(fields, says) -> None:
    with pytest.raises(ValidationError, match=says):
        GripperUnit.model_validate(fields)


def rule(threshold=0.5, hysteresis=0.0, sticky=1, **unit) -> GripperRule:
    binary = Binary(threshold=threshold, hysteresis=hysteresis, sticky_steps=sticky)
    return GripperRule(**(unit or {"unit": "open_fraction"}), binary=binary)


def test_hysteresis_in_both_polarities() -> None:
    values = [0.7, 0.45, 0.55, 0.39, 0.55, 0.45, 0.61]
    expected = [True, True, True, False, False, False, True]
    assert gripper_is_open(values, rule(hysteresis=0.1)).tolist() == expected
    mirrored = rule(hysteresis=0.1, unit="closed_fraction")
    assert gripper_is_open(1 - np.array(values), mirrored).tolist() == expected
    uneven = rule(0.3, 0.05, unit="closed_fraction")
    # Closed is high here: above 0.35 closes, below 0.25 opens.
    assert gripper_is_open([0.2, 0.32, 0.36, 0.3, 0.24], uneven).tolist() == [True, True, False, False, True]
    signed = rule(0.0, 0.2, unit="signed", open_is=-1)
    assert gripper_is_open([-1, 0.1, 0.3, -0.1, -0.3], signed).tolist() == [True, True, False, False, True]


def test_the_state_before_the_first_row_is_kept_inside_the_band() -> None:
    band = rule(hysteresis=0.1)
    assert gripper_is_open([0.45, 0.55], band, was_open=True).tolist() == [True, True]
    assert gripper_is_open([0.55, 0.45], band, was_open=False).tolist() == [False, False]


@pytest.mark.parametrize("before", [True, False])
def test_a_value_on_the_threshold_changes_nothing(before: bool) -> None:
    """OpenVLA's client takes sign(2 v - 1), which is 0, neither open nor closed, at exactly 0.5."""
    assert gripper_is_open([0.5, 0.5], rule(), was_open=before).tolist() == [before, before]
    # With nothing before, it is decided, and the gripper does not stay between.
    assert gripper_is_open([0.5, 0.5], rule()).tolist() == [False, False]


def test_clients_of_one_model_switch_to_opposite_sides() -> None:
    """X-VLA: its WidowX client commands +1 where the sigmoid is below the threshold, its Google client where
    it is above. Which side is open is declared. Logits -3 and 3 have sigmoids 0.047 and 0.953."""
    logits = [-3.0, 3.0]
    below = rule(0.5, unit="logit", open_is=-1)
    above = rule(0.5, unit="logit", open_is=1)
    assert gripper_is_open(logits, below).tolist() == [True, False]
    assert gripper_is_open(logits, above).tolist() == [False, True]


@pytest.mark.parametrize("threshold", [0.25, 0.95])
def test_a_logit_is_compared_after_its_sigmoid(threshold: float) -> None:
    at = np.log(threshold / (1 - threshold))
    found = gripper_is_open([at - 0.01, at + 0.01], rule(threshold, unit="logit", open_is=1))
    assert found.tolist() == [False, True]


def test_a_threshold_in_normalised_space_is_declared_in_the_unit() -> None:
    """StarVLA turns normalised values from 0.5 on into 1 before q01/q99: with q01 = 0 and q99 = 1, 0.5 in
    [-1, 1] is 0 + (0.5 + 1) / 2 = 0.75."""
    normalised = np.array([0.49, 0.51])
    values = (normalised + 1) / 2
    assert gripper_is_open(values, rule(0.75)).tolist() == [False, True]


def test_a_sticky_gripper_keeps_each_change_for_its_rows() -> None:
    """SimplerEnv repeats a change of the gripper for sticky_gripper_num_repeat steps, whatever comes."""
    sticky = rule(sticky=3)
    assert gripper_is_open([0, 1, 0, 0, 0, 1, 0], sticky, was_open=False).tolist() == [
        False, True, True, True, False, False, False,
    ]  # fmt: skip
    # Two rows of it went by in the chunk before, so one is left.
    assert gripper_is_open([0, 0], sticky, was_open=True, rows_since=2).tolist() == [True, False]
    assert gripper_is_open([0, 0], sticky, was_open=True).tolist() == [False, False]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20), st.integers(1, 5), st.floats(0, 0.4))
def test_no_change_comes_sooner_than_sticky_steps(values, sticky, hysteresis) -> None:
    is_open = gripper_is_open(values, rule(0.5, hysteresis, sticky), was_open=False)
    changes = np.flatnonzero(np.diff([False, *is_open]))
    assert np.all(np.diff(changes) >= sticky)
    for row in changes:
        assert abs(values[row] - 0.5) > hysteresis


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(1, 11), st.integers(1, 4))
def test_a_chunk_cut_in_two_decides_as_the_whole(values, cut, sticky) -> None:
    cut = min(cut, len(values) - 1)
    one = rule(0.5, 0.1, sticky)
    whole = gripper_is_open(values, one, was_open=True)
    first = gripper_is_open(values[:cut], one, was_open=True)
    changes = np.flatnonzero(np.diff([True, *first]))
    since = cut - int(changes[-1]) if len(changes) else None
    second = gripper_is_open(values[cut:], one, was_open=bool(first[-1]), rows_since=since)
    assert [*first, *second] == whole.tolist()
