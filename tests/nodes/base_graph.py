"""ALOHA on a mobile base: a real control_node process and, in this process, the vendors' arms and the base's
driver as SLATE's is (interbotix_ros_core, branch humble, slate_base.cpp)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile
from std_srvs.srv import SetBool

from tests.nodes.vendor_graph import VendorGraph, robot_file
from tests.support import Starter, claimed_domain, wait_for
from vla_ros.action.message import to_message
from vla_ros.robot.channels import BASE_CHANNELS, joint_channels
from vla_ros.types import ActionChunk, FloatArray

MS, NS = 1_000_000, 1_000_000_000
TOPIC, ODOMETRY, TORQUE = "/mobile_base/cmd_vel", "/mobile_base/odom", "/mobile_base/set_motor_torque_status"
MOST, HARDEST = np.array([0.5, 0.8]), np.array([0.5, 1.0])
# A busy test machine holds this process up for longer than a robot's driver is ever held up.
PATIENT_MS = 1500.0


class Slate:
    """The driver's loop of 20 Hz: commands count for 300 ms, and not while the motors are off or the e-stop
    is pressed; the base follows with a lag.

    alive: whether odometry comes; behind_s: how far its stamps are behind the ROS clock; heard: velocities it
    was sent, float64 [2], with when; asked: for torque; runs_away: whether it goes on as it goes, whatever it
    is sent.
    """

    def __init__(self, node: Any) -> None:
        self.alive = True
        self.behind_s = 0
        self.on = self.pressed = self.refuses = self.runs_away = False
        self.heard: list[tuple[float, FloatArray]] = []
        self.asked: list[bool] = []
        self.velocity = np.zeros(2)
        self._node = node
        self._wanted = np.zeros(2)
        self._odometry = node.create_publisher(Odometry, ODOMETRY, 50)
        node.create_service(SetBool, TORQUE, self._torque)
        self._timer = node.create_timer(0.05, self._update, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.come_back()

    def come_back(self) -> None:
        """Take commands, as a driver that has just started."""
        self._subscription = self._node.create_subscription(Twist, TOPIC, self._hear, QoSProfile(depth=200))

    def go(self) -> None:
        """Take no commands and say nothing any more, as when its process has ended."""
        self._node.destroy_subscription(self._subscription)
        self.alive = self.on = False

    def sent(self, since: int = 0) -> FloatArray:
        """What it was sent from the given message on, [N, 2]."""
        return np.array([velocity for _, velocity in list(self.heard)[since:]]).reshape(-1, 2)

    def _hear(self, message: Twist) -> None:
        self._wanted = np.array([message.linear.x, message.angular.z])
        self.heard.append((time.monotonic(), self._wanted))

    def _torque(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        self.asked.append(request.data)
        self.on = request.data and not self.refuses
        response.success = not self.refuses
        response.message = "Failed to enable motor torque." if self.refuses else ""
        return response

    def _update(self) -> None:
        silent = not self.heard or time.monotonic() - self.heard[-1][0] > 0.3
        drives = self.on and not self.pressed and not silent
        if not self.runs_away:
            self.velocity = self.velocity + 0.5 * (np.clip(self._wanted, -1, 1) * drives - self.velocity)
        if self.alive:
            message = Odometry()
            now = self._node.get_clock().now().nanoseconds
            message.header.stamp.sec, message.header.stamp.nanosec = divmod(now - self.behind_s * NS, NS)
            message.twist.twist.linear.x, message.twist.twist.angular.z = self.velocity.tolist()
            message.pose.covariance[0] = -1.0 if self.pressed else 1.0
            self._odometry.publish(message)


class BaseGraph:
    """A VendorGraph with a base."""

    def __init__(self, starter: Starter, domain: int, file: Path) -> None:
        self.graph = VendorGraph(starter, domain, file)
        self.base = Slate(self.graph.node)

    def start(self) -> None:
        """Call ~/start until joint states and odometry are there."""

        def started() -> bool:
            response = self.graph.call("start")
            known = ("joint states", "odometry", "gripper's width", "nobody subscribes", "no service")
            assert response.success or any(word in response.message for word in known), response.message
            return bool(response.success)

        wait_for(started, 20.0, "start to succeed")
        time.sleep(0.05)

    def send(self, vx: float | None, wz: float = 0.0) -> None:
        """A second in which the arms stay at home and the base goes on at a velocity (None: not named)."""
        arms = self.graph.robot.arms
        channels = [
            channel for name, arm in arms.items() for channel in joint_channels(name, len(arm.joints))
        ]
        row = [angle for arm in arms.values() for angle in arm.home]
        if vx is not None:
            channels += BASE_CHANNELS
            row += [vx, wz]
        now = self.graph.node.get_clock().now().nanoseconds
        due = now + np.arange(1, 11) * 100 * MS
        chunk = ActionChunk(tuple(channels), np.tile(row, (10, 1)), due.astype(np.int64), now)
        self.graph.chunks.publish(to_message(chunk))

    def drive(self, vx: float | None, wz: float, until: Any, what: str, timeout_s: float = 20.0) -> None:
        """Send such chunks, until."""

        def send() -> None:
            self.send(vx, wz)
            time.sleep(0.1)

        wait_for(until, timeout_s, what, send)

    def at(self, vx: float, wz: float) -> bool:
        """Whether this is what the base was sent last."""
        sent = self.base.sent()
        return len(sent) > 0 and bool(np.allclose(sent[-1], [vx, wz], atol=1e-9))

    def assert_limits(self) -> None:
        """What the base was sent, from standing on, is within its limits: from one message to the next no
        more than what a period allows."""
        sent = np.vstack([np.zeros((1, 2)), self.base.sent()])
        assert (np.abs(sent) <= MOST).all()
        change = np.abs(np.diff(sent, axis=0))
        assert (change <= HARDEST / self.graph.robot.control.rate_hz * (1 + 1e-9)).all()


def base_file(folder: Path, stamps: str) -> Path:
    """aloha.yaml with patient watchdogs, on a base."""
    robot_file(folder, "aloha")
    file = folder / "mobile.yaml"
    base = {
        "odometry": {"topic": ODOMETRY, "rate_hz": 20, "max_age_ms": PATIENT_MS, "stamps": stamps},
        "limits": {"velocity": MOST.tolist(), "acceleration": HARDEST.tolist()},
        "twist": {"topic": TOPIC, "torque_service": TORQUE},
    }
    file.write_text(yaml.safe_dump({"extends": "robot.yaml", "name": "mobile", "base": base}))
    return file


@contextlib.contextmanager
def base_graph(folder: Path, stamps: str = "header") -> Iterator[BaseGraph]:
    """A graph on a domain of its own."""
    starter = Starter()
    file = base_file(folder, stamps)
    with claimed_domain() as domain:
        made = BaseGraph(starter, domain, file)
        try:
            yield made
        finally:
            starter.end()
            made.graph.close()
