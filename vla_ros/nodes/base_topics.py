"""A mobile base's topics in control_node: odometry in, velocities out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.serialization import deserialize_message

from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.listeners import unheard
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.qos import state_qos
from vla_ros.nodes.start_steps import take_steps
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import MobileBase
from vla_ros.robot.drivers.twist import BaseTwist
from vla_ros.robot.stamps import Stamps
from vla_ros.safety.supervisor import BaseMeasured
from vla_ros.types import BaseCommand

NS = 1_000_000_000


class BaseTopics:
    """See the module. `read`, `message` and `send` belong to the commanding thread.

    measured: the newest odometry that could be used, None before there was any. command_topics: the driver's.
    ready: whether the driver has had its first steps, or needs none.
    """

    def __init__(
        self, node: Node, base: MobileBase, diagnostics: DiagnosticsPublisher, log: HandedLog
    ) -> None:
        self.measured: BaseMeasured | None = None
        self._node = node
        self._diagnostics = diagnostics
        self._log = log
        self._driver = BaseTwist(base)
        self._start_steps = self._driver.start_steps()
        self.ready = not self._start_steps
        self.command_topics = [node.resolve_topic_name(self._driver.topic)]
        self._publisher = node.create_publisher(self._driver.message_type, self._driver.topic, 10)
        self._odometry = polled_subscription(node, Odometry, base.odometry.topic, state_qos(base.odometry))
        self._stamps = Stamps(base.odometry)

    def destroy(self) -> None:
        """Release the topics."""
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_subscription(self._odometry)

    def read(self, now_ns: int) -> None:
        """Take the newest odometry at `now_ns`, ROS clock. What cannot be used is counted, and what was
        measured before stays: it grows old and then is no longer acted on."""
        data: Any = take_latest(self._odometry)
        if data is None:
            return
        message = deserialize_message(data, Odometry)
        twist = message.twist.twist
        velocity = np.array([twist.linear.x, twist.angular.z])
        if not np.isfinite(velocity).all():
            self._diagnostics.count("refused_odometry.nan")
            text = f"base: odometry is not finite: {velocity[0]} m/s, {velocity[1]} rad/s"
            self._log.say("warning", text, once_per_s="base/odometry")
            return
        stamp = message.header.stamp
        self.measured = BaseMeasured(velocity, self._stamps.of(stamp.sec * NS + stamp.nanosec, now_ns))

    def message(self, command: BaseCommand) -> Any:
        """What the driver is to be sent for a command. Raises Refused where it cannot be said."""
        return self._driver.message(command.sent)

    def send(self, message: Any) -> None:
        """Publish what `message` made."""
        self._publisher.publish(message)

    def stand(self) -> None:
        """Publish zero: nobody slows the base down any more, and its driver goes on with what it was sent
        last until it stops just as suddenly. From any thread."""
        self.send(self._driver.message(np.zeros(2)))

    def unheard(self) -> list[str]:
        """A text for each command topic that no driver takes."""
        text = unheard(self._node, self._publisher)
        return [text] if text else []

    def prepare(self, look: Callable[[], None]) -> None:
        """Take the driver's steps before its first command where it has not had them; waits. Raises
        VlaRosError where one fails, and what `look` raises, see `take_steps`."""
        if not self.ready:
            take_steps(self._node, self._start_steps, look)
            self.ready = True

    def driver_gone(self) -> None:
        """The driver was seen gone, or the base does not follow: whether it still does what it was told is
        not known any more."""
        self.ready = not self._start_steps
