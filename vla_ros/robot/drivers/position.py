"""ros2_control's forward position controllers."""

from __future__ import annotations

from typing import Any, ClassVar

from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.driver import Recovery, StartStep, checked, doubles
from vla_ros.robot.drivers.ros2_control import ros2_control_recovery
from vla_ros.types import FloatArray, Motion


class JointPosition:
    """std_msgs/Float64MultiArray with one number per joint, in the controller's order."""

    goes_on: ClassVar[bool] = False
    settle_ns: ClassVar[int] = 0
    with_gripper: ClassVar[bool] = False

    def __init__(self, arm: Arm) -> None:
        from std_msgs.msg import Float64MultiArray

        assert arm.drivers.joint_position is not None
        self.topic = arm.drivers.joint_position.topic
        self._recovery = arm.drivers.joint_position.recovery
        self.message_type: type = Float64MultiArray
        self._joints = len(arm.joints)

    def start_steps(self) -> tuple[StartStep, ...]:
        """None."""
        return ()

    def recovery(self) -> Recovery | None:
        """See `ros2_control_recovery`."""
        return ros2_control_recovery(self._recovery)

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message."""
        message: Any = self.message_type()
        message.data = doubles(checked(motion, self._joints)[0, 0])
        return message
