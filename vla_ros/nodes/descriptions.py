"""Each arm's kinematics, from /robot_description where the robot publishes it, else from the YAML's URDF."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from std_msgs.msg import String

from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import check_description, read_urdf

# Discovery takes a second and more on a busy machine; what was discovered is worth waiting for.
DISCOVERY_S, ARRIVAL_S = 2.5, 5.0


class Descriptions:
    """Listens for the arms' robot_description topics from construction on, needing no executor.

    Made early, other work can be done while they arrive.
    """

    def __init__(self, node: Node, robot: Robot, robot_file: Path) -> None:
        self._node, self._robot, self._file = node, robot, robot_file
        self._begin = time.monotonic()
        topics = {arm.robot_description for arm in robot.arms.values() if arm.robot_description}
        self._subscriptions: dict[str, Any] = {
            topic: polled_subscription(node, String, topic, LATCHED) for topic in topics
        }
        self._texts: dict[str, str] = {}

    def kinematics(self) -> dict[str, Kinematics]:
        """{arm: kinematics}. Waits for topics that are published, and a little for those that are not yet.

        Raises KinematicsError when a published URDF does not hold the arm of the robot YAML.
        """
        while silent := self._poll():
            waited = time.monotonic() - self._begin
            published = any(self._node.count_publishers(topic) for topic in silent)
            if waited > (ARRIVAL_S if published else DISCOVERY_S):
                break
            time.sleep(0.02)
        found = {}
        for name, arm in self._robot.arms.items():
            xml = self._texts.get(arm.robot_description or "")
            if xml is None:
                source, xml = arm.urdf, read_urdf(self._file, arm)
            else:
                check_description(self._robot, name, xml)
                source = str(arm.robot_description)
            found[name] = Kinematics(xml, arm.joints, arm.base_frame, arm.tool_frame)
            self._node.get_logger().info(f"arm '{name}': URDF from {source}")
        return found

    def close(self) -> None:
        """Stop listening."""
        for subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}

    def _poll(self) -> list[str]:
        """Read what has arrived; returns the topics that are still silent."""
        for topic, subscription in self._subscriptions.items():
            if (cdr := take_latest(subscription)) is not None:
                self._texts[topic] = str(deserialize_message(cdr, String).data)
        return [topic for topic in self._subscriptions if topic not in self._texts]
