"""A Franka's streams, as its drivers would have sent them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.observation.messages import image, joint_state
from tests.tiny_bundle import ROOT, franka_fields
from vla_ros.errors import Refused
from vla_ros.observation.assemble import assemble
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.ring import MS
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import Observation

FRANKA = Robot.model_validate(franka_fields())
JOINTS = FRANKA.arms["arm"].joints
FINGERS = ["fr3_finger_joint1", "fr3_finger_joint2"]
HOME = np.array(FRANKA.arms["arm"].home)
T0 = 1_700_000_000_000_000_000
PICTURE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
ARM = FRANKA.arms["arm"]
KINEMATICS = {
    "arm": Kinematics(
        Path(ROOT / "robot_configs" / ARM.urdf).read_text(), ARM.joints, ARM.base_frame, ARM.tool_frame
    )
}


def at(ms: float) -> int:
    return T0 + round(ms * MS)


class Feed:
    """Buffers of a Franka with what a driver would have sent; times are ms after T0."""

    def __init__(self, robot: Robot = FRANKA, past_s: float = 0.0, optional: tuple[str, ...] = ()) -> None:
        self.robot = robot
        self.buffers = ObservationBuffers(robot, ["front", "wrist"], past_s, optional)
        self.latest = float("-inf")

    def image(self, camera: str, ms: float, pixels: np.ndarray = PICTURE, encoding: str = "rgb8") -> None:
        self.buffers.image(camera, image(at(ms), pixels, encoding), self.now_ns(ms))

    def now_ns(self, ms: float) -> int:
        """What is stamped `ms` arrives at once, or, older than what came before, after that."""
        self.latest = max(self.latest, ms)
        return at(self.latest)

    def joints(self, ms: float, q: np.ndarray = HOME) -> None:
        self.buffers.joint_states("arm", joint_state(at(ms), JOINTS, q), self.now_ns(ms))

    def gripper(self, ms: float, width: float = 0.08) -> None:
        self.buffers.gripper_states(
            "arm", joint_state(at(ms), FINGERS, [width / 2, width / 2]), self.now_ns(ms)
        )

    def all(self, ms: float = 0, joints_until: float | None = None) -> Feed:
        """Both cameras at `ms`, joints every 10 ms around it, a gripper state a little before."""
        for time in np.arange(ms - 50, (ms + 30 if joints_until is None else joints_until) + 1, 10):
            self.joints(time)
        self.gripper(ms - 20)
        self.image("front", ms)
        self.image("wrist", ms)
        return self

    def see(self, ms: float = 40) -> Observation:
        return assemble(self.buffers, self.robot, at(ms), "lift it", KINEMATICS)

    def refusal(self, ms: float = 40) -> Refused:
        with pytest.raises(Refused) as caught:
            self.see(ms)
        return caught.value
