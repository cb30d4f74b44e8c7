"""What the emulated controllers accept and where they send the arm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.errors import Refused
from vla_ros.resources import robot_config
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.sim.controllers import ArmControllers, pose_matrix

MS = 1_000_000
T0 = 1_700_000_000 * 1000 * MS
FILE = robot_config("franka")
ARM = load_robot(FILE).arms["arm"]
KINEMATICS = Kinematics(read_urdf(FILE, ARM), ARM.joints, ARM.base_frame, ARM.tool_frame)
HOME = np.array(ARM.home)


def controllers() -> ArmControllers:
    return ArmControllers(ARM.joints, HOME, KINEMATICS, "base")


def refused(reason: str) -> Any:
    return pytest.raises(Refused, check=lambda error: error.reason == reason)


def test_holds_the_start_until_a_command_comes() -> None:
    np.testing.assert_array_equal(controllers().reference(T0), HOME)


def test_joint_position_jumps_and_holds() -> None:
    arm = controllers()
    arm.joint_position(HOME + 0.1)
    np.testing.assert_array_equal(arm.reference(T0), HOME + 0.1)
    np.testing.assert_array_equal(arm.reference(T0 + 10_000 * MS), HOME + 0.1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite_is_refused_and_changes_nothing(bad: float) -> None:
    arm = controllers()
    values = HOME.copy()
    values[3] = bad
    with refused("nan"):
        arm.joint_position(values)
    with refused("nan"):
        arm.joint_trajectory(ARM.joints, [(values, 10 * MS)], 0, T0)
    with refused("nan"):
        arm.cartesian_pose(np.full((4, 4), bad), "base")
    np.testing.assert_array_equal(arm.reference(T0 + 100 * MS), HOME)


def test_incomplete_commands_are_refused() -> None:
    arm = controllers()
    with refused("shape"):
        arm.joint_position(HOME[:6])
    with refused("joint_names"):
        arm.joint_trajectory(ARM.joints[:6], [(HOME[:6], 10 * MS)], 0, T0)
    with refused("joint_names"):
        arm.joint_trajectory([*ARM.joints[:6], "elbow"], [(HOME, 10 * MS)], 0, T0)
    with refused("shape"):
        arm.joint_trajectory(ARM.joints, [(HOME[:6], 10 * MS)], 0, T0)
    with refused("empty"):
        arm.joint_trajectory(ARM.joints, [], 0, T0)
    with refused("time"):
        arm.joint_trajectory(ARM.joints, [(HOME, 10 * MS), (HOME, 10 * MS)], 0, T0)
    with refused("late"):
        arm.joint_trajectory(ARM.joints, [(HOME + 1, 10 * MS)], T0 - 50 * MS, T0)
    np.testing.assert_array_equal(arm.reference(T0), HOME)


def test_a_trajectory_is_followed_in_straight_lines() -> None:
    arm = controllers()
    arm.joint_trajectory(ARM.joints, [(HOME + 0.1, 100 * MS), (HOME - 0.1, 300 * MS)], 0, T0)
    for ms, offset in ((0, 0.0), (50, 0.05), (100, 0.1), (200, 0.0), (300, -0.1), (900, -0.1)):
        np.testing.assert_allclose(arm.reference(T0 + ms * MS), HOME + offset, atol=1e-12)


def test_a_new_trajectory_replaces_the_old_from_where_the_reference_is() -> None:
    arm = controllers()
    arm.joint_trajectory(ARM.joints, [(HOME + 0.1, 100 * MS)], 0, T0)
    arm.joint_trajectory(ARM.joints, [(HOME, 50 * MS)], 0, T0 + 50 * MS)
    np.testing.assert_allclose(arm.reference(T0 + 75 * MS), HOME + 0.025, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 500 * MS), HOME, atol=1e-12)


def test_a_stamped_trajectory_is_followed_by_its_stamp() -> None:
    arm = controllers()
    arm.joint_trajectory(ARM.joints, [(HOME + 1, 10 * MS), (HOME + 0.2, 100 * MS)], T0 - 50 * MS, T0)
    np.testing.assert_allclose(arm.reference(T0 + 25 * MS), HOME + 0.1, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 50 * MS), HOME + 0.2, atol=1e-12)


@settings(deadline=None)
@given(st.permutations(range(7)))
def test_joints_are_matched_by_name(order: list[int]) -> None:
    arm = controllers()
    target = HOME + np.arange(7) / 100
    names = [ARM.joints[index] for index in order]
    arm.joint_trajectory(names, [(target[order], 10 * MS)], 0, T0)
    np.testing.assert_allclose(arm.reference(T0 + 10 * MS), target)


def test_a_pose_is_reached_through_inverse_kinematics() -> None:
    arm = controllers()
    pose = KINEMATICS.forward(HOME)
    pose[2, 3] -= 0.05
    arm.cartesian_pose(pose, "base")
    np.testing.assert_allclose(KINEMATICS.forward(arm.reference(T0)), pose, atol=1e-3)
    with refused("frame"):
        arm.cartesian_pose(pose, "camera")
    pose[0, 3] = 3.0
    before = arm.reference(T0)
    with refused("unreachable"):
        arm.cartesian_pose(pose, "base")
    np.testing.assert_array_equal(arm.reference(T0), before)


def test_pose_matrix() -> None:
    matrix = pose_matrix((1, 2, 3), (0, 0, 2, 2))
    np.testing.assert_allclose(matrix @ [1, 0, 0, 1], [1, 3, 3, 1], atol=1e-12)
    with refused("rotation"):
        pose_matrix((1, 2, 3), (0, 0, 0, 0))
