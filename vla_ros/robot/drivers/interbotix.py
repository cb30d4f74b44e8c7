"""Interbotix X-series arms and their grippers, as interbotix_xs_sdk takes commands (xs_sdk_obj.cpp of
interbotix_ros_core, branch humble, and xs_driver.cpp of interbotix_xs_driver, branch ros2): every message is
written to the motors at once, as their goal position.

set_operating_modes switches each motor's torque off, sets it, and switches it on: an arm falls meanwhile.
reboot_motors lets go of the motors that it reboots. Registers in a motor's RAM, such as its profile, are
written while it holds. Services do not say whether they worked: what they did is read back. Reading a group
ends at the first motor that is silent: the answer is shorter then.

A shadow (the second motor of a joint) takes what is written to the first one, by its Secondary_ID, and is
read and rebooted by its own name alone; a reboot by name leaves it without torque.
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
        # xs_sdk's joint_order, which group `all` holds; shadows are not in it.
        self._motors = self._joints + (self._gripper is not None and self._gripper.interbotix is not None)

    def start_steps(self) -> tuple[StartStep, ...]:
        """The arm's mode is looked at, and its profile taken off: a motor with one would take its own time to
        each of 50 and more goals a second and lag behind. The gripper's mode is set, whatever it was (its
        register does not tell `position` from xs_sdk's `linear_position`); then torque."""
        return self._steps(self._not_in_position)

    def recovery(self) -> Recovery | None:
        """Reboot the motors that report an error, and set the group's mode where it is another one."""
        from interbotix_xs_msgs.srv import Reboot

        if self._entry.reboot_service is None:
            return None
        request = Reboot.Request(cmd_type="group", name="all", enable=True, smart_reboot=True)
        what = "reboot the motors that report a hardware error"
        steps = [Call(what, self._entry.reboot_service, Reboot, request)]
        steps += [self._recover_shadow(name) for name in self._entry.shadows]
        if self._entry.registers is not None:
            what = "look whether a motor still reports a hardware error"
            steps.append(self._read("group", "all", "Hardware_Error_Status", what, _errors))
        warning = (
            "motors are switched off for a moment where they report a hardware error or are in another mode: "
            "the arm falls. Hold it, or have it rest in its sleep pose"
        )
        return Recovery((*steps, *self._steps(lambda response: "", self._into_position)), warning)

    def _recover_shadow(self, name: str) -> Call:
        """Reboot one where it reports an error, and look again."""
        from interbotix_xs_msgs.srv import Reboot, TorqueEnable

        reboot_service, torque_service = self._entry.reboot_service, self._entry.torque_service
        assert reboot_service is not None and torque_service is not None

        def reboot(response: Any) -> tuple[Call, ...]:
            if not _errors(response):
                return ()
            request = Reboot.Request(cmd_type="single", name=name, enable=True)
            torque = TorqueEnable.Request(cmd_type="single", name=name, enable=True)
            what = f"look whether '{name}' still reports a hardware error"
            return (
                Call(f"reboot '{name}'", reboot_service, Reboot, request),
                self._read("single", name, "Hardware_Error_Status", what, _errors),
                Call(f"switch on '{name}'", torque_service, TorqueEnable, torque),
            )

        what = f"reboot '{name}' where it reports a hardware error"
        return self._read("single", name, "Hardware_Error_Status", what, then=reboot)

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
            steps.append(self._read("group", group, "Operating_Mode", what, wrong, then))
            request = RegisterValues.Request(cmd_type="group", name=group, reg="Profile_Velocity", value=0)
            what = f"take the profile off group '{group}'"
            steps.append(Call(what, registers.set, RegisterValues, request))
            what = f"see that group '{group}' has no profile"
            steps.append(self._read("group", group, "Profile_Velocity", what, _profile))
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
        kind: str,
        name: str,
        register: str,
        what: str,
        wrong: Callable[[Any], str] = lambda response: "",
        then: Callable[[Any], tuple[Call, ...]] = lambda response: (),
    ) -> Call:
        """A register of one motor, or of each motor of a group, which have to answer."""
        from interbotix_xs_msgs.srv import RegisterValues

        assert self._entry.registers is not None
        request = RegisterValues.Request(cmd_type=kind, name=name, reg=register)
        all_motors = (kind, name) == ("group", "all")
        expected = 1 if kind == "single" else self._motors if all_motors else self._joints

        def wrong_or_silent(response: Any) -> str:
            found = len(response.values)
            # Where a second gripper is in `all`, there are more than the YAML knows.
            if found == expected or (all_motors and found > expected):
                return wrong(response)
            who = f"motor '{name}'" if kind == "single" else f"the motors of group '{name}'"
            return (
                f"{register} came from {found} of {who}, expected {expected}: is it in xs_sdk's motor "
                "configuration, and does every motor answer? xs_sdk's log names the one that does not"
            )

        return Call(what, self._entry.registers.get, RegisterValues, request, wrong_or_silent, then)

    def _set_mode(self, kind: str, name: str, mode: str) -> Call:
        from interbotix_xs_msgs.srv import OperatingModes

        assert self._entry.modes_service is not None
        # Profile velocity and acceleration are 0, which is none.
        request = OperatingModes.Request(cmd_type=kind, name=name, mode=mode, profile_type="velocity")
        return Call(f"set {kind} '{name}' to mode {mode}", self._entry.modes_service, OperatingModes, request)

    def _not_in_position(self, response: Any) -> str:
        found = _other_modes(response)
        if not found:
            return ""
        help_it = "support the arm and `vla recover`, or " if self._sets_modes else ""
        return (
            f"it is {found}, in which the arm takes no positions, and not changed here: the "
            f"motors would let go of the arm. Do {help_it}{self._by_mode_file}"
        )

    def _into_position(self, response: Any) -> tuple[Call, ...]:
        if not _other_modes(response):
            return ()
        group = self._entry.group
        what = f"see that group '{group}' takes positions"
        look = self._read("group", group, "Operating_Mode", what, self._still_not_in_position)
        if self._entry.modes_service is None:
            return (look,)
        return self._set_mode("group", group, "position"), look

    def _still_not_in_position(self, response: Any) -> str:
        found = _other_modes(response)
        still = f"it still is {found}, in which the arm takes no positions: {self._by_mode_file}"
        return still if found else ""

    @property
    def _by_mode_file(self) -> str:
        return (
            f"write operating_mode: position for '{self._entry.group}' in xs_sdk's mode file and start "
            "xs_sdk again"
        )

    @property
    def _sets_modes(self) -> bool:
        return self._entry.modes_service is not None and self._entry.reboot_service is not None

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message. The gripper has a topic of its own, see `InterbotixGripper`."""
        message: Any = self.message_type()
        message.name = self._entry.group
        message.cmd = array("f", checked(motion, self._joints)[0, 0])
        return message


def _other_modes(response: Any) -> str:
    """Those in which an angle is none, for people."""
    return " and ".join(sorted({MODES.get(value, str(value)) for value in response.values} - POSITIONS))


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
