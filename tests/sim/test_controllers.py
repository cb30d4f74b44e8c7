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
from vla_ros.sim.controllers import ArmControllers, TrajectoryPoint, pose_matrix

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
        arm.joint_trajectory(ARM.joints, [TrajectoryPoint(values, 10 * MS)], 0, T0)
    with refused("nan"):
        arm.cartesian_pose(np.full((4, 4), bad), "base")
    np.testing.assert_array_equal(arm.reference(T0 + 100 * MS), HOME)


def test_incomplete_commands_are_refused() -> None:
    arm = controllers()
    with refused("shape"):
        arm.joint_position(HOME[:6])
    with refused("joint_names"):
        arm.joint_trajectory(ARM.joints[:6], [TrajectoryPoint(HOME[:6], 10 * MS)], 0, T0)
    with refused("joint_names"):
        arm.joint_trajectory([*ARM.joints[:6], "elbow"], [TrajectoryPoint(HOME, 10 * MS)], 0, T0)
    with refused("shape"):
        arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME[:6], 10 * MS)], 0, T0)
    with refused("empty"):
        arm.joint_trajectory(ARM.joints, [], 0, T0)
    with refused("time"):
        arm.joint_trajectory(
            ARM.joints, [TrajectoryPoint(HOME, 10 * MS), TrajectoryPoint(HOME, 10 * MS)], 0, T0
        )
    with refused("shape"):
        arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME, 10 * MS, HOME[:6])], 0, T0)
    with refused("late"):
        arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME + 1, 10 * MS)], T0 - 50 * MS, T0)
    np.testing.assert_array_equal(arm.reference(T0), HOME)


def test_a_trajectory_is_followed_in_straight_lines() -> None:
    arm = controllers()
    arm.joint_trajectory(
        ARM.joints, [TrajectoryPoint(HOME + 0.1, 100 * MS), TrajectoryPoint(HOME - 0.1, 300 * MS)], 0, T0
    )
    for ms, offset in ((0, 0.0), (50, 0.05), (100, 0.1), (200, 0.0), (300, -0.1), (900, -0.1)):
        np.testing.assert_allclose(arm.reference(T0 + ms * MS), HOME + offset, atol=1e-12)


def test_a_new_trajectory_replaces_the_old_from_what_was_commanded_last() -> None:
    arm = controllers()
    arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME + 0.1, 100 * MS)], 0, T0)
    arm.reference(T0 + 49 * MS)
    arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME - 0.001, 50 * MS)], 0, T0 + 50 * MS)
    # Humble takes what it commanded a period ago for the state of now.
    np.testing.assert_allclose(arm.reference(T0 + 50 * MS), HOME + 0.049, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 75 * MS), HOME + 0.024, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 500 * MS), HOME - 0.001, atol=1e-12)


def test_points_of_the_past_are_a_part_of_a_stamped_trajectory() -> None:
    arm = controllers()
    points = [TrajectoryPoint(HOME + 1, 10 * MS), TrajectoryPoint(HOME + 0.1, 100 * MS)]
    arm.joint_trajectory(ARM.joints, points, T0 - 50 * MS, T0)
    np.testing.assert_allclose(arm.reference(T0 + 20 * MS), HOME + 0.4, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 50 * MS), HOME + 0.1, atol=1e-12)
    np.testing.assert_allclose(arm.reference(T0 + 90 * MS), HOME + 0.1, atol=1e-12)


@pytest.mark.parametrize("degree", [3, 5])
def test_velocities_make_cubics_and_accelerations_quintics(degree: int) -> None:
    """A polynomial of that degree comes back exactly from its states at any times, taken up in the middle."""
    rng = np.random.default_rng(degree)
    curves = [np.polynomial.Polynomial([q, *rng.normal(scale=0.1, size=degree)]) for q in HOME]

    def point(ms: int) -> TrajectoryPoint:
        rows = [np.array([curve.deriv(n)(ms / 1000) for curve in curves]) for n in (0, 1, 2)]
        return TrajectoryPoint(rows[0], ms * MS, rows[1], *rows[2:] if degree == 5 else [])

    arm = controllers()
    arm.joint_trajectory(ARM.joints, [point(ms) for ms in (0, 400, 500, 1000)], T0, T0 + 3 * MS)
    for ms in range(3, 1000, 7):
        expected = [curve(ms / 1000) for curve in curves]
        np.testing.assert_allclose(arm.reference(T0 + ms * MS), expected, atol=1e-10)


def test_a_trajectory_is_entered_with_the_velocity_and_acceleration_at_hand() -> None:
    arm = controllers()
    still = np.zeros(7)
    arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME + 0.2, 400 * MS, still, still)], 0, T0)
    track = [arm.reference(T0 + ms * MS) for ms in range(150)]
    arm.joint_trajectory(ARM.joints, [TrajectoryPoint(HOME, 300 * MS, still, still)], 0, T0 + 150 * MS)
    track += [arm.reference(T0 + ms * MS) for ms in range(150, 500)]
    # But for the sample that comes twice.
    del track[150]
    velocity = np.diff(np.array(track)[:, 0]) / 0.001
    assert velocity.max() > 0.5
    assert np.abs(np.diff(velocity)).max() / 0.001 < 30
    np.testing.assert_allclose(track[-1], HOME, atol=1e-12)


@settings(deadline=None)
@given(st.permutations(range(7)))
def test_joints_are_matched_by_name(order: list[int]) -> None:
    arm = controllers()
    target = HOME + np.arange(7) / 100
    names = [ARM.joints[index] for index in order]
    arm.joint_trajectory(names, [TrajectoryPoint(target[order], 10 * MS)], 0, T0)
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
