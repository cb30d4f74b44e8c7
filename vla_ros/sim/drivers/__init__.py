"""The faces that simulated arms show to the graph: each the topics, types, rates and quirks of a real driver.

One module per protocol, chosen by the robot YAML's `driver`, as in `vla_ros.robot.drivers`.
"""

from __future__ import annotations

from collections.abc import Callable

from vla_ros.sim.arm import SimArm
from vla_ros.sim.drivers.cobot_magic import CobotMagic
from vla_ros.sim.drivers.face import Face, Host
from vla_ros.sim.drivers.interbotix import Interbotix
from vla_ros.sim.drivers.piper import Piper
from vla_ros.sim.drivers.ros2_control import Ros2Control

_FACES: dict[str, Callable[[Host, SimArm], Face]] = {
    "joint_trajectory": Ros2Control,
    "joint_position": Ros2Control,
    "cartesian_pose": Ros2Control,
    "interbotix": Interbotix,
    "piper_joint": Piper,
    "piper_pose": Piper,
    "cobot_magic": CobotMagic,
}


def face_of(host: Host, arm: SimArm) -> Face:
    """The driver's side of an arm."""
    return _FACES[arm.config.driver](host, arm)
