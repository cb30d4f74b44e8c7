"""What control_node tells about its commands: `vla/command`, `vla/intervention` and `vla/control_source`."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.robot.channels import gripper_channel, joint_channels
from vla_ros.types import Command

NS = 1_000_000_000
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
WANTED = "/wanted"


class CommandReport:
    """See the module. For the commanding thread.

    vla/command: per channel what was sent, and under `<channel>/wanted` what was wanted before safety.
    vla/intervention: `<arm>/<word>` for each limit that changes the commands now, in order, separated by
    commas; published when that changes, empty when nothing is changed any more.
    """

    def __init__(self, node: Node, diagnostics: DiagnosticsPublisher) -> None:
        self._node = node
        self._diagnostics = diagnostics
        self._command = node.create_publisher(JointState, "vla/command", 10)
        self._intervention = node.create_publisher(String, "vla/intervention", LATCHED)
        self._source = node.create_publisher(String, "vla/control_source", LATCHED)
        self._last_words: tuple[str, ...] = ()
        self._last_source = ""

    def destroy(self) -> None:
        """Release the topics."""
        for publisher in (self._command, self._intervention, self._source):
            self._node.destroy_publisher(publisher)

    def commands(self, commands: Mapping[str, Command]) -> None:
        """Tell one tick's commands, {arm: command}; none where nothing was sent."""
        words = []
        for name, command in commands.items():
            for word in command.interventions:
                words.append(f"{name}/{word}")
                self._diagnostics.count(f"interventions.{word}")
        if commands:
            self._command.publish(message(commands))
        told = tuple(sorted(words))
        if told != self._last_words:
            self._last_words = told
            self._intervention.publish(String(data=", ".join(told)))

    def source(self, source: str) -> None:
        """Tell what decides the command, if that has changed."""
        if source != self._last_source:
            self._last_source = source
            self._source.publish(String(data=source))


def message(commands: Mapping[str, Command]) -> JointState:
    """`vla/command` for {arm: command}, stamped with the commands' stamp."""
    names: list[str] = []
    sent: list[float] = []
    wanted: list[float] = []
    stamp_ns = 0
    for name, command in commands.items():
        stamp_ns = command.stamp_ns
        names += joint_channels(name, len(command.sent))
        sent += command.sent.tolist()
        wanted += command.wanted.tolist()
        if command.gripper is not None and command.gripper_wanted is not None:
            names.append(gripper_channel(name))
            sent.append(command.gripper)
            wanted.append(command.gripper_wanted)
    result = JointState(name=names + [name + WANTED for name in names], position=np.array(sent + wanted))
    result.header.stamp.sec, result.header.stamp.nanosec = divmod(stamp_ns, NS)
    return result
