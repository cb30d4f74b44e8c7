"""What has to hold, and be done, before control_node may command a robot."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable

from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.arm_topics import ArmTopics
from vla_ros.nodes.base_topics import BaseTopics
from vla_ros.nodes.lifecycle import same_name_nodes
from vla_ros.nodes.requests import Requests
from vla_ros.nodes.watchdogs import Watchdogs
from vla_ros.safety.modes import ESTOP, IDLE, TRANSITIONS
from vla_ros.safety.supervisor import Supervisor

# So long is waited for a driver that subscribes to the commands, before a start is refused.
DRIVER_S = 1.0
# And so long for arms to come to rest within their limits.
REST_S = 5.0


def rivals(node: Node, command_topics: Iterable[str]) -> list[str]:
    """Everything in the graph that would fight over the robot, for people."""
    found = same_name_nodes(node)
    mine = (node.get_name(), node.get_namespace())
    for topic in command_topics:
        for info in node.get_publishers_info_by_topic(topic):
            if (info.node_name, info.node_namespace) != mine:
                found.append(f"{info.node_namespace.rstrip('/')}/{info.node_name} publishes {topic}")
    return found


def make_ready(
    what: str,
    parts: Collection[ArmTopics | BaseTopics],
    watchdogs: Watchdogs,
    supervisor: Supervisor,
    requests: Requests,
) -> None:
    """See that arms and base may be commanded, and take their drivers' first steps where they are due; waits.
    Raises VlaRosError, which says what is in the way; an emergency stop meanwhile is, at once: what it logged
    is written by the thread that waits here."""

    def look() -> None:
        if supervisor.mode == ESTOP:
            raise VlaRosError(f"cannot {what}: emergency stop pressed; reset first. No further step is taken")

    _require_drivers(watchdogs, what)
    due = [part for part in parts if not part.ready]
    if due:
        # What would be refused afterwards is not worth an arm that is let go, or a gripper closed.
        requests.ask(what, only_check=True)
        require_rest(supervisor, what)
    if what in TRANSITIONS[supervisor.mode]:  # or it is refused
        _require_grippers(parts, what)
    for part in due:
        part.prepare(look)


def _require_drivers(watchdogs: Watchdogs, what: str) -> None:
    """Wait a moment for all drivers to be there. Raises VlaRosError, which says who is not."""
    deadline = time.monotonic() + DRIVER_S
    while True:
        watchdogs.look_for_drivers()
        if not watchdogs.no_driver:
            return
        if time.monotonic() > deadline:
            raise VlaRosError(
                f"cannot {what}: {watchdogs.no_driver}. Is the robot's driver running, and its controller "
                "active?"
            )
        time.sleep(0.02)


def require_rest(supervisor: Supervisor, what: str) -> None:
    """Wait for the robot to come to rest, with nothing sent to it any more. Raises VlaRosError where it
    does not: drivers' first steps let go of an arm, or have it leap to where it was sent meanwhile."""
    deadline = time.monotonic() + REST_S
    while supervisor.mode != IDLE or supervisor.live:
        if time.monotonic() > deadline:
            raise VlaRosError(
                f"cannot {what}: drivers are prepared only while nothing is sent, and the robot is in mode "
                f"'{supervisor.mode}'; stop first"
            )
        time.sleep(0.005)


def _require_grippers(parts: Iterable[ArmTopics | BaseTopics], what: str) -> None:
    """Raises VlaRosError where a gripper that has to be sent a width is nowhere."""
    for part in parts:
        unknown = part.unknown_gripper() if isinstance(part, ArmTopics) else ""
        if unknown:
            raise VlaRosError(f"cannot {what}: {unknown}")
