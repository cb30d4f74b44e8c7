"""A real policy_node process, and around it what a Franka's drivers publish, on real topics.

The driver side is controllable per stream, so that a test can stop a camera, freeze it, and so on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from tests.observation.messages import compressed, image, joint_state, odometry
from tests.support import ask, wait_for
from vla_ros.nodes.qos import STATUS_QOS, STATUS_TOPIC, SubscriptionEventCallbacks
from vla_ros.robot.config import Robot

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
JOINT_PERIOD_S = 0.005


class Drivers:
    """Publishes a robot's cameras at 30 Hz, its joints at 200 Hz, its gripper at 15 Hz and its base's
    odometry at 20 Hz, from one thread.

    pixels {camera: [H, W, C]}, encodings, stamp {camera: function of the present time in ns}, silent
    {stream names}, joint_names and positions, finger_names, velocity of the base: change them while it runs.
    With a `clock_ns` other than the system's, it is published on /clock too.
    """

    def __init__(self, node: Any, robot: Robot, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.robot = robot
        self.clock_ns = clock_ns
        self._publishers: dict[str, Any] = {}
        self._clock = None if clock_ns is time.time_ns else node.create_publisher(Clock, "/clock", 10)
        for name, camera in robot.cameras.items():
            kind = Image if camera.transport == "raw" else CompressedImage
            self._publishers[name] = node.create_publisher(kind, camera.topic, BEST_EFFORT)
        arm = robot.arms["arm"]
        self._publishers["joints"] = node.create_publisher(JointState, arm.states.topic, BEST_EFFORT)
        self._publishers["gripper"] = node.create_publisher(JointState, arm.gripper.states.topic, 10)
        if robot.base is not None:
            self._publishers["odometry"] = node.create_publisher(Odometry, robot.base.odometry.topic, 50)
        self.sent = dict.fromkeys(self._publishers, 0)
        self._ended = threading.Event()
        self.restore()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def restore(self) -> None:
        """All streams as they should be."""
        arm = self.robot.arms["arm"]
        self.pixels = {
            name: np.random.default_rng(0).integers(0, 256, (camera.height, camera.width, 3), np.uint8)
            for name, camera in self.robot.cameras.items()
        }
        self.encodings = dict.fromkeys(self.robot.cameras, "rgb8")
        self.stamp: dict[str, Callable[[int], int]] = {}
        self.silent: set[str] = set()
        self.joint_names = list(arm.joints)
        self.positions = np.array(arm.home)
        self.finger_names = list(arm.gripper.joints)
        self.velocity = (0.0, 0.0)

    def image_message(self, camera: str, stamp_ns: int) -> bytes:
        # A real camera never gives the same picture twice; one value in a corner is enough.
        self.pixels[camera][-1, -1, -1] ^= 128
        if self.robot.cameras[camera].transport == "compressed":
            return compressed(stamp_ns, self.pixels[camera], ".jpg", "jpeg")
        return image(stamp_ns, self.pixels[camera], self.encodings[camera])

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        due = dict.fromkeys(self._publishers, time.monotonic())
        periods = {**dict.fromkeys(self.robot.cameras, 1 / 30), "gripper": 1 / 15}
        if self.robot.base is not None:
            periods["odometry"] = 1 / 20
        while not self._ended.wait(JOINT_PERIOD_S):
            now = self.clock_ns()
            if self._clock is not None:
                self._clock.publish(Clock(clock=Time(sec=now // 1_000_000_000, nanosec=now % 1_000_000_000)))
            self._send("joints", joint_state(now, self.joint_names, self.positions))
            for name, period in periods.items():
                if time.monotonic() < due[name]:
                    continue
                due[name] = max(due[name] + period, time.monotonic() - period)
                if name == "gripper":
                    half = [0.04] * len(self.finger_names)
                    self._send(name, joint_state(now, self.finger_names, half))
                elif name == "odometry":
                    self._send(name, odometry(now, *self.velocity))
                else:
                    stamp = self.stamp.get(name, int)(now)
                    self._send(name, self.image_message(name, stamp))

    def _send(self, name: str, cdr: bytes) -> None:
        if name not in self.silent:
            self._publishers[name].publish(cdr)
            self.sent[name] += 1


class PolicyGraph:
    """The test's own node beside the policy_node process `process`: chunks, diagnostics, services, prompt.

    `prefix`: namespace of the policy node, "" or "/left".
    """

    def __init__(self, robot: Robot, prefix: str = "", clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context)
        self.node = rclpy.create_node("driver", context=self.context, namespace=prefix)
        self.chunks: list[JointTrajectory] = []
        self.arrived: list[float] = []
        self.values: dict[str, str] = {}
        self.status: Any = None
        self.reports = 0
        self._clients: dict[str, Any] = {}
        self.prefix = prefix
        self.node.create_subscription(JointTrajectory, "vla/action_chunk", self._on_chunk, 50)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 50)
        self.said: list[str] = []
        self.alive = 0
        self.node.create_subscription(
            String,
            STATUS_TOPIC,
            lambda message: self.said.append(message.data),
            STATUS_QOS,
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )
        self._prompt = self.node.create_publisher(String, "vla/prompt", LATCHED)
        self.drivers = Drivers(self.node, robot, clock_ns)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()

    def _spin(self) -> None:
        with suppress(ExternalShutdownException):
            self._executor.spin()

    def end(self) -> None:
        self.drivers.end()
        self._executor.shutdown(timeout_sec=2.0)
        self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def _on_liveliness(self, event: Any) -> None:
        self.alive = event.alive_count

    def _on_chunk(self, message: JointTrajectory) -> None:
        self.chunks.append(message)
        self.arrived.append(time.monotonic())

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        wanted = f"{self.prefix}/policy_node".lstrip("/")
        for status in message.status:
            if status.name == wanted:
                self.status = status
                self.values = {item.key: item.value for item in status.values}
                self.reports += 1

    def call(self, kind: type, name: str, request: Any) -> Any:
        # Kept: destroying a client under a spinning executor can end the executor.
        client = self._clients.get(name) or self.node.create_client(kind, name)
        self._clients[name] = client
        return ask(client, request)

    def trigger(self, name: str) -> Any:
        return self.call(Trigger, f"policy_node/{name}", Trigger.Request())

    def say(self, prompt: str) -> None:
        self._prompt.publish(String(data=prompt))

    def settled_values(self) -> dict[str, str]:
        """Diagnostics of which all was gathered from now on."""
        before = self.reports
        wait_for(lambda: self.reports >= before + 2, 20.0, "diagnostics")
        return self.values

    def set_parameter(self, name: str, value: Any) -> Any:
        kinds = {
            str: (ParameterType.PARAMETER_STRING, "string_value"),
            float: (ParameterType.PARAMETER_DOUBLE, "double_value"),
            int: (ParameterType.PARAMETER_INTEGER, "integer_value"),
        }
        kind, field = kinds[type(value)]
        parameter = Parameter(name=name, value=ParameterValue(type=kind, **{field: value}))
        request = SetParameters.Request(parameters=[parameter])
        return self.call(SetParameters, "policy_node/set_parameters", request).results[0]

    def describe(self, topic: str, urdf: str) -> None:
        """Publish a robot description, latched."""
        self._description = self.node.create_publisher(String, topic, LATCHED)
        self._description.publish(String(data=urdf))

    def count(self, key: str) -> int:
        return int(self.values.get(key, 0))

    def wait_for_chunk(self, timeout_s: float = 20.0) -> JointTrajectory:
        """A chunk that arrives from now on."""
        before = len(self.chunks)
        wait_for(lambda: len(self.chunks) > before, timeout_s, f"a chunk; {self.status}")
        return self.chunks[-1]

    def wait_for_refusal(self, reason: str, text: str = "", timeout_s: float = 30.0) -> None:
        """Until the counter of `reason` grows, no chunk has come for 0.5 s, and the diagnostics say why in
        words that hold `text`. (On a busy machine other streams may be late too, now and then.)"""
        key, before = f"refused.{reason}", self.count(f"refused.{reason}")
        wait_for(lambda: self.count(key) > before, timeout_s, f"{key}; {self.status}")
        wait_for(
            lambda: not self.arrived or time.monotonic() - self.arrived[-1] > 0.5,
            timeout_s,
            f"chunks to end because of {reason}; {self.status}",
        )
        wait_for(
            lambda: self.status.message.startswith(f"{reason}:") and text in self.status.message,
            timeout_s,
            f"{reason}: {text}; {self.status}",
        )


def stamp_ns(message: JointTrajectory) -> int:
    return message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec


def rss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1000
    raise AssertionError("no VmRSS")
