"""Controllers that take the tool's pose, such as CRISP's."""

from __future__ import annotations

from typing import Any, ClassVar

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.driver import Recovery, StartStep, checked, checked_pose
from vla_ros.robot.drivers.ros2_control import ros2_control_recovery
from vla_ros.types import FloatArray, Motion


class CartesianPose:
    """geometry_msgs/PoseStamped of the tool, in the frame the YAML names."""

    goes_on: ClassVar[bool] = False
    settle_ns: ClassVar[int] = 0
    with_gripper: ClassVar[bool] = False

    def __init__(self, arm: Arm) -> None:
        from geometry_msgs.msg import PoseStamped

        assert arm.drivers.cartesian_pose is not None
        self.topic = arm.drivers.cartesian_pose.topic
        self._recovery = arm.drivers.cartesian_pose.recovery
        self.message_type: type = PoseStamped
        self._frame = arm.drivers.cartesian_pose.frame
        self._joints = len(arm.joints)

    def start_steps(self) -> tuple[StartStep, ...]:
        """None."""
        return ()

    def recovery(self) -> Recovery | None:
        """See `ros2_control_recovery`."""
        return ros2_control_recovery(self._recovery)

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message."""
        checked(motion, self._joints)
        checked_pose(tool_pose)
        message: Any = self.message_type()
        message.header.frame_id = self._frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        pose = message.pose
        pose.position.x, pose.position.y, pose.position.z = map(float, tool_pose[:3, 3])
        o = pose.orientation
        o.x, o.y, o.z, o.w = map(float, matrix_to_quaternion(tool_pose[:3, :3]))
        return message
