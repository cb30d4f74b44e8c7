from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from tests.tiny_bundle import franka_fields, manifest_fields
from vla_ros.errors import ContractError, Refused
from vla_ros.observation.proprioception import horn_value, state_vector, with_predicted_state
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import Horn, StateSlice
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation

# openpi, src/openpi/policies/aloha_policy.py
ALOHA_HORN = {"travel": [0.01844, 0.058], "horn_m": 0.022, "rod_m": 0.036, "angle": [0.5476, 1.6296]}
ALOHA_SIGNS = [1, -1, -1, 1, 1, 1]
# rail-berkeley/bridge_data_robot, widowx_controller.py
BRIDGE_DEFAULT = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]
QUATERNION = Rotation.from_euler("xyz", [0.3, -0.2, 2.0]).as_quat()


def robot(*names: str, joints: int = 6) -> Robot:
    """A robot of such arms, in this order; grippers from 0.01 to 0.09 m."""
    fields = franka_fields()
    arm = fields["arms"]["arm"]
    arm["joints"] = arm["joints"][:joints]
    arm["home"] = arm["home"][:joints]
    arm["limits"] = {name: values[:joints] for name, values in arm["limits"].items()}
    arm["gripper"]["width"] = [0.01, 0.09]
    arms = {name: copy.deepcopy(arm) for name in names}
    for index, each in enumerate(arms.values()):
        each["base_pose"] = {"position": [0.0, float(index), 0.0]}
    return Robot.model_validate({**fields, "arms": arms})


def manifest(state: list[dict[str, Any]], arms: tuple[str, ...] = ("arm",), **changes: Any) -> Manifest:
    fields = manifest_fields()
    fields["arms"] = list(arms)
    fields["inputs"]["state"] = state
    fields["outputs"]["action"] = [{**part, "arm": arms[0]} for part in fields["outputs"]["action"]]
    return Manifest.model_validate({**fields, "sha256": {}, **changes})


def observation(**groups: Any) -> Observation:
    """`left__joint_position=...` becomes the group left/joint_position."""
    state = {name.replace("__", "/"): np.array(values, dtype=float) for name, values in groups.items()}
    return Observation(images={}, state=state, prompt="", stamps_ns={}, stamp_ns=10**18)


def state_of(
    parts: list[dict[str, Any]], seen: Observation, arms: tuple[str, ...] = ("arm",), **changes: Any
) -> list[float]:
    """The state of a policy with these arm roles, on a robot whose arms have the same names."""
    body = robot(*arms)
    pairs = dict(zip(arms, body.arms.items(), strict=True))
    return state_vector(manifest(parts, arms, **changes), pairs, seen).tolist()


POSE = observation(
    arm__tcp_pose=[0.4, 0.1, 0.3, *QUATERNION],
    arm__joint_position=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
    arm__gripper=[0.03],
)


def test_slices_in_their_order_with_padding_between() -> None:
    parts = [
        {"arm": "arm", "signal": "gripper", "gripper": {"unit": "width_m"}, "size": 1},
        {"signal": "padding", "size": 2},
        {"arm": "arm", "signal": "joint_position", "size": 6},
        {"arm": "arm", "signal": "tcp_position", "size": 3},
    ]
    assert state_of(parts, POSE) == [0.03, 0, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.4, 0.1, 0.3]


# --- rotations ------------------------------------------------------------------------------------

# Euler angles are not unique: the rotation that they mean is compared.
SCIPY = {
    "axis_angle": lambda r: r.as_rotvec(),
    "quaternion_xyzw": lambda r: r.as_quat(canonical=True),
    "quaternion_wxyz": lambda r: np.roll(r.as_quat(canonical=True), 1),
    "euler_xyz": lambda r: np.zeros(3),
    "euler_ZYX": lambda r: np.zeros(3),
    "rot6d_columns": lambda r: np.concatenate([r.as_matrix()[:, 0], r.as_matrix()[:, 1]]),
    "rot6d_columns_interleaved": lambda r: r.as_matrix()[:, :2].ravel(),
    "rot6d_rows": lambda r: r.as_matrix()[:2].ravel(),
}


@given(
    form=st.sampled_from(sorted(SCIPY)),
    q=st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1),
)
def test_the_tool_s_rotation_in_every_form(form: str, q: list[float]) -> None:
    rotation = Rotation.from_quat(q)
    seen = observation(arm__tcp_pose=[0, 0, 0, *rotation.as_quat()])
    expected = SCIPY[form](rotation)
    part = {"arm": "arm", "signal": "tcp_rotation", "rotation": form, "size": len(expected)}
    found = np.array(state_of([part], seen))
    if form.startswith("quaternion"):
        expected = expected if expected @ found > 0 else -expected
    if form == "axis_angle" and rotation.magnitude() > math.pi - 1e-6:
        expected, found = (Rotation.from_rotvec(v).as_matrix() for v in (expected, found))
    if form.startswith("euler"):
        expected = rotation.as_matrix()
        found = Rotation.from_euler(form.removeprefix("euler_"), found).as_matrix()
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("form", "identity", "quarter"),
    [
        ("rot6d_columns", [1, 0, 0, 0, 1, 0], [0, 1, 0, -1, 0, 0]),
        ("rot6d_columns_interleaved", [1, 0, 0, 1, 0, 0], [0, -1, 1, 0, 0, 0]),
        ("rot6d_rows", [1, 0, 0, 0, 1, 0], [0, -1, 0, 1, 0, 0]),
        ("axis_angle", [0, 0, 0], [0, 0, math.pi / 2]),
        ("quaternion_xyzw", [0, 0, 0, 1], [0, 0, math.sqrt(0.5), math.sqrt(0.5)]),
        ("quaternion_wxyz", [1, 0, 0, 0], [math.sqrt(0.5), 0, 0, math.sqrt(0.5)]),
        ("euler_xyz", [0, 0, 0], [0, 0, math.pi / 2]),
        ("euler_ZYX", [0, 0, 0], [math.pi / 2, 0, 0]),
    ],
)
def test_no_turn_and_a_quarter_turn_about_z_by_hand(form: str, identity: list, quarter: list) -> None:
    """The turn's matrix is [[0, -1, 0], [1, 0, 0], [0, 0, 1]]."""
    part = {"arm": "arm", "signal": "tcp_rotation", "rotation": form, "size": len(identity)}
    for angle, expected in ((0.0, identity), (math.pi / 2, quarter)):
        q = [0, 0, math.sin(angle / 2), math.cos(angle / 2)]
        found = state_of([part], observation(arm__tcp_pose=[0, 0, 0, *q]))
        assert found == pytest.approx(expected, abs=1e-12)


def test_bridge_s_state_is_turned_from_its_default() -> None:
    """BridgeData V2: R default_rot^T as roll, pitch, yaw about fixed axes.

    At the start pose the gripper points down: R = default_rot, so the state is 0, 0, 0. Turned by 0.5 about
    the base's z axis from there, R = Rz(0.5) default_rot, it is 0, 0, 0.5. In the robot's own axes its pitch
    is pi/2 all the time.
    """
    part = {"arm": "arm", "signal": "tcp_rotation", "rotation": "euler_xyz", "size": 3}
    declared = {"tool_rotations": {"arm": np.array(BRIDGE_DEFAULT).T.tolist()}}
    for turn, expected in ((np.eye(3), [0, 0, 0]), (Rotation.from_euler("z", 0.5).as_matrix(), [0, 0, 0.5])):
        q = Rotation.from_matrix(turn @ np.array(BRIDGE_DEFAULT)).as_quat()
        seen = observation(arm__tcp_pose=[0.3, 0, 0.15, *q])
        assert state_of([part], seen, **declared) == pytest.approx(expected, abs=1e-12)
        assert abs(state_of([part], seen)[1]) == pytest.approx(math.pi / 2, abs=1e-7)


# --- joints and grippers --------------------------------------------------------------------------


def test_pi0_counts_two_of_aloha_s_joints_the_other_way() -> None:
    part = {"arm": "arm", "signal": "joint_position", "size": 6, "signs": ALOHA_SIGNS}
    assert state_of([part], POSE) == [0.1, -0.2, -0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("unit", "closed", "half", "opened"),
    [
        ({"unit": "width_m"}, 0.01, 0.05, 0.09),
        ({"unit": "open_fraction"}, 0, 0.5, 1),
        ({"unit": "closed_fraction"}, 1, 0.5, 0),
        ({"unit": "signed", "open_is": 1}, -1, 0, 1),
        ({"unit": "signed", "open_is": -1}, 1, 0, -1),
        ({"unit": "finger_m", "closed": 0.015, "open": 0.037}, 0.015, 0.026, 0.037),
        ({"unit": "joint_rad", "closed": 1.4910, "open": -0.6213}, 1.4910, 0.43485, -0.6213),
    ],
)
def test_the_gripper_in_every_unit(unit: dict[str, Any], closed: float, half: float, opened: float) -> None:
    part = {"arm": "arm", "signal": "gripper", "gripper": unit, "size": 1}
    for width, expected in ((0.01, closed), (0.05, half), (0.09, opened)):
        assert state_of([part], observation(arm__gripper=[width])) == pytest.approx([expected])


def test_pi0_sees_aloha_s_gripper_through_its_horn() -> None:
    """openpi's `_gripper_to_angular`, by hand.

    Closed: travel 0.01844, sine (0.022^2 + 0.01844^2 - 0.036^2) / (2 * 0.022 * 0.01844)
            = -0.0004719664 / 0.00081136 = -0.581698, value (asin(-0.581698) - 0.5476) / 1.082.
    Open:   travel 0.058 = 0.022 + 0.036: horn and rod in line, sine 1, angle pi/2.
    Half:   travel 0.03822, sine (0.000484 + 0.0014607684 - 0.001296) / 0.00168168 = 0.385786.
    """
    part = {"arm": "arm", "signal": "gripper", "horn": ALOHA_HORN, "size": 1}
    for width, angle in ((0.01, math.asin(-0.581698)), (0.05, math.asin(0.385786)), (0.09, math.pi / 2)):
        found = state_of([part], observation(arm__gripper=[width]))
        assert found == pytest.approx([(angle - 0.5476) / 1.082], abs=2e-6)


@given(st.floats(-0.2, 1.2))
def test_the_horn_agrees_with_openpi_s_formula_written_out(opened: float) -> None:
    length = opened * (0.05800 - 0.01844) + 0.01844
    ratio = (0.022**2 + length**2 - 0.036**2) / (2 * 0.022 * length)
    expected = (np.arcsin(np.clip(ratio, -1.0, 1.0)) - 0.5476) / (1.6296 - 0.5476)
    assert horn_value(Horn.model_validate(ALOHA_HORN), opened) == pytest.approx(expected, abs=1e-9)


# --- which value goes where -----------------------------------------------------------------------


@pytest.mark.parametrize("sent", [("left", "right"), ("right", "left")])
def test_a_bimanual_state_is_in_the_model_s_order_whatever_is_sent_first(sent: tuple[str, str]) -> None:
    """A released adapter added the state as sent to actions in the model's order: dimensions 6 to 12 were of
    other joints.

    ALOHA's 14: six joints and the gripper of the left arm, then those of the right one.
    """
    values = {
        "left": {"joint_position": [1, 2, 3, 4, 5, 6], "gripper": [0.05]},
        "right": {"joint_position": [11, 12, 13, 14, 15, 16], "gripper": [0.09]},
    }
    seen = observation(**{f"{arm}__{group}": value for arm in sent for group, value in values[arm].items()})
    unit = {"gripper": {"unit": "open_fraction"}, "size": 1}
    aloha = [
        {"arm": "left", "signal": "joint_position", "size": 6},
        {"arm": "left", "signal": "gripper", **unit},
        {"arm": "right", "signal": "joint_position", "size": 6},
        {"arm": "right", "signal": "gripper", **unit},
    ]
    expected = [1, 2, 3, 4, 5, 6, 0.5, 11, 12, 13, 14, 15, 16, 1]
    assert state_of(aloha, seen, ("left", "right")) == pytest.approx(expected)
    joints_first = [aloha[0], aloha[2], aloha[1], aloha[3]]
    expected = [1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16, 0.5, 1]
    assert state_of(joints_first, seen, ("left", "right")) == pytest.approx(expected)


def test_pi0_s_fourteen_of_an_aloha() -> None:
    """openpi's mask [1, -1, -1, 1, 1, 1, 1] per arm, and each gripper through its horn."""
    groups: dict[str, Any] = {}
    for arm, first in (("left", 0.1), ("right", 1.1)):
        groups[f"{arm}__joint_position"] = first + np.arange(6) / 10
        groups[f"{arm}__gripper"] = [0.09]
    parts = []
    for arm in ("left", "right"):
        parts.append({"arm": arm, "signal": "joint_position", "size": 6, "signs": ALOHA_SIGNS})
        parts.append({"arm": arm, "signal": "gripper", "horn": ALOHA_HORN, "size": 1})
    opened = (math.pi / 2 - 0.5476) / 1.082
    expected = [0.1, -0.2, -0.3, 0.4, 0.5, 0.6, opened, 1.1, -1.2, -1.3, 1.4, 1.5, 1.6, opened]
    assert state_of(parts, observation(**groups), ("left", "right")) == pytest.approx(expected, abs=2e-6)


def test_x_vla_s_twenty_of_one_arm_and_of_two() -> None:
    """Left 0 to 9, right 10 to 19: position, interleaved rot6d, gripper; one arm's right half is zeros."""
    arms = ("left", "right")
    parts = [
        {"arm": arm, **part}
        for arm in arms
        for part in (
            {"signal": "tcp_position", "size": 3},
            {"signal": "tcp_rotation", "rotation": "rot6d_columns_interleaved", "size": 6},
            {"signal": "gripper", "gripper": {"unit": "open_fraction"}, "size": 1},
        )
    ]
    q = [0, 0, math.sqrt(0.5), math.sqrt(0.5)]
    seen = observation(
        left__tcp_pose=[0.1, 0.2, 0.3, 0, 0, 0, 1],
        left__gripper=[0.01],
        right__tcp_pose=[0.4, 0.5, 0.6, *q],
        right__gripper=[0.09],
    )
    left = [0.1, 0.2, 0.3, 1, 0, 0, 1, 0, 0, 0]
    right = [0.4, 0.5, 0.6, 0, -1, 1, 0, 0, 0, 1]
    assert state_of(parts, seen, arms) == pytest.approx([*left, *right])
    assert state_of([*parts[:3], {"signal": "padding", "size": 10}], seen, arms) == pytest.approx(
        left + [0] * 10
    )


def test_roles_play_the_robot_s_arms_in_order() -> None:
    parts = [
        {"arm": "b", "signal": "tcp_position", "size": 3},
        {"arm": "a", "signal": "tcp_position", "size": 3},
    ]
    seen = observation(left__tcp_pose=[1, 1, 1, 0, 0, 0, 1], right__tcp_pose=[2, 2, 2, 0, 0, 0, 1])
    body = robot("left", "right")
    pairs = dict(zip(("a", "b"), body.arms.items(), strict=True))
    found = state_vector(manifest(parts, ("a", "b")), pairs, seen)
    assert found.tolist() == [2, 2, 2, 1, 1, 1]


@pytest.mark.parametrize(
    "part",
    [
        {"signal": "joint_position", "size": 6},
        {"signal": "tcp_position", "size": 3},
        {"signal": "tcp_rotation", "rotation": "axis_angle", "size": 3},
        {"signal": "gripper", "gripper": {"unit": "width_m"}, "size": 1},
    ],
)
def test_what_is_missing_is_refused_and_never_zero(part: dict[str, Any]) -> None:
    """Released adapters send zeros as proprioception where there is none."""
    with pytest.raises(Refused) as caught:
        state_of([{"arm": "arm", **part}], observation())
    assert caught.value.reason == "incomplete"


def test_another_number_of_joints_is_refused() -> None:
    with pytest.raises(Refused, match="has 6 values, the policy needs 7"):
        state_of([{"arm": "arm", "signal": "joint_position", "size": 7}], POSE)


def test_a_gripper_that_the_robot_has_not_is_refused() -> None:
    fields = franka_fields()
    del fields["arms"]["arm"]["gripper"]
    body = Robot.model_validate(fields)
    part = {"arm": "arm", "signal": "gripper", "gripper": {"unit": "width_m"}, "size": 1}
    with pytest.raises(ContractError, match="declares none"):
        state_vector(manifest([part]), {"arm": ("arm", body.arms["arm"])}, POSE)


# --- the policy's own last prediction -------------------------------------------------------------


def chunk(rows: int = 3) -> ActionChunk:
    """Rows due 100 ms apart from 10^18 on: joints and gripper of arm `left`, the tool of arm `right`."""
    channels = (*joint_channels("left", 6), gripper_channel("left"), *tool_channels("right"))
    targets = np.arange(rows)[:, None] + np.arange(len(channels)) / 100
    due = 10**18 + np.arange(rows) * 10**8
    return ActionChunk(channels, targets, due.astype(np.int64), 10**18 - 10**8)


MEASURED = observation(
    left__joint_position=[9] * 6,
    left__gripper=[9],
    left__tcp_pose=[9] * 7,
    right__tcp_pose=[9] * 7,
    right__joint_position=[9] * 6,
)


@pytest.mark.parametrize(("after_ms", "row"), [(0, 0), (99, 0), (100, 1), (199, 1), (200, 2), (5000, 2)])
def test_the_row_that_was_due_last_stands_for_the_state(after_ms: int, row: int) -> None:
    seen = Observation({}, MEASURED.state, "", {}, 10**18 + after_ms * 10**6)
    state = with_predicted_state(seen, chunk()).state
    assert state["left/joint_position"] == pytest.approx(row + np.arange(6) / 100)
    assert state["left/gripper"] == pytest.approx([row + 0.06])
    assert state["right/tcp_pose"] == pytest.approx(row + np.arange(7, 14) / 100)


def test_what_is_not_commanded_stays_as_measured() -> None:
    state = with_predicted_state(MEASURED, chunk()).state
    assert state["left/tcp_pose"].tolist() == [9] * 7
    assert state["right/joint_position"].tolist() == [9] * 6
    assert MEASURED.state["left/gripper"].tolist() == [9]
    seven = Observation({}, {"left/joint_position": np.full(7, 9.0)}, "", {}, 10**18)
    assert with_predicted_state(seven, chunk()).state["left/joint_position"].tolist() == [9] * 7


def test_before_the_first_row_is_due_the_measured_state_is_shown() -> None:
    early = Observation({}, MEASURED.state, "", {}, 10**18 - 1)
    assert with_predicted_state(early, chunk()) is early
    assert with_predicted_state(MEASURED, None) is MEASURED


# --- declarations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"arm": "arm", "signal": "tcp_position", "size": 4}, "tcp_position has 3 values, not 4"),
        ({"arm": "arm", "signal": "tcp_rotation", "size": 3}, "rotation .* is needed for tcp_rotation"),
        ({"arm": "arm", "signal": "tcp_rotation", "rotation": "axis_angle", "size": 6}, "3 values, not 6"),
        ({"arm": "arm", "signal": "tcp_rotation", "rotation": "rot9d", "size": 9}, "rot9d"),
        ({"arm": "arm", "signal": "gripper", "size": 1}, "one of them"),
        (
            {
                "arm": "arm",
                "signal": "gripper",
                "size": 1,
                "gripper": {"unit": "width_m"},
                "horn": ALOHA_HORN,
            },
            "one of them",
        ),
        ({"arm": "arm", "signal": "tcp_position", "size": 3, "gripper": {"unit": "width_m"}}, "only there"),
        ({"arm": "arm", "signal": "padding", "size": 3}, "all signals but base_velocity and padding"),
        ({"arm": "arm", "signal": "base_velocity", "size": 2}, "all signals but base_velocity and padding"),
        ({"signal": "base_velocity", "size": 3}, "base_velocity has 2 values, not 3"),
        ({"signal": "joint_position", "size": 3}, "all signals but base_velocity and padding"),
        ({"arm": "arm", "signal": "joint_position", "size": 6, "signs": [1, -1]}, "one for each joint"),
        ({"arm": "arm", "signal": "tcp_position", "size": 3, "signs": [1, 1, 1]}, "for joint_position"),
        ({"arm": "arm", "signal": "joint_position", "size": 2, "signs": [1, 0]}, "signs"),
    ],
)
def test_a_slice_that_contradicts_itself_is_refused(part: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        StateSlice.model_validate(part)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"travel": [0.01, 0.058]}, "never reach 0.01"),
        ({"travel": [0.058, 0.01844]}, "further apart"),
        ({"angle": [1.0, 1.0]}, "further apart"),
    ],
)
def test_a_linkage_that_cannot_be_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Horn.model_validate({**ALOHA_HORN, **change})
