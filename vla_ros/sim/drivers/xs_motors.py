"""The motors of an Interbotix arm as interbotix_xs_sdk's services show and change them (xs_driver.cpp).

Their registers are those that decide what a command means. Setting an operating mode switches torque off and
on again; so does a reboot, which clears what is in RAM. Changing registers in RAM lets go of nothing. Neither
service says whether it worked; reading a register that there is not answers with nothing, and reading a group
ends at the first motor that is silent. Shadows are in no group: here only their own name reaches them (on the
robot also what is written to the motor beside them), and a reboot by name leaves any without torque.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from std_srvs.srv import Trigger

from vla_ros.robot.config_drivers import InterbotixDriver
from vla_ros.robot.drivers.interbotix import MODES, POSITIONS
from vla_ros.sim.drivers.face import Host

# interbotix_xsarm_control's modes.yaml: the arm by a profile of 2 s, the gripper by PWM. Bit 2 of Drive_Mode
# says that profiles are in ms.
ARM = {"Operating_Mode": 3, "Drive_Mode": 4, "Profile_Velocity": 2000, "Profile_Acceleration": 300}
GRIPPER = {"Operating_Mode": 16, "Drive_Mode": 0, "Profile_Velocity": 0, "Profile_Acceleration": 0}
# As ALOHA's own mode files leave them.
READY = {"Operating_Mode": 3, "Drive_Mode": 0, "Profile_Velocity": 0, "Profile_Acceleration": 0}
RAM = ("Profile_Velocity", "Profile_Acceleration")
OVERLOAD = 1 << 5


class XsMotors:
    """See the module. Services of the executor's thread; what they do is done in the physics thread.

    joints: the arm's motors, in their group's order; gripper: its motor, "" for none. `~/NAME/overload`
    (std_srvs/Trigger) is the twin's own: it has the second joint's motor switch itself off, as after an
    overload; `overload_shadow` the first shadow, and by `silence` the second joint's motor hears and says
    nothing any more, as with a loose cable.
    """

    def __init__(self, host: Host, name: str, driver: InterbotixDriver, joints: Sequence[str], gripper: str):
        self._host = host
        motors = [*joints, gripper] if gripper else list(joints)
        self._shadows = driver.shadows
        self._silent: set[str] = set()
        self._groups: dict[str, list[str]] = {driver.group: list(joints), "all": motors}
        # Where the YAML has no modes set, xs_sdk's mode files have them right.
        right = driver.modes_service is None
        self._registers = {
            motor: dict(READY if right else GRIPPER if motor == gripper else ARM)
            for motor in (*motors, *driver.shadows)
        }
        for registers in self._registers.values():
            registers.update({"Hardware_Error_Status": 0, "Torque_Enable": 1})
        self._serve(name, driver, list(joints))

    def torque(self, motor: str) -> bool:
        """Whether it holds."""
        return bool(self._registers[motor]["Torque_Enable"])

    def takes_angles(self, motor: str) -> bool:
        """Whether a command is an angle to it."""
        return MODES[self._registers[motor]["Operating_Mode"]] in POSITIONS

    def profile_ms(self, motor: str) -> int:
        """How long it takes to each goal; 0 for as fast as it can."""
        return self._registers[motor]["Profile_Velocity"]

    def _serve(self, name: str, driver: InterbotixDriver, joints: list[str]) -> None:
        node = self._host.node
        if driver.torque_service is not None:
            from interbotix_xs_msgs.srv import TorqueEnable

            node.create_service(TorqueEnable, driver.torque_service, self._doing(self._torque_enable))
        if driver.modes_service is not None:
            from interbotix_xs_msgs.srv import OperatingModes

            node.create_service(OperatingModes, driver.modes_service, self._doing(self._set_modes))
        if driver.registers is not None:
            from interbotix_xs_msgs.srv import RegisterValues

            node.create_service(RegisterValues, driver.registers.set, self._doing(self._set_registers))
            node.create_service(RegisterValues, driver.registers.get, self._get_registers)
        if driver.reboot_service is not None:
            from interbotix_xs_msgs.srv import Reboot

            node.create_service(Reboot, driver.reboot_service, self._doing(self._reboot))

        def has_fault(fault: Callable[[], None]) -> Callable[[Any, Any], Any]:
            def serve(request: Any, response: Any) -> Any:
                self._host.in_physics(fault)
                response.success = True
                return response

            return serve

        def overload(motor: str) -> Callable[[], None]:
            return lambda: self._registers[motor].update(Hardware_Error_Status=OVERLOAD, Torque_Enable=0)

        node.create_service(Trigger, f"~/{name}/overload", has_fault(overload(joints[1])))
        node.create_service(Trigger, f"~/{name}/silence", has_fault(lambda: self._silent.add(joints[1])))
        if driver.shadows:
            service = f"~/{name}/overload_shadow"
            node.create_service(Trigger, service, has_fault(overload(driver.shadows[0])))

    def _doing(self, what: Callable[[Any, Mapping[str, dict[str, int]]], None]) -> Callable[[Any, Any], Any]:
        def serve(request: Any, response: Any) -> Any:
            motors = [motor for motor in self._named(request) if motor not in self._silent]
            self._host.in_physics(lambda: what(request, {motor: self._registers[motor] for motor in motors}))
            return response

        return serve

    def _named(self, request: Any) -> list[str]:
        if request.cmd_type == "group":
            return self._groups.get(request.name, [])
        return [request.name] if request.name in self._registers else []

    def _torque_enable(self, request: Any, motors: Mapping[str, dict[str, int]]) -> None:
        for registers in motors.values():
            # A motor with a hardware error stays off until it is rebooted.
            registers["Torque_Enable"] = int(request.enable and not registers["Hardware_Error_Status"])

    def _set_modes(self, request: Any, motors: Mapping[str, dict[str, int]]) -> None:
        self._lets_go(motors, f"its mode was set to {request.mode}")
        number = {mode: number for number, mode in MODES.items()} | {"linear_position": 3}
        for registers in motors.values():
            registers["Operating_Mode"] = number.get(request.mode, registers["Operating_Mode"])
            registers["Profile_Velocity"] = request.profile_velocity
            registers["Profile_Acceleration"] = request.profile_acceleration
            registers["Drive_Mode"] = 4 if request.profile_type == "time" else 0
            registers["Torque_Enable"] = int(not registers["Hardware_Error_Status"])

    def _set_registers(self, request: Any, motors: Mapping[str, dict[str, int]]) -> None:
        for registers in motors.values():
            if request.reg in RAM:
                registers[request.reg] = request.value

    def _get_registers(self, request: Any, response: Any) -> Any:
        values: list[int] = []
        for motor in self._named(request):
            value = self._registers[motor].get(request.reg)
            if value is None or motor in self._silent:
                break
            values.append(value)
        response.values = values
        return response

    def _reboot(self, request: Any, motors: Mapping[str, dict[str, int]]) -> None:
        smart = request.smart_reboot and request.cmd_type == "group"
        chosen = {
            motor: registers
            for motor, registers in motors.items()
            if registers["Hardware_Error_Status"] or not smart
        }
        self._lets_go(chosen, "it was rebooted")
        for motor, registers in chosen.items():
            registers.update(dict.fromkeys(RAM, 0))
            # xs_sdk switches the motor's sisters on, itself among them; a shadow has none.
            on = request.enable and motor not in self._shadows
            registers.update(Hardware_Error_Status=0, Torque_Enable=int(on))

    def _lets_go(self, motors: Mapping[str, Any], why: str) -> None:
        """A real arm falls here."""
        arm = [motor for motor in motors if motor in next(iter(self._groups.values()))]
        if arm:
            self._host.rejected("motors", "let_go", f"{', '.join(arm)} let go of the arm while {why}")
