"""One arm's topics in control_node: joint states in, the driver's commands and the gripper's out."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState

from vla_ros.errors import Refused
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.gripper_client import GripperClient
from vla_ros.nodes.listeners import unheard
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.qos import state_qos
from vla_ros.nodes.start_steps import take_steps
from vla_ros.nodes.streamed_gripper import StreamedGripper
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import Arm
from vla_ros.robot.drivers import Driver
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.stamps import Stamps
from vla_ros.robot.states import positions_by_name
from vla_ros.safety.modes import POLICY, SOURCES
from vla_ros.safety.supervisor import Measured
from vla_ros.types import Command

NS = 1_000_000_000


@dataclass(frozen=True)
class Prepared:
    """A command as its driver says it (None: nothing to say), and the driver as it is once that is sent.

    Not serialised: rclpy's `serialize_message` leaves memory of nobody's behind the message."""

    command: Command
    message: Any
    driver: Driver


class ArmTopics:
    """See the module. `read`, `message` and `send` belong to the commanding thread.

    measured: the newest joint states that could be used, None before there were any. command_topics: the
    driver's, and a streamed gripper's own. ready: whether the driver has had its first steps, or needs none.
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
        self._start_steps = driver.start_steps()
        self.ready = not self._start_steps
        self._diagnostics = diagnostics
        self._log = log
        self.command_topics = [node.resolve_topic_name(driver.topic)]
        self._publisher = node.create_publisher(driver.message_type, driver.topic, 10)
        self._states = polled_subscription(node, JointState, arm.states.topic, state_qos(arm.states))
        self._stamps = Stamps(arm.states)
        self._goals: GripperClient | None = None
        self._streamed: StreamedGripper | None = None
        if arm.gripper is not None and arm.gripper.action is not None:
            self._goals = GripperClient(node, name, arm.gripper, arm.gripper.action, diagnostics)
        elif arm.gripper is not None:
            self._streamed = StreamedGripper(node, name, arm.gripper, diagnostics, log)
            if self._streamed.command_topic:
                self.command_topics.append(self._streamed.command_topic)

    def destroy(self) -> None:
        """Release the topics."""
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_subscription(self._states)
        for gripper in (self._goals, self._streamed):
            if gripper is not None:
                gripper.destroy()

    def read(self, now_ns: int) -> None:
        """Take the newest joint states at `now_ns`, ROS clock. What cannot be used is counted, and what was
        measured before stays: it grows old and then is no longer acted on."""
        width = None if self._streamed is None else self._streamed.width(now_ns)
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
        self.measured = Measured(q, self._stamps.of(stamp.sec * NS + stamp.nanosec, now_ns), width)

    def message(self, command: Command) -> Prepared:
        """What the driver is to be sent for a command. Raises Refused where it cannot be said."""
        # What a driver remembers is replaced, never changed in place: of a message that is not sent, nothing.
        driver = copy(self._driver)
        pose = self.kinematics.forward(command.sent)
        try:
            message = driver.message(command.motion, pose, command.gripper, command.stamp_ns)
        except Refused as refused:
            raise Refused(refused.reason, f"{self._name}: {refused}") from refused
        return Prepared(command, message, driver)

    def send(self, prepared: Prepared) -> None:
        """Publish what `message` prepared to the driver, and the command to the gripper's."""
        command, self._driver = prepared.command, prepared.driver
        if prepared.message is not None:
            self._publisher.publish(prepared.message)
        if self._streamed is not None:
            self._streamed.send(command)
        if self._goals is None:
            return
        wanted = command.gripper_wanted
        if command.source != SOURCES[POLICY]:
            self._goals.rest()
        elif wanted is not None and isfinite(wanted):
            # A goal, and not the ramp of widths towards it: the gripper's driver goes there at its own speed.
            self._goals.want(wanted)

    def unheard(self) -> list[str]:
        """A text for each command topic that no driver takes."""
        texts = [unheard(self._node, self._publisher)]
        if self._streamed is not None:
            texts.append(self._streamed.unheard())
        return [text for text in texts if text]

    def unknown_gripper(self) -> str:
        """Why a gripper that is sent a stream of widths cannot begin, for people; "" where it can."""
        if self._streamed is None or self.measured is None or self.measured.gripper is not None:
            return ""
        assert self._arm.gripper is not None
        topic = self._arm.gripper.states.topic
        return f"{self._name}: the gripper's width is not known; is {topic} being published?"

    def prepare(self, look: Callable[[], None]) -> None:
        """Take the driver's steps before its first command where it has not had them; waits. Raises
        VlaRosError where one fails, and what `look` raises, see `take_steps`."""
        if not self.ready:
            take_steps(self._node, self._start_steps, look)
            self.ready = True

    def driver_gone(self) -> None:
        """The driver was seen gone, or the arm does not follow: whether it still does what it was told is not
        known any more."""
        self.ready = not self._start_steps

    def forget_gripper(self) -> None:
        """Send the gripper's next width whatever was sent before."""
        for gripper in (self._goals, self._streamed):
            if gripper is not None:
                gripper.forget()
