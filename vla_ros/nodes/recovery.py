"""An operator's way back after a driver's fault, by the steps that its YAML names: never taken by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.start_steps import DISCOVERED_S, take_steps
from vla_ros.robot.config import Robot
from vla_ros.robot.drivers import Driver, Recovery, driver_for

# So long nobody may have sent a command: some periods of the slowest control loop.
SILENT_S = 1.0


def recoveries(robot: Robot) -> dict[str, tuple[Driver, Recovery]]:
    """{arm: its driver and how that recovers}, of the arms whose YAML says how. Raises VlaRosError where none
    does, and without a driver's message packages."""
    found = {}
    for name, arm in robot.arms.items():
        driver = driver_for(arm)
        recovery = driver.recovery()
        if recovery is not None:
            found[name] = driver, recovery
    if not found:
        drivers = ", ".join(f"arms.{name}.drivers.{arm.driver}" for name, arm in robot.arms.items())
        raise VlaRosError(
            f"robot {robot.name}: no recovery is named in {drivers}. Look what the driver's maker says; "
            "ros2_control takes recovery:, interbotix reboot_service:, and AgileX's nodes serve none"
        )
    return found


def require_silence(node: Node, drivers: Mapping[str, Driver]) -> None:
    """Listen whether an arm is being commanded; waits. Raises VlaRosError where one is: it would set off to
    wherever that is as soon as it obeys again. `node` is spun meanwhile."""
    heard: set[str] = set()

    def listen(name: str, driver: Driver) -> Any:
        return node.create_subscription(driver.message_type, driver.topic, lambda _: heard.add(name), 10)

    subscriptions = [listen(name, driver) for name, driver in drivers.items()]
    try:
        time.sleep(DISCOVERED_S + SILENT_S)
        for name in sorted(heard):
            topic = node.resolve_topic_name(drivers[name].topic)
            senders = {
                f"{info.node_namespace.rstrip('/')}/{info.node_name}"
                for info in node.get_publishers_info_by_topic(topic)
            }
            raise VlaRosError(
                f"cannot recover {name}: {', '.join(sorted(senders))} commands it on {topic}, and it would "
                "set off there at once. `vla stop` first; after an emergency stop `vla reset`"
            )
    finally:
        for subscription in subscriptions:
            node.destroy_subscription(subscription)


def recover(node: Node, found: Mapping[str, tuple[Driver, Recovery]], say: Callable[[str], None]) -> None:
    """Take the steps of every arm, told one by one; waits. Raises VlaRosError where one fails, or an arm is
    being commanded. `node` is spun meanwhile."""
    require_silence(node, {name: driver for name, (driver, _) in found.items()})
    for name, (_, recovery) in found.items():
        for step in recovery.steps:
            say(f"{name}: {step.what}")
            take_steps(node, [step])
