"""What ros2_control's controllers have in common: how they obey again after the hardware failed."""

from __future__ import annotations

from typing import Any

from vla_ros.errors import VlaRosError
from vla_ros.robot.config_drivers import Ros2ControlRecovery
from vla_ros.robot.drivers.driver import Call, Goal, Recovery

# So long controller_manager itself waits for controllers to be switched, s.
SWITCH_S = 5
_PACKAGES = (
    "{package} cannot be imported ({error}), and without it there is no recovery. Source the workspace that "
    "the driver was started from; where rclpy comes from PyPI, `make setup` builds it"
)


def ros2_control_recovery(entry: Ros2ControlRecovery | None) -> Recovery | None:
    """After an error, in the order of franka_ros2 2.4 and later (franka_hardware/doc/index.rst, branches
    humble and jazzy): controller_manager has made the hardware component unconfigured. Jazzy's has also
    deactivated the controllers, broadcasters too; Humble's leaves them active and without effect, and they
    have to be deactivated before they can be activated again. Nothing of it moves the arm.

    Raises VlaRosError without the message packages.
    """
    if entry is None:
        return None
    try:
        from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController
    except ImportError as error:
        raise VlaRosError(_PACKAGES.format(package="controller_manager_msgs", error=error)) from error
    from builtin_interfaces.msg import Duration
    from lifecycle_msgs.msg import State

    manager, names = entry.controller_manager, ", ".join(entry.controllers)
    kind = SwitchController.Request
    steps: list[Call | Goal] = []

    def switch(what: str, **lists: list[str]) -> None:
        strictness = kind.STRICT if "activate_controllers" in lists else kind.BEST_EFFORT
        request = kind(strictness=strictness, timeout=Duration(sec=SWITCH_S), **lists)
        service = f"{manager}/switch_controller"
        steps.append(Call(f"{what} {names}", service, SwitchController, request, _not_switched))

    switch("deactivate", deactivate_controllers=entry.controllers)
    if entry.error_recovery is not None:
        try:
            from franka_msgs.action import ErrorRecovery
        except ImportError as error:
            raise VlaRosError(_PACKAGES.format(package="franka_msgs", error=error)) from error
        what = "clear the robot's error"
        steps.append(Goal(what, entry.error_recovery, ErrorRecovery, ErrorRecovery.Goal()))
    request = SetHardwareComponentState.Request(name=entry.hardware)
    request.target_state.id, request.target_state.label = State.PRIMARY_STATE_ACTIVE, "active"
    service = f"{manager}/set_hardware_component_state"
    what = f"activate the hardware component {entry.hardware}"
    steps.append(Call(what, service, SetHardwareComponentState, request, _not_active))
    switch("activate", activate_controllers=entry.controllers)
    return Recovery(tuple(steps))


def _not_switched(response: Any) -> str:
    if response.ok:
        return ""
    # Humble's response has no message.
    return getattr(response, "message", "") or "it could not; its own log says why"


def _not_active(response: Any) -> str:
    return "" if response.ok else f"the component is {response.state.label or 'not known'}"
