"""From a control loop to an arm's motors: its messages travel, come late or are lost, and a trajectory
controller makes a joint position per millisecond of what arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.robot.drivers import driver_for
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.sim.controllers import ArmControllers, TrajectoryPoint
from vla_ros.types import FloatArray, Motion

MS = 1_000_000
FILE = Path(__file__).parents[2] / "robot_configs" / "franka.yaml"
ROBOT = load_robot(FILE)
ARM = ROBOT.arms["arm"].model_copy(update={"driver": "joint_trajectory"})
KINEMATICS = Kinematics(read_urdf(FILE, ARM), ARM.joints, ARM.base_frame, ARM.tool_frame)
START_NS = 1_700_000_000_000 * MS
# A tick's own time, DDS and the controller's next update.
TRANSPORT_NS = 1 * MS


class Line:
    """Time goes on in milliseconds. `sent`: joint positions after the controller, one per millisecond.

    late: called for every message, gives by how much it is late (ns), or None where it is lost.
    """

    def __init__(
        self, late: Callable[[], int | None] = lambda: 0, controller: ArmControllers | None = None
    ) -> None:
        self.now_ns = START_NS
        self.sent: list[FloatArray] = []
        self.controller = controller or ArmControllers(ARM.joints, ARM.home, KINEMATICS, "base")
        self._driver = driver_for(ARM)
        self._late = late
        self._travelling: list[tuple[int, Any]] = []

    def say(self, motion: Motion, stamp_ns: int) -> None:
        """Send a motion that was planned at `stamp_ns`."""
        message = self._driver.message(motion, np.eye(4), None, stamp_ns)
        late = self._late()
        if message is not None and late is not None:
            self._travelling.append((max(self.now_ns, stamp_ns) + TRANSPORT_NS + late, message))

    def run_until(self, time_ns: int) -> None:
        """Let the controller run up to, but without, `time_ns`."""
        while self.now_ns < time_ns:
            for _, message in self._arrived():
                self.deliver(message)
            self.sent.append(self.controller.reference(self.now_ns))
            self.now_ns += MS

    def deliver(self, message: Any) -> None:
        """Give the controller a trajectory_msgs/JointTrajectory now."""
        start = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        points = list(_points(message.points))
        self.controller.joint_trajectory(message.joint_names, points, start, self.now_ns)

    def _arrived(self) -> list[tuple[int, Any]]:
        there = [item for item in self._travelling if item[0] <= self.now_ns]
        self._travelling = [item for item in self._travelling if item[0] > self.now_ns]
        return there


def _points(points: Iterable[Any]) -> Iterable[TrajectoryPoint]:
    for point in points:
        after = point.time_from_start.sec * 10**9 + point.time_from_start.nanosec
        yield TrajectoryPoint(
            np.array(point.positions), after, np.array(point.velocities), np.array(point.accelerations)
        )
