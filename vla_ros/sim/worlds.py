"""Which world stands for a robot: the FR3's tabletop, or its arms over an empty table."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.robot.config import Robot
from vla_ros.robot.load import read_urdf
from vla_ros.sim.arms_world import ArmsWorld
from vla_ros.sim.pick_twin import EMBODIMENT, PickTwin
from vla_ros.sim.twin import ArmsTwin, Twin, step_ns
from vla_ros.sim.world import CameraInfo, World


class CameraWorld(Protocol):
    """What the camera process needs of a world. model, data: MuJoCo's."""

    model: Any
    data: Any

    def render(self, camera: str) -> NDArray[np.uint8]:
        """RGB uint8 [height, width, 3]."""
        ...

    def camera_info(self, camera: str) -> CameraInfo:
        """Intrinsics."""
        ...

    def close(self) -> None:
        """Release OpenGL."""
        ...


def make_twin(robot: Robot, file: Path, seed: int) -> Twin:
    """The twin of the robot that `file` describes. Raises ConfigError where there can be none."""
    urdfs = {name: read_urdf(file, arm) for name, arm in robot.arms.items()}
    return PickTwin(robot, urdfs, seed) if _is_pick(robot) else ArmsTwin(robot, urdfs)


def make_camera_world(robot: Robot, file: Path) -> CameraWorld:
    """The same world once more, for the process that renders it."""
    if _is_pick(robot):
        return World()
    urdfs = {name: read_urdf(file, arm) for name, arm in robot.arms.items()}
    return ArmsWorld(robot, urdfs, step_ns(robot) / 1e9)


def _is_pick(robot: Robot) -> bool:
    return robot.embodiment == EMBODIMENT and len(robot.arms) == 1 and robot.base is None
