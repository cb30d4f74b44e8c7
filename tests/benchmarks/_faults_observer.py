"""A node that writes down what the graph says on its topics, with the time at which each was published
(DDS's source timestamp: how late this process looks does not matter)."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import Log
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.benchmarks._faults_judge import NS, Sent
from vla_ros.nodes.realtime import real_time_thread
from vla_ros.nodes.transport import polled_subscription
from vla_ros.robot.channels import joint_channels
from vla_ros.robot.config import Arm
from vla_ros.sim.controllers import NOTHING, TrajectoryPoint
from vla_ros.types import FloatArray


def nanoseconds(time: Any) -> int:
    """Of a builtin_interfaces Time or Duration."""
    return int(time.sec) * NS + int(time.nanosec)


LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
POLL_S = 0.005
# Of joint states at 1 kHz one in so many is read.
JOINT_SHARE = 5


@dataclass(frozen=True)
class Said:
    """A line of a node's log."""

    at_ns: int
    node: str
    level: int
    text: str


class Observer:
    """Records from its making on; every list grows in the order of arrival and may be read meanwhile.

    commands: what vla/command says was sent, (when, joints [J]).
    joint_topic: where the driver itself reports, before anything that a benchmark puts in between.
    """

    def __init__(self, node: Node, name: str, arm: Arm, driver_topic: str, joint_topic: str) -> None:
        self.sent: list[Sent] = []
        self.joints: list[tuple[int, FloatArray]] = []
        self.commands: list[tuple[int, FloatArray]] = []
        self.sources: list[tuple[int, str]] = []
        self.log: list[Said] = []
        self.reports: list[tuple[int, str, dict[str, str]]] = []
        self.chunks: list[tuple[int, bytes]] = []
        self._arm = arm
        self._channels = joint_channels(name, len(arm.joints))
        self._skip = 0
        best_effort = QoSProfile(depth=1000, reliability=ReliabilityPolicy.BEST_EFFORT)
        deep = QoSProfile(depth=1000)
        self._inputs: list[tuple[Any, Any]] = [
            (polled_subscription(node, JointTrajectory, driver_topic, deep), self._on_sent),
            (polled_subscription(node, JointState, joint_topic, best_effort), self._on_joints),
            (polled_subscription(node, JointState, "vla/command", deep), self._on_command),
            (polled_subscription(node, String, "vla/control_source", LATCHED), self._on_source),
            (polled_subscription(node, Log, "/rosout", deep), self._on_log),
            (polled_subscription(node, DiagnosticArray, "/diagnostics", deep), self._on_report),
            (polled_subscription(node, JointTrajectory, "vla/action_chunk", deep), self._on_chunk),
        ]
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="observer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop recording."""
        self._halt.set()
        self._thread.join()

    def clear(self) -> None:
        """Forget what was recorded, except what controls the arm now."""
        del self.sent[:], self.joints[:], self.log[:], self.reports[:], self.chunks[:], self.sources[:-1]
        del self.commands[:]

    @property
    def source(self) -> str:
        """What controls the arm now, as control_node says; empty before it said anything."""
        return self.sources[-1][1] if self.sources else ""

    def commanded_speed(self) -> float:
        """The fastest joint's speed in the last message to the driver, rad/s; 0 when that is old."""
        if not self.sent or time.time_ns() - self.sent[-1].at_ns > 0.1 * NS:
            return 0.0
        return self.sent[-1].speed

    def _watch(self) -> None:
        real_time_thread()
        while not self._halt.wait(POLL_S):
            for subscription, take in self._inputs:
                with subscription.handle:
                    while (item := subscription.handle.take_message(subscription.msg_type, True)) is not None:
                        take(item[0], int(item[1]["source_timestamp"]))

    def _on_sent(self, data: bytes, at_ns: int) -> None:
        message: Any = deserialize_message(data, JointTrajectory)
        order = [list(message.joint_names).index(joint) for joint in self._arm.joints]
        points = tuple(
            TrajectoryPoint(
                np.array(point.positions)[order],
                nanoseconds(point.time_from_start),
                np.array(point.velocities)[order] if len(point.velocities) else NOTHING,
                np.array(point.accelerations)[order] if len(point.accelerations) else NOTHING,
            )
            for point in message.points
        )
        self.sent.append(Sent(at_ns, nanoseconds(message.header.stamp), points))

    def _on_joints(self, data: bytes, at_ns: int) -> None:
        self._skip = (self._skip + 1) % JOINT_SHARE
        if self._skip:
            return
        message: Any = deserialize_message(data, JointState)
        by_name = dict(zip(message.name, message.position, strict=True))
        self.joints.append((at_ns, np.array([by_name[joint] for joint in self._arm.joints])))

    def _on_command(self, data: bytes, at_ns: int) -> None:
        message: Any = deserialize_message(data, JointState)
        by_name = dict(zip(message.name, message.position, strict=True))
        self.commands.append((at_ns, np.array([by_name[channel] for channel in self._channels])))

    def _on_source(self, data: bytes, at_ns: int) -> None:
        self.sources.append((at_ns, deserialize_message(data, String).data))

    def _on_log(self, data: bytes, at_ns: int) -> None:
        message: Any = deserialize_message(data, Log)
        self.log.append(Said(at_ns, message.name, int(message.level), message.msg))

    def _on_report(self, data: bytes, at_ns: int) -> None:
        message: Any = deserialize_message(data, DiagnosticArray)
        for status in message.status:
            name = status.name.rsplit("/", 1)[-1]
            self.reports.append((at_ns, name, {pair.key: pair.value for pair in status.values}))

    def _on_chunk(self, data: bytes, at_ns: int) -> None:
        self.chunks.append((at_ns, data))
