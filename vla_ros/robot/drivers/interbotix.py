"""Interbotix X-series arms and their grippers, as interbotix_xs_sdk takes commands (xs_sdk_obj.cpp of
interbotix_ros_core, branch humble, and xs_driver.cpp of interbotix_xs_driver, branch ros2): every message is
written to the motors at once, as their goal position.

set_operating_modes switches each motor's torque off, sets it, and switches it on: an arm falls meanwhile.
reboot_motors lets go of the motors that it reboots. Registers in a motor's RAM, such as its profile, are
written while it holds. Services do not say whether they worked: what they did is read back.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any, ClassVar

from vla_ros.errors import VlaRosError
from vla_ros.robot.config import Arm, Gripper
from vla_ros.robot.drivers.driver import Call, Recovery, StartStep, checked
from vla_ros.robot.grippers import command_for
from vla_ros.types import FloatArray, Motion

_PACKAGE = (
    "Interbotix arms are driven with interbotix_xs_msgs, which cannot be imported ({error}). Source the "
    "vendor's workspace; where rclpy comes from PyPI, `make setup` builds it"
)
# Operating_Mode, as the e-manual of Dynamixel's X series numbers them, by xs_sdk's names.
MODES = {
    0: "current",
    1: "velocity",
    3: "position",
    4: "ext_position",
    5: "current_based_position",
    16: "pwm",
}
# Those in which a command is an angle.
POSITIONS = {"position", "ext_position", "current_based_position"}


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
        """The arm's mode is looked at, and its profile taken off: a motor with one would take its own time to
        each of 50 and more goals a second and lag behind. The gripper's mode is set, whatever it was (its
        register does not tell `position` from xs_sdk's `linear_position`); then torque."""
        return self._steps(self._in_position)

    def recovery(self) -> Recovery | None:
        """Reboot the motors that report an error, and set the group's mode where it is another one."""
        from interbotix_xs_msgs.srv import Reboot

        if self._entry.reboot_service is None:
            return None
        request = Reboot.Request(cmd_type="group", name="all", enable=True, smart_reboot=True)
        what = "reboot the motors that report a hardware error"
        steps = [Call(what, self._entry.reboot_service, Reboot, request)]
        if self._entry.registers is not None:
            what = "look whether a motor still reports a hardware error"
            steps.append(self._read("all", "Hardware_Error_Status", what, wrong=_errors))
        warning = (
            "motors are switched off for a moment where they report a hardware error or are in another mode: "
            "the arm falls. Hold it, or have it rest in its sleep pose"
        )
        return Recovery((*steps, *self._steps(lambda response: "", self._into_position)), warning)

    def _steps(
        self, wrong: Callable[[Any], str], then: Callable[[Any], tuple[Call, ...]] = lambda response: ()
    ) -> tuple[Call, ...]:
        """Mode, profile and torque; wrong, then: of the group's operating mode."""
        from interbotix_xs_msgs.srv import RegisterValues, TorqueEnable

        steps: list[Call] = []
        group, registers = self._entry.group, self._entry.registers
        of_gripper = self._gripper.interbotix if self._gripper is not None else None
        if registers is not None:
            what = f"look at the operating mode of group '{group}'"
            steps.append(self._read(group, "Operating_Mode", what, wrong, then))
            request = RegisterValues.Request(cmd_type="group", name=group, reg="Profile_Velocity", value=0)
            what = f"take the profile off group '{group}'"
            steps.append(Call(what, registers.set, RegisterValues, request))
            what = f"see that group '{group}' has no profile"
            steps.append(self._read(group, "Profile_Velocity", what, _profile))
        if self._entry.modes_service is not None and of_gripper is not None and of_gripper.mode is not None:
            steps.append(self._set_mode("single", of_gripper.name, of_gripper.mode))
        if self._entry.torque_service is not None:
            named = [("group", group)] + ([] if of_gripper is None else [("single", of_gripper.name)])
            for kind, name in named:
                enable = TorqueEnable.Request(cmd_type=kind, name=name, enable=True)
                what = f"switch on {kind} '{name}'"
                steps.append(Call(what, self._entry.torque_service, TorqueEnable, enable))
        return tuple(steps)

    def _read(
        self,
        group: str,
        register: str,
        what: str,
        wrong: Callable[[Any], str],
        then: Callable[[Any], tuple[Call, ...]] = lambda response: (),
    ) -> Call:
        """A register of each motor of a group, which have to answer."""
        from interbotix_xs_msgs.srv import RegisterValues

        assert self._entry.registers is not None
        request = RegisterValues.Request(cmd_type="group", name=group, reg=register)

        def wrong_or_silent(response: Any) -> str:
            # xs_sdk answers with nothing where one of them does not.
            silent = (
                f"{register} could not be read: is '{group}' a group, and does each of its motors answer?"
            )
            return wrong(response) if len(response.values) else silent

        return Call(what, self._entry.registers.get, RegisterValues, request, wrong_or_silent, then)

    def _set_mode(self, kind: str, name: str, mode: str) -> Call:
        from interbotix_xs_msgs.srv import OperatingModes

        assert self._entry.modes_service is not None
        # Profile velocity and acceleration are 0, which is none.
        request = OperatingModes.Request(cmd_type=kind, name=name, mode=mode, profile_type="velocity")
        return Call(f"set {kind} '{name}' to mode {mode}", self._entry.modes_service, OperatingModes, request)

    def _in_position(self, response: Any) -> str:
        found = sorted({MODES.get(value, str(value)) for value in response.values} - POSITIONS)
        if not found:
            return ""
        help_it = "support the arm and `vla recover`, or " if self._sets_modes else ""
        return (
            f"it is {' and '.join(found)}, in which the arm takes no positions, and not changed here: the "
            f"motors would let go of the arm. Do {help_it}write operating_mode: position for "
            f"'{self._entry.group}' in xs_sdk's mode file and start xs_sdk again"
        )

    def _into_position(self, response: Any) -> tuple[Call, ...]:
        if not self._in_position(response) or self._entry.modes_service is None:
            return ()
        return (self._set_mode("group", self._entry.group, "position"),)

    @property
    def _sets_modes(self) -> bool:
        return self._entry.modes_service is not None and self._entry.reboot_service is not None

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message. The gripper has a topic of its own, see `InterbotixGripper`."""
        message: Any = self.message_type()
        message.name = self._entry.group
        message.cmd = array("f", checked(motion, self._joints)[0, 0])
        return message


def _profile(response: Any) -> str:
    left = max(response.values)
    return f"a profile of {left} is left: the arm would lag behind" if left else ""


def _errors(response: Any) -> str:
    """Hardware_Error_Status of each motor, in the order of xs_sdk's joint_order."""
    if not any(response.values):
        return ""
    return (
        f"Hardware_Error_Status of the motors, in their order, still is {list(response.values)} (bit 0 input "
        "voltage, 2 overheating, 3 encoder, 4 electrical shock, 5 overload). Remove the cause, let it cool "
        "down, and switch its power off and on"
    )


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
