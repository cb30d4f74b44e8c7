"""One arm's topics in control_node: joint states in, the driver's commands and gripper goals out."""

from __future__ import annotations

from math import isfinite
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from vla_ros.errors import Refused
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.gripper_client import GripperClient
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import Arm, Stream
from vla_ros.robot.drivers import Driver
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.states import positions_by_name
from vla_ros.safety.modes import POLICY, SOURCES
from vla_ros.safety.supervisor import Measured
from vla_ros.types import Command

NS = 1_000_000_000


class ArmTopics:
    """See the module. `read` and `send` belong to the commanding thread.

    measured: the newest joint states that could be used, None before there were any. command_topic: the
    driver's.
    """

    def __init__(
        self,
        node: Node,
        name: str,
        arm: Arm,
        driver: Driver,
        urdf: str,
        diagnostics: DiagnosticsPublisher,
        log: HandedLog,
    ) -> None:
        self.kinematics = Kinematics(urdf, arm.joints, arm.base_frame, arm.tool_frame)
        self.measured: Measured | None = None
        self._node = node
        self._name = name
        self._arm = arm
        self._driver = driver
        self._diagnostics = diagnostics
        self._log = log
        self.command_topic = node.resolve_topic_name(driver.topic)
        self._publisher = node.create_publisher(driver.message_type, driver.topic, 10)
        self._states = polled_subscription(node, JointState, arm.states.topic, _state_qos(arm.states))
        self._gripper: GripperClient | None = None
        if arm.gripper is not None and arm.gripper.action is not None:
            self._gripper = GripperClient(node, name, arm.gripper, arm.gripper.action, diagnostics)

    def destroy(self) -> None:
        """Release the topics."""
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_subscription(self._states)
        if self._gripper is not None:
            self._gripper.destroy()

    def read(self) -> None:
        """Take the newest joint states. What cannot be used is counted, and what was measured before stays:
        it grows old and then is no longer acted on."""
        data: Any = take_latest(self._states)
        if data is None:
            return
        message = deserialize_message(data, JointState)
        try:
            q = positions_by_name(message.name, message.position, self._arm.joints)
        except Refused as refused:
            self._diagnostics.count(f"refused_joint_states.{refused.reason}")
            self._log.say("warning", f"{self._name}: {refused}", once_per_s=f"{self._name}/joint_states")
            return
        stamp = message.header.stamp
        self.measured = Measured(q, stamp.sec * NS + stamp.nanosec)

    def send(self, command: Command) -> None:
        """Publish one command to the driver."""
        pose = self.kinematics.forward(command.sent)
        message = self._driver.message(command.motion, pose, command.gripper, command.stamp_ns)
        if message is not None:
            self._publisher.publish(message)
        wanted = command.gripper_wanted
        if self._gripper is None:
            return
        if command.source != SOURCES[POLICY]:
            self._gripper.rest()
        elif wanted is not None and isfinite(wanted):
            # A goal, and not the ramp of widths towards it: the gripper's driver goes there at its own speed.
            self._gripper.want(wanted)

    def has_driver(self) -> bool:
        """Whether anybody subscribes to the driver's topic (a recorder counts as well)."""
        return int(self._publisher.get_subscription_count()) > 0

    def forget_gripper(self) -> None:
        """Send the gripper's next width whatever was sent before."""
        if self._gripper is not None:
            self._gripper.forget()


def _state_qos(stream: Stream) -> QoSProfile:
    best_effort = stream.reliability == "best_effort"
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    return QoSProfile(depth=5, reliability=reliability)
