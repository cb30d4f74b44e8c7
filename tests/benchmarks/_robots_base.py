"""How well a base follows the velocity that the scripted policy asks for, and how it stops."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from vla_ros.benchmarks._robots_reference import Reference
from vla_ros.benchmarks.bench import Value
from vla_ros.errors import VlaRosError
from vla_ros.robot.config import MobileBase
from vla_ros.types import FloatArray

# It stands when it is slower than this share of its limits of velocity; looked at for this long, s.
STANDS, STOP_S = 0.01, 3.0


class BaseEars:
    """Listens to what a base says and is told. velocities: (s on the monotonic clock, [2] m/s and rad/s);
    commands: when they were published."""

    def __init__(self, node: Any, base: MobileBase) -> None:
        from nav_msgs.msg import Odometry

        from vla_ros.nodes.qos import state_qos
        from vla_ros.nodes.transport import polled_subscription
        from vla_ros.robot.drivers.twist import BaseTwist

        self.velocities: list[tuple[float, FloatArray]] = []
        self.commands: list[float] = []
        self._base = base
        odometry = state_qos(base.odometry, 1000)
        self._odometry = polled_subscription(node, Odometry, base.odometry.topic, odometry)
        driver = BaseTwist(base)
        self._twists = polled_subscription(node, driver.message_type, driver.topic, 1000)

    def listen(self) -> None:
        """Take what has arrived, each with the time at which it was sent."""
        from rclpy.serialization import deserialize_message

        to_monotonic = time.monotonic() - time.time()
        with self._odometry.handle:
            while (item := self._odometry.handle.take_message(self._odometry.msg_type, True)) is not None:
                twist: Any = deserialize_message(item[0], self._odometry.msg_type).twist.twist
                velocity = np.array([twist.linear.x, twist.angular.z])
                self.velocities.append((item[1]["source_timestamp"] / 1e9 + to_monotonic, velocity))
        with self._twists.handle:
            while (item := self._twists.handle.take_message(self._twists.msg_type, True)) is not None:
                self.commands.append(item[1]["source_timestamp"] / 1e9 + to_monotonic)

    def row(
        self, robot: str, reference: Reference, began: float, window: tuple[float, float], stopped: float
    ) -> dict[str, Value]:
        """Errors of velocity within a window of time, and how long it took to stand after the stop."""
        found = [
            velocity - reference.velocity(at - began)
            for at, velocity in self.velocities
            if window[0] <= at <= window[1]
        ]
        if not found:
            raise VlaRosError(f"the base said nothing on {self._base.odometry.topic}")
        errors = np.abs(found) * 1e3
        rms, largest = np.sqrt((errors**2).mean(axis=0)), errors.max(axis=0)
        sent = sum(window[0] <= at <= window[1] for at in self.commands)
        stands_s = self._stands_at(stopped)
        return {
            "robot": robot,
            "arm": "base",
            "driver": "twist",
            "space": reference.space,
            "rms_mm_per_s": round(float(rms[0]), 1),
            "largest_mm_per_s": round(float(largest[0]), 1),
            "rms_mrad_per_s": round(float(rms[1]), 1),
            "largest_mrad_per_s": round(float(largest[1]), 1),
            "commands_hz": round(sent / (window[1] - window[0]), 1),
            "stands_after_s": None if stands_s is None else round(stands_s - stopped, 2),
        }

    def _stands_at(self, stopped: float) -> float | None:
        """When it stood for good after a moment; None while it does not."""
        slow = STANDS * np.array(self._base.limits.velocity)
        after = [(at, (np.abs(velocity) <= slow).all()) for at, velocity in self.velocities if at > stopped]
        driving = [index for index, (_, stands) in enumerate(after) if not stands]
        first = driving[-1] + 1 if driving else 0
        return after[first][0] if first < len(after) else None
