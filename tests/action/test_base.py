"""A base's velocities in an action row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.action.manifests import ARM, manifest, robot
from tests.mobile_base import BASE_ACTION
from vla_ros.action.convention import Origins
from vla_ros.action.decode import SPEEDS, decode, encode, first_rows, to_targets, to_values
from vla_ros.action.normalise import Scaling
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.types import ActionChunk, Observation, RawChunk

SEEN = Observation({}, {}, "", {}, 1_700_000_000_123_456_789)
# Mobile ALOHA's 16 columns, on arms of six joints.
SIX = ARM.model_copy(update={"joints": ARM.joints[:6]})
ALOHA = [
    {"arm": arm, **part}
    for arm in ("left", "right")
    for part in (
        {"signal": "joint_position", "size": 6, "reference": "absolute"},
        {"signal": "gripper", "size": 1, "gripper": {"unit": "open_fraction"}},
    )
]
MOBILE = robot("left", "right", base=True, arm=SIX)


@settings(max_examples=50, deadline=None)
@given(place=st.integers(0, 4), seed=st.integers(0, 2**31), relative=st.booleans())
def test_a_mobile_robot_s_row_comes_back(place: int, seed: int, relative: bool) -> None:
    """Wherever the base's columns stand; its velocities are the policy's own, and come last."""
    parts = [{**part} for part in ALOHA]
    if relative:
        for part in parts[::2]:
            part["reference"] = "relative"
    described = manifest([*parts[:place], BASE_ACTION, *parts[place:]])
    assert described.outputs.size == 16
    rng = np.random.default_rng(seed)
    state = {f"{arm}/joint_position": rng.uniform(-3, 3, 6) for arm in ("left", "right")}
    state["base/velocity"] = rng.normal(size=2)
    origins = Origins(state, None, 0.02)
    values = np.concatenate([_some_values(part, rng) for part in described.outputs.action], axis=1)
    channels, targets = to_targets(values, described, MOBILE, origins)
    assert channels[-2:] == BASE_CHANNELS
    begin = sum(part["size"] for part in parts[:place])
    assert np.array_equal(targets[:, -2:], values[:, begin : begin + 2])
    back = to_values(targets, channels, described, MOBILE, origins)
    assert back == pytest.approx(values, abs=1e-9)


def _some_values(part: ActionSlice, rng: np.random.Generator) -> np.ndarray:
    """[5, size]: fractions of a gripper, else anything."""
    return rng.uniform(size=(5, 1)) if part.signal == "gripper" else rng.normal(size=(5, part.size))


def test_a_base_goes_on_through_statistics_and_the_first_rows() -> None:
    described = manifest([*ALOHA, BASE_ACTION])
    scaling = Scaling(np.full(16, -0.5), np.full(16, 1.5), np.ones(16, bool))
    raw = np.zeros((5, 16), np.float32)
    raw[:, 14:] = [[-1, 1]]
    chunk = decode(RawChunk(raw), SEEN, described, scaling, MOBILE)
    assert first_rows(chunk, 2).targets[:, -2:].tolist() == [[-0.5, 1.5]] * 2
    back = encode(chunk, {}, described, scaling, MOBILE).values
    assert back == pytest.approx(raw, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(speed=st.floats(*SPEEDS), seed=st.integers(0, 2**31), velocities=st.booleans())
def test_a_base_and_the_arms_go_the_same_way_at_any_speed(speed: float, seed: int, velocities: bool) -> None:
    """What is driven and turned until each row, the trapezoids between rows, and where the arms are then."""
    parts = [{**part} for part in ALOHA]
    if velocities:
        for part in parts[::2]:
            del part["reference"]
            part |= {"signal": "joint_velocity", "delta_base": "measured"}
    described = manifest([*parts, BASE_ACTION])
    rng = np.random.default_rng(seed)
    state = {f"{arm}/joint_position": rng.uniform(-1, 1, 6) for arm in ("left", "right")}
    seen = Observation({}, state, "", {}, SEEN.stamp_ns)
    low = np.full(16, -0.5)
    low[[6, 13]] = 0.0  # of the grippers
    scaling = Scaling(low, low + 1.0, np.ones(16, bool))
    raw = RawChunk(rng.uniform(-1, 1, (5, 16)).astype(np.float32))
    trained, played = (decode(raw, seen, described, scaling, MOBILE, at) for at in (1.0, speed))
    assert np.array_equal(played.targets[:, :-2], trained.targets[:, :-2])
    assert _way(played) == pytest.approx(_way(trained), abs=1e-7)
    assert encode(played, state, described, scaling, MOBILE, speed).values == pytest.approx(
        raw.values, abs=1e-5
    )


def _way(chunk: ActionChunk) -> np.ndarray:
    """[H - 1, 2]: m and rad from the first row to each of those after it."""
    seconds = np.diff(chunk.due_ns)[:, None] / 1e9
    driven = chunk.targets[:, -2:]
    return np.cumsum((driven[1:] + driven[:-1]) / 2 * seconds, axis=0)
