"""One class per driver protocol: from joint targets to the driver's message.

Message packages are imported when a driver is made, so that a robot can be loaded and checked where
there is no ROS.
"""

from __future__ import annotations

from array import array
from typing import Any, Protocol

import numpy as np

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.errors import Refused
from vla_ros.robot.config import Arm, Gripper
from vla_ros.types import FloatArray


class Driver(Protocol):
    """A driver's topic and how a target is said on it."""

    topic: str
    message_type: type

    def message(self, q: FloatArray, tool_pose: FloatArray, stamp_ns: int, period_s: float) -> Any:
        """The message that commands joints q.

        q: float64 [J], rad, in the order of the YAML's `joints`. tool_pose: 4x4, forward(q), tool in
        base frame. stamp_ns: now, ROS clock. period_s: time to the next command.

        Raises Refused: "incomplete" (wrong shape), "nan" (not finite).
        """
        ...


def driver_for(arm: Arm) -> Driver:
    """The driver that the arm's YAML chooses. Raises ImportError without the ROS message packages."""
    return _DRIVERS[arm.driver](arm)


def gripper_goal_position(gripper: Gripper, width: float) -> float:
    """GripperCommand.position (m) for an opening width (m), which is first brought into the YAML's range.

    Drivers abort a goal beyond their range (franka_gripper does), while a policy may well ask for a
    hair more than open. Raises Refused "nan".
    """
    if not np.isfinite(width):
        raise Refused("nan", f"gripper width is {width}")
    low, high = gripper.width
    inside = min(max(float(width), low), high)
    return inside / len(gripper.joints) if gripper.position_is == "finger" else inside


class JointTrajectory:
    """trajectory_msgs/JointTrajectory with one point, to be reached in one period.

    The header's stamp stays zero, which means "now": joint_trajectory_controller drops a trajectory
    with a stamp whose last point is past when it arrives.
    """

    def __init__(self, arm: Arm) -> None:
        from trajectory_msgs.msg import JointTrajectory as Message
        from trajectory_msgs.msg import JointTrajectoryPoint

        assert arm.drivers.joint_trajectory is not None
        self.topic = arm.drivers.joint_trajectory.topic
        self.message_type: type = Message
        self._point_type: Any = JointTrajectoryPoint
        self._joints = list(arm.joints)

    def message(self, q: FloatArray, tool_pose: FloatArray, stamp_ns: int, period_s: float) -> Any:
        """See Driver.message."""
        _check_joints(q, len(self._joints))
        point = self._point_type()
        point.positions = array("d", q)
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(round(period_s * 1e9), 10**9)
        message: Any = self.message_type()
        message.joint_names = self._joints
        message.points = [point]
        return message


class JointPosition:
    """std_msgs/Float64MultiArray with one number per joint, in the controller's order."""

    def __init__(self, arm: Arm) -> None:
        from std_msgs.msg import Float64MultiArray

        assert arm.drivers.joint_position is not None
        self.topic = arm.drivers.joint_position.topic
        self.message_type: type = Float64MultiArray
        self._joints = len(arm.joints)

    def message(self, q: FloatArray, tool_pose: FloatArray, stamp_ns: int, period_s: float) -> Any:
        """See Driver.message."""
        _check_joints(q, self._joints)
        message: Any = self.message_type()
        message.data = array("d", q)
        return message


class CartesianPose:
    """geometry_msgs/PoseStamped of the tool, in the frame the YAML names."""

    def __init__(self, arm: Arm) -> None:
        from geometry_msgs.msg import PoseStamped

        assert arm.drivers.cartesian_pose is not None
        self.topic = arm.drivers.cartesian_pose.topic
        self.message_type: type = PoseStamped
        self._frame = arm.drivers.cartesian_pose.frame
        self._joints = len(arm.joints)

    def message(self, q: FloatArray, tool_pose: FloatArray, stamp_ns: int, period_s: float) -> Any:
        """See Driver.message."""
        _check_joints(q, self._joints)
        if np.shape(tool_pose) != (4, 4):
            raise Refused("incomplete", f"tool pose has shape {np.shape(tool_pose)}, expected (4, 4)")
        if not np.isfinite(tool_pose).all():
            raise Refused("nan", f"tool pose is not finite: {np.asarray(tool_pose).tolist()}")
        message: Any = self.message_type()
        message.header.frame_id = self._frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        pose = message.pose
        pose.position.x, pose.position.y, pose.position.z = map(float, tool_pose[:3, 3])
        o = pose.orientation
        o.x, o.y, o.z, o.w = map(float, matrix_to_quaternion(tool_pose[:3, :3]))
        return message


_DRIVERS: dict[str, type[JointTrajectory] | type[JointPosition] | type[CartesianPose]] = {
    "joint_trajectory": JointTrajectory,
    "joint_position": JointPosition,
    "cartesian_pose": CartesianPose,
}


def _check_joints(q: FloatArray, count: int) -> None:
    if np.shape(q) != (count,):
        raise Refused("incomplete", f"joint command has shape {np.shape(q)}, expected ({count},)")
    if not np.isfinite(q).all():
        raise Refused("nan", f"joint command is not finite: {np.asarray(q).tolist()}")
