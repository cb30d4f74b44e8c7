"""A Franka's reflex as franka_ros2 v2.5 shows it on Humble, and the way back (franka_hardware/doc/index.rst).

The arm stops by itself and its hardware component becomes unconfigured. Its controllers stay active and go on
taking commands, without effect; joint states go on too, as they were then. To obey again, in this order: the
controllers are deactivated, the robot's error is cleared, the component is activated, the controllers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer
from std_srvs.srv import Trigger

from vla_ros.robot.config_drivers import Ros2ControlRecovery
from vla_ros.sim.drivers.face import Host


class Reflex:
    """See the module. stop: has the arm stay where it is. `~/NAME/reflex` (std_srvs/Trigger) trips it, which
    is the twin's own. Services are the executor's; `obeys` is read by the physics thread too.

    Raises ImportError without the message packages.
    """

    def __init__(self, host: Host, name: str, config: Ros2ControlRecovery, stop: Callable[[], None]) -> None:
        from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController

        if config.error_recovery is not None:
            from franka_msgs.action import ErrorRecovery

        self._host, self._config, self._stop = host, config, stop
        self._error = False
        self._component = True
        self._active = set(config.controllers)
        # Those that were activated since the component was.
        self._attached = set(config.controllers)
        self._recovery: ActionServer | None = None
        node, manager = host.node, config.controller_manager
        node.create_service(Trigger, f"~/{name}/reflex", self._trip)
        node.create_service(SwitchController, f"{manager}/switch_controller", self._switch)
        service = f"{manager}/set_hardware_component_state"
        node.create_service(SetHardwareComponentState, service, self._set_component)
        if config.error_recovery is not None:
            self._result = ErrorRecovery.Result
            self._recovery = ActionServer(node, ErrorRecovery, config.error_recovery, self._clear)

    @property
    def obeys(self) -> bool:
        """Whether commands have an effect, and joint states are new."""
        return self._component and self._attached.issuperset(self._config.controllers)

    def destroy(self) -> None:
        """Stop serving the action."""
        if self._recovery is not None:
            self._recovery.destroy()

    def _trip(self, request: Any, response: Any) -> Any:
        self._error, self._component = True, False
        self._attached.clear()
        self._host.in_physics(self._stop)
        response.success = True
        return response

    def _clear(self, goal: Any) -> Any:
        self._error = False
        goal.succeed()
        return self._result()

    def _set_component(self, request: Any, response: Any) -> Any:
        response.ok = request.name == self._config.hardware and not self._error
        if response.ok:
            self._component = True
            response.state.label = "active"
        else:
            response.state.label = "unconfigured"
        return response

    def _switch(self, request: Any, response: Any) -> Any:
        off, on = set(request.deactivate_controllers), set(request.activate_controllers)
        known = set(self._config.controllers)
        strict = request.strictness == request.STRICT
        possible = on <= known - self._active and off <= self._active and self._component
        response.ok = possible or not strict
        if response.ok:
            self._active -= off
            self._attached -= off
            begun = on & known - self._active if self._component else set()
            self._active |= begun
            self._attached |= begun
        return response
