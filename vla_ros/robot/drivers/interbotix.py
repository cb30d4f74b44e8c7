"""Interbotix X-series arms and their grippers, as interbotix_xs_sdk takes commands (xs_sdk_obj.cpp of
interbotix_ros_core, branch humble): every message is written to the motors at once, as their goal position.
"""

from __future__ import annotations

from array import array
from typing import Any, ClassVar

from vla_ros.errors import VlaRosError
from vla_ros.robot.config import Arm, Gripper
from vla_ros.robot.drivers.driver import Call, StartStep, checked
from vla_ros.robot.grippers import command_for
from vla_ros.types import FloatArray, Motion

_PACKAGE = (
    "Interbotix arms are driven with interbotix_xs_msgs, which cannot be imported ({error}). Source the "
    "vendor's workspace; where rclpy comes from PyPI, `make setup` builds it"
)


class Interbotix:
    """interbotix_xs_msgs/JointGroupCommand: rad, in the order that the driver's motor configuration gives the
    group's joints in, which is that of the YAML's `joints`."""

    goes_on: ClassVar[bool] = False
    settle_ns: ClassVar[int] = 0
    with_gripper: ClassVar[bool] = False

    def __init__(self, arm: Arm) -> None:
        try:
            from interbotix_xs_msgs.msg import JointGroupCommand
        except ImportError as error:
            raise VlaRosError(_PACKAGE.format(error=error)) from error
        assert arm.drivers.interbotix is not None
        self._entry = arm.drivers.interbotix
        self._gripper = arm.gripper
        self.topic = self._entry.topic
        self.message_type: type = JointGroupCommand
        self._joints = len(arm.joints)

    def start_steps(self) -> tuple[StartStep, ...]:
        """Operating modes first, for the motors let go while theirs is changed, and then torque.

        A motor with a profile would take its own time to each of 50 and more goals a second and lag behind:
        a velocity profile of 0 is none. Neither service says whether it worked.
        """
        from interbotix_xs_msgs.srv import OperatingModes, TorqueEnable

        steps: list[StartStep] = []
        group, gripper = ("group", self._entry.group), self._gripper
        of_gripper = gripper.interbotix if gripper is not None else None
        if self._entry.modes_service is not None:
            modes = [(*group, "position")]
            if of_gripper is not None and of_gripper.mode is not None:
                modes.append(("single", of_gripper.name, of_gripper.mode))
            for kind, name, mode in modes:
                request = OperatingModes.Request(cmd_type=kind, name=name, mode=mode, profile_type="velocity")
                what = f"set {kind} '{name}' to mode {mode}"
                steps.append(Call(what, self._entry.modes_service, OperatingModes, request))
        if self._entry.torque_service is not None:
            named = [group] if of_gripper is None else [group, ("single", of_gripper.name)]
            for kind, name in named:
                request = TorqueEnable.Request(cmd_type=kind, name=name, enable=True)
                what = f"switch on {kind} '{name}'"
                steps.append(Call(what, self._entry.torque_service, TorqueEnable, request))
        return tuple(steps)

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message. The gripper has a topic of its own, see `InterbotixGripper`."""
        message: Any = self.message_type()
        message.name = self._entry.group
        message.cmd = array("f", checked(motion, self._joints)[0, 0])
        return message


class InterbotixGripper:
    """interbotix_xs_msgs/JointSingleCommand: what the gripper's motor is sent for a width.

    The width is a ramp, tick by tick, and not the one it ends at: the motor goes to a goal as fast as it can,
    so only the stream keeps the YAML's `speed`. ALOHA's own code sends it at 50 Hz too. A message is a write
    on the bus that joint states are read over, so a width that has been sent is not sent again.
    """

    def __init__(self, gripper: Gripper) -> None:
        try:
            from interbotix_xs_msgs.msg import JointSingleCommand
        except ImportError as error:
            raise VlaRosError(_PACKAGE.format(error=error)) from error
        assert gripper.interbotix is not None
        self.topic = gripper.interbotix.topic
        self.message_type: type = JointSingleCommand
        self._name = gripper.interbotix.name
        self._gripper = gripper
        self._sent: float | None = None

    def message(self, width: float) -> Any:
        """The message for a width (m), None where it is what was sent last. Raises Refused "nan"."""
        command = command_for(self._gripper, width)
        if command == self._sent:
            return None
        self._sent = command
        message: Any = self.message_type()
        message.name, message.cmd = self._name, command
        return message

    def forget(self) -> None:
        """Send the next width whatever was sent before."""
        self._sent = None
