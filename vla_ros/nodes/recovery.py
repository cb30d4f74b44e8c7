"""An operator's way back after a driver's fault, by the steps that its YAML names: never taken by itself."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rclpy.node import Node
from std_msgs.msg import String

from vla_ros.errors import VlaRosError
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.start_steps import DISCOVERED_S, take_steps
from vla_ros.robot.config import Robot
from vla_ros.robot.drivers import Driver, Recovery, driver_for
from vla_ros.safety.modes import ESTOP, IDLE

# So long nobody may have sent a command: some periods of the slowest control loop.
SILENT_S = 1.0
# A control_node that is discovered has told its mode within this.
STATUS_S = 3.0
STATUS = "vla/control_status"


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


@contextlib.contextmanager
def unused(node: Node, drivers: Mapping[str, Driver]) -> Iterator[Callable[[], None]]:
    """Listen whether anybody moves the robot, or is about to; waits. Yields what looks at once whether
    somebody does by now, and raises VlaRosError then: an arm would set off to wherever that is as soon as it
    obeys again, and a control_node that waits takes the next chunk up without having been reset. `node` is
    spun meanwhile."""
    heard: set[str] = set()
    status: list[str] = []

    def listen(name: str, driver: Driver) -> Any:
        return node.create_subscription(driver.message_type, driver.topic, lambda _: heard.add(name), 10)

    def hear_status(message: String) -> None:
        status.append(message.data)

    def look() -> None:
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
        mode = status[-1].partition(":")[0] if status else IDLE
        if mode not in (IDLE, ESTOP):
            raise VlaRosError(
                f"cannot recover: control_node is in mode '{mode}', expected '{IDLE}' or '{ESTOP}': it would "
                "follow a chunk as soon as the robot obeys again. `vla stop` first"
            )

    subscriptions = [listen(name, driver) for name, driver in drivers.items()]
    subscriptions.append(node.create_subscription(String, STATUS, hear_status, LATCHED))
    try:
        time.sleep(DISCOVERED_S + SILENT_S)
        deadline = time.monotonic() + STATUS_S
        while not status and node.count_publishers(STATUS):
            if time.monotonic() > deadline:
                raise VlaRosError(
                    f"cannot recover: a control_node is there and tells no mode on {STATUS}. Activate it or "
                    "end it; where it has ended, wait until that is known (20 s)"
                )
            time.sleep(0.05)
        look()
        yield look
    finally:
        for subscription in subscriptions:
            node.destroy_subscription(subscription)


def recover(node: Node, found: Mapping[str, tuple[Driver, Recovery]], say: Callable[[str], None]) -> None:
    """Take the steps of every arm, told one by one; waits. Raises VlaRosError where one fails, or the robot
    is or may be commanded, then or at any time until the last step is done. `node` is spun meanwhile."""
    with unused(node, {name: driver for name, (driver, _) in found.items()}) as look:
        for name, (_, recovery) in found.items():
            for step in recovery.steps:
                say(f"{name}: {step.what}")
                take_steps(node, [step], look)
        look()
