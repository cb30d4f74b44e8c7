"""What has to hold, and be done, before control_node may command a robot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.arm_topics import ArmTopics
from vla_ros.nodes.lifecycle import same_name_nodes
from vla_ros.nodes.watchdogs import Watchdogs

# So long is waited for a driver that subscribes to the commands, before a start is refused.
DRIVER_S = 1.0


def rivals(node: Node, command_topics: Iterable[str]) -> list[str]:
    """Everything in the graph that would fight over the robot, for people."""
    found = same_name_nodes(node)
    mine = (node.get_name(), node.get_namespace())
    for topic in command_topics:
        for info in node.get_publishers_info_by_topic(topic):
            if (info.node_name, info.node_namespace) != mine:
                found.append(f"{info.node_namespace.rstrip('/')}/{info.node_name} publishes {topic}")
    return found


def require_drivers(watchdogs: Watchdogs, what: str) -> None:
    """Wait a moment for all drivers to be there. Raises VlaRosError, which says who is not."""
    deadline = time.monotonic() + DRIVER_S
    while missing := watchdogs.missing_drivers():
        if time.monotonic() > deadline:
            raise VlaRosError(
                f"cannot {what}: {missing}. Is the robot's driver running, and its controller active?"
            )
        time.sleep(0.02)


class Preparation:
    """What drivers need before their first command: once, and again after `forget`."""

    def __init__(self, arms: Mapping[str, ArmTopics]) -> None:
        self._arms = arms
        self._done: set[str] = set()

    def forget(self) -> None:
        """A driver was gone: what it was told is not known any more."""
        self._done.clear()

    def take(self, what: str) -> None:
        """Prepare the arms that are not; waits. Raises VlaRosError where a step fails, or a gripper that
        has to be sent a width is nowhere."""
        for name, arm in self._arms.items():
            unknown = arm.unknown_gripper()
            if unknown:
                raise VlaRosError(f"cannot {what}: {unknown}")
            if name not in self._done:
                arm.prepare()
                self._done.add(name)
