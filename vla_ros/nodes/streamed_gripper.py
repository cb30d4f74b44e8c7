"""A gripper that is sent widths in a stream, on a topic of its own or within its arm's messages."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from vla_ros.errors import Refused
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.listeners import unheard
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.qos import state_qos
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import Gripper
from vla_ros.robot.drivers import InterbotixGripper
from vla_ros.robot.stamps import Stamps
from vla_ros.robot.states import gripper_width
from vla_ros.types import Command

MS = 1_000_000


class StreamedGripper:
    """For the commanding thread. command_topic: its own, "" where the arm's messages hold it.

    Its width is read so that the first one sent can be where it is: until the policy wants another, the arm's
    messages say that, for there is no leaving it out of them.
    """

    def __init__(
        self, node: Node, name: str, gripper: Gripper, diagnostics: DiagnosticsPublisher, log: HandedLog
    ) -> None:
        self._node = node
        self._name = name
        self._gripper = gripper
        self._diagnostics = diagnostics
        self._log = log
        states = gripper.states
        self._states = polled_subscription(node, JointState, states.topic, state_qos(states))
        self._stamps = Stamps(gripper.states)
        self._measured: tuple[int, float] | None = None
        self._driver = InterbotixGripper(gripper) if gripper.interbotix is not None else None
        self._publisher: Any = None
        self.command_topic = ""
        if self._driver is not None:
            self.command_topic = node.resolve_topic_name(self._driver.topic)
            self._publisher = node.create_publisher(self._driver.message_type, self._driver.topic, 10)

    def destroy(self) -> None:
        """Release the topics."""
        self._node.destroy_subscription(self._states)
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)

    def width(self, now_ns: int) -> float | None:
        """The newest measured opening width in m, None where none is known that is not too old."""
        data: Any = take_latest(self._states)
        if data is not None:
            self._take(deserialize_message(data, JointState), now_ns)
        if self._measured is None:
            return None
        stamp_ns, width = self._measured
        return width if abs(now_ns - stamp_ns) <= self._gripper.states.max_age_ms * MS else None

    def send(self, command: Command) -> None:
        """Publish the width of one tick, on a topic of its own, where the policy has wanted one."""
        if self._driver is None or command.gripper is None or command.gripper_wanted is None:
            return
        message = self._driver.message(command.gripper)
        if message is not None:
            self._publisher.publish(message)

    def unheard(self) -> str:
        """Why no driver takes what is sent on its own topic; "" where one does, or it has none."""
        return unheard(self._node, self._publisher) if self._publisher is not None else ""

    def forget(self) -> None:
        """Send the next width whatever was sent before."""
        if self._driver is not None:
            self._driver.forget()

    def _take(self, message: Any, now_ns: int) -> None:
        try:
            width = gripper_width(self._gripper, message.name, message.position)
        except Refused as refused:
            self._diagnostics.count(f"refused_gripper_states.{refused.reason}")
            self._log.say("warning", f"{self._name}: {refused}", once_per_s=f"{self._name}/gripper_states")
            return
        stamp = message.header.stamp
        self._measured = self._stamps.of(stamp.sec * 10**9 + stamp.nanosec, now_ns), width
