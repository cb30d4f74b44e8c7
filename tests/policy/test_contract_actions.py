"""What a policy's actions ask of a robot, slice by slice, and what their statistics may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.action.manifests import ARM, gripper_part, manifest, pose_parts
from tests.tiny_bundle import franka_fields, manifest_fields, write_tiny_bundle
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract import ContractLine, match, require
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.policy.ranges import beyond, possible_action
from vla_ros.robot.config import Robot

FRANKA = Robot.model_validate(franka_fields())
JOINTS = {"arm": "arm", "size": 7}


def bundle_of(folder: Path, action: list[dict[str, Any]], **outputs: Any) -> Bundle:
    """A bundle that gives `action`, with statistics that scale nothing."""
    fields = manifest_fields()
    fields["outputs"] |= {"action": action, **outputs}
    fields["normalisation"]["action"] = {"kind": "none"}
    if "anchor_span_s" in outputs:
        del fields["outputs"]["dt_s"]
    return write_tiny_bundle(folder, **fields)


def lines(bundle: Bundle) -> dict[str, ContractLine]:
    return {line.what: line for line in match(bundle, FRANKA) if line.what.startswith(("action", "rate"))}


def test_each_line_says_what_the_values_mean(tmp_path: Path) -> None:
    action = [
        *pose_parts("bridge_delta", "world_delta", "euler_xyz", 3),
        gripper_part(unit="signed", open_is=-1, binary={"threshold": 0.0}),
        {"signal": "padding", "size": 25},
    ]
    found = lines(bundle_of(tmp_path, action))
    assert all(line.ok for line in found.values())
    assert found["action arm.tcp_position"].policy_says == "3, bridge_delta, from the last target"
    assert found["action arm.tcp_rotation"].policy_says == "3, euler_xyz, world_delta, from the last target"
    assert found["action arm.gripper"].policy_says == "1, signed, closed or open by 0"
    assert found["action padding"].policy_says == "25 columns"


def test_anchors_have_a_rate(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, pose_parts(), anchor_span_s=4.0)
    assert lines(bundle)["rate"].policy_says == "steps at 4 Hz"
    require(bundle, FRANKA)


@pytest.mark.parametrize(
    ("action", "what", "says"),
    [
        (
            [*pose_parts(), {**JOINTS, "signal": "joint_position", "reference": "absolute"}],
            "action arm",
            "gives a tool pose and joint_position for arm 'arm': which of them to follow is not declared",
        ),
        (
            [
                {**JOINTS, "signal": "joint_velocity", "delta_base": "measured"},
                {**JOINTS, "signal": "joint_position", "reference": "delta", "delta_base": "measured"},
            ],
            "action arm",
            "gives joint_position and joint_velocity",
        ),
        (pose_parts()[1:], "action arm", "a tool pose needs tcp_position and tcp_rotation"),
        (
            [*pose_parts(), {"signal": "base_velocity", "size": 2}],
            "action base_velocity",
            "drives a base (base_velocity); robot 'franka' takes none",
        ),
        (
            [{"arm": "arm", "signal": "joint_velocity", "size": 6, "delta_base": "measured"}],
            "action arm.joint_velocity",
            "has 6 joint_velocity values for arm 'arm'; robot 'franka' arm 'arm' has 7 joints",
        ),
    ],
)
def test_what_the_robot_cannot_follow(tmp_path: Path, action, what: str, says: str) -> None:
    bundle = bundle_of(tmp_path, action)
    line = lines(bundle)[what]
    assert not line.ok
    assert says in line.fix
    with pytest.raises(ContractError):
        require(bundle, FRANKA)


LOW, HIGH = np.array(ARM.limits.position).T
RELATIVE = {**JOINTS, "signal": "joint_position", "reference": "relative"}


@pytest.mark.parametrize(
    ("part", "fits", "does_not"),
    [
        (pose_parts("absolute")[0], (0.2, 0.5), (200.0, 500.0)),
        (pose_parts("world_relative")[0], (-1.2, 1.2), (-50.0, 50.0)),
        (pose_parts("absolute")[0], (0.2, 0.5), (-1.2, 1.2)),
        (pose_parts(form="rot6d_rows")[1], (-1.0, 1.0), (-57.3, 57.3)),
        (pose_parts(form="euler_xyz", size=3)[1], (-3.2, 3.2), (-180.0, 180.0)),
        # robosuite's reach to 2 pi
        (pose_parts(form="axis_angle", size=3)[1], (-3.3, 5.9), (0.0, 90.0)),
        (pose_parts(form="quaternion_wxyz", size=4)[1], (-1.0, 1.0), (-2.0, 2.0)),
        ({**JOINTS, "signal": "joint_position", "reference": "absolute"}, (LOW, HIGH), (LOW * 57, HIGH * 57)),
        (RELATIVE, (-0.5, 0.5), (-30.0, 30.0)),
        ({**JOINTS, "signal": "joint_velocity", "delta_base": "measured"}, (-2.0, 2.0), (-100.0, 100.0)),
        (gripper_part(unit="open_fraction"), (0.0, 1.0), (-1.0, 1.0)),
        (gripper_part(unit="signed", open_is=-1), (-1.0, 1.0), (0.0, 1000.0)),
        (gripper_part(unit="width_m"), (0.0, 0.08), (0.0, 80.0)),
        (gripper_part(unit="finger_m", closed=0.0, open=0.04), (0.0, 0.04), (0.0, 0.08)),
        (gripper_part(unit="joint_rad", closed=0.8, open=0.0), (0.0, 0.8), (0.0, 45.0)),
        (gripper_part(unit="logit", open_is=1), (-40.0, 40.0), None),
    ],
)
def test_statistics_in_each_convention(part, fits, does_not) -> None:
    one = ActionSlice.model_validate(part)
    possible = possible_action(one, ARM, FRANKA.safety)
    for ends, expected in ((fits, True), (does_not, False)):
        if ends is not None:
            low, high = (np.broadcast_to(end, one.size) for end in ends)
            assert (beyond(low, high, *possible) == "") is expected


def test_joints_that_are_not_relative_or_counted_the_other_way_have_their_own_limits() -> None:
    mask = [False] * 3 + [True] * 4
    low, high, _ = possible_action(ActionSlice.model_validate({**RELATIVE, "mask": mask}), ARM, FRANKA.safety)
    span = HIGH - LOW
    assert low[:3] == pytest.approx((LOW - 0.1 * span)[:3])
    assert high[3:] == pytest.approx((1.2 * span)[3:])
    # The fourth joint lies in [-3.05, -0.15]: counted the other way it is positive.
    flipped = {**JOINTS, "signal": "joint_position", "reference": "absolute", "signs": [1, 1, 1, -1, 1, 1, 1]}
    low, high, _ = possible_action(ActionSlice.model_validate(flipped), ARM, FRANKA.safety)
    assert (low[3], high[3]) == pytest.approx((-HIGH[3] - 0.1 * span[3], -LOW[3] + 0.1 * span[3]))


def test_a_manifest_may_say_it_all_at_once() -> None:
    """Two arms in one row, each in its own convention."""
    described = manifest(
        [
            *pose_parts("world_relative", "absolute", "rot6d_columns_interleaved", 6, arm="left"),
            gripper_part("left", unit="logit", open_is=-1, binary={"threshold": 0.8, "sticky_steps": 15}),
            {**RELATIVE, "arm": "right", "mask": [True] * 7},
            gripper_part("right", unit="joint_rad", closed=0.6197, open=1.6214),
            {"signal": "padding", "size": 14},
        ]
    )
    assert described.outputs.size == 32
