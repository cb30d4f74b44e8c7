"""What each driver is sent, as the driver's own sources read it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.errors import Refused
from vla_ros.robot.config import Arm, Gripper
from vla_ros.robot.drivers import driver_for, gripper_goal_position
from vla_ros.robot.load import load_robot
from vla_ros.types import FloatArray

pytest.importorskip("trajectory_msgs.msg", reason="needs the ROS 2 message packages")

FRANKA = load_robot(Path(__file__).parents[2] / "robot_configs" / "franka.yaml").arms["arm"]
Q = np.array([0.1, -0.7, 0.2, -2.3, 0.3, 1.5, 0.8])
STAMP = 1_700_000_000_123_456_789
DRIVERS = ["joint_trajectory", "joint_position", "cartesian_pose"]


def with_driver(name: str) -> Arm:
    return FRANKA.model_copy(update={"driver": name})


def pose(rotation: Rotation | None = None) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, 3] = [0.4, -0.1, 0.3]
    if rotation is not None:
        matrix[:3, :3] = rotation.as_matrix()
    return matrix


def test_joint_trajectory() -> None:
    driver = driver_for(with_driver("joint_trajectory"))
    assert driver.topic == "/joint_trajectory_controller/joint_trajectory"
    message = driver.message(Q, pose(), STAMP, 0.01)
    assert type(message) is driver.message_type
    assert type(message).__name__ == "JointTrajectory"
    assert list(message.joint_names) == FRANKA.joints
    assert len(message.points) == 1
    assert list(message.points[0].positions) == Q.tolist()
    assert (message.points[0].time_from_start.sec, message.points[0].time_from_start.nanosec) == (
        0,
        10_000_000,
    )
    # A stamp would have the controller drop the point when it arrives after its time.
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)


def test_joint_position() -> None:
    driver = driver_for(with_driver("joint_position"))
    assert driver.topic == "/forward_position_controller/commands"
    message = driver.message(Q, pose(), STAMP, 0.01)
    assert type(message).__name__ == "Float64MultiArray"
    assert list(message.data) == Q.tolist()


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_cartesian_pose(quaternion: list[float]) -> None:
    rotation = Rotation.from_quat(quaternion)
    message = driver_for(with_driver("cartesian_pose")).message(Q, pose(rotation), STAMP, 0.01)
    assert type(message).__name__ == "PoseStamped"
    assert message.header.frame_id == "base"
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP
    position, o = message.pose.position, message.pose.orientation
    assert [position.x, position.y, position.z] == [0.4, -0.1, 0.3]
    # The quaternion is xyzw (scipy's order too) and of unit length.
    assert (Rotation.from_quat([o.x, o.y, o.z, o.w]) * rotation.inv()).magnitude() < 1e-7
    assert math.hypot(o.x, o.y, o.z, o.w) == pytest.approx(1.0)


@pytest.mark.parametrize("name", DRIVERS)
def test_messages_survive_serialisation(name: str) -> None:
    """Every field has the type that the middleware wants."""
    serialization = pytest.importorskip("rclpy.serialization")
    driver = driver_for(with_driver(name))
    message = driver.message(Q, pose(), STAMP, 0.01)
    data = serialization.serialize_message(message)
    assert serialization.deserialize_message(data, driver.message_type) == message


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(name: str, bad: float) -> None:
    q = Q.copy()
    q[4] = bad
    with pytest.raises(Refused) as caught:
        driver_for(with_driver(name)).message(q, pose(), STAMP, 0.01)
    assert caught.value.reason == "nan"


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("count", [0, 6, 8])
def test_a_command_for_too_few_or_many_joints_is_refused(name: str, count: int) -> None:
    with pytest.raises(Refused) as caught:
        driver_for(with_driver(name)).message(np.zeros(count), pose(), STAMP, 0.01)
    assert caught.value.reason == "incomplete"


def test_cartesian_pose_refuses_a_bad_pose() -> None:
    driver = driver_for(with_driver("cartesian_pose"))
    for wrong, reason in ((np.eye(3), "incomplete"), (np.full((4, 4), math.nan), "nan")):
        with pytest.raises(Refused) as caught:
            driver.message(Q, wrong, STAMP, 0.01)
        assert caught.value.reason == reason


def test_franka_gripper_is_sent_one_fingers_travel() -> None:
    """franka_gripper doubles the goal's position and aborts beyond the hand's width."""
    gripper = FRANKA.gripper
    assert gripper is not None
    assert gripper_goal_position(gripper, 0.06) == pytest.approx(0.03)
    assert 2 * gripper_goal_position(gripper, 0.0801) <= 0.08
    assert gripper_goal_position(gripper, -0.001) == 0.0
    whole: Gripper = gripper.model_copy(update={"position_is": "width"})
    assert gripper_goal_position(whole, 0.06) == pytest.approx(0.06)
    for bad in (math.nan, math.inf):
        with pytest.raises(Refused) as caught:
            gripper_goal_position(gripper, bad)
        assert caught.value.reason == "nan"
