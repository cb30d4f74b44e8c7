"""AgileX arms that take sensor_msgs/JointState: the joints, and after them the gripper."""

from __future__ import annotations

from typing import Any, ClassVar

from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.driver import Recovery, StartStep, checked, checked_gripper
from vla_ros.types import FloatArray, Motion


class AgilexJoints:
    """All joints and the gripper in each message, by name and in order: some nodes look at the one and some
    at the other, and what one does not find it drives to 0."""

    goes_on: ClassVar[bool] = False
    settle_ns: ClassVar[int] = 0
    with_gripper: ClassVar[bool] = True

    def __init__(self, arm: Arm, topic: str) -> None:
        from sensor_msgs.msg import JointState

        assert arm.gripper is not None and arm.gripper.with_arm is not None
        self.topic = topic
        self.message_type: type = JointState
        self._joints = len(arm.joints)
        self._names = [*arm.joints, arm.gripper.with_arm.joint]
        self._gripper = arm.gripper
        self._velocity: list[float] = []
        effort = arm.gripper.with_arm.effort
        self._effort = [] if effort is None else [0.0] * self._joints + [effort]

    def start_steps(self) -> tuple[StartStep, ...]:
        """None."""
        return ()

    def recovery(self) -> Recovery | None:
        """None: AgileX's nodes serve nothing but enabling, which is a start's."""
        return None

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message."""
        positions = checked(motion, self._joints)[0, 0].tolist()
        message: Any = self.message_type()
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 10**9)
        message.name = self._names
        message.position = [*positions, checked_gripper(self._gripper, gripper)]
        message.velocity, message.effort = self._velocity, self._effort
        return message
