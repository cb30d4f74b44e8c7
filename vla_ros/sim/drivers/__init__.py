"""The faces that simulated arms show to the graph: each the topics, types, rates and quirks of a real driver.

One module per protocol, chosen by the robot YAML's `driver`, as in `vla_ros.robot.drivers`.
"""

from __future__ import annotations

from collections.abc import Callable

from rclpy.node import Node

from vla_ros.sim.arm import SimArm
from vla_ros.sim.drivers.cobot_magic import CobotMagic
from vla_ros.sim.drivers.face import Face, Reject
from vla_ros.sim.drivers.interbotix import Interbotix
from vla_ros.sim.drivers.piper import Piper
from vla_ros.sim.drivers.ros2_control import Ros2Control

Obeyed = Callable[[int], None]
InPhysics = Callable[[Callable[[], None]], None]

_FACES: dict[str, Callable[[Node, SimArm, Reject, Obeyed, InPhysics], Face]] = {
    "joint_trajectory": Ros2Control,
    "joint_position": Ros2Control,
    "cartesian_pose": Ros2Control,
    "interbotix": Interbotix,
    "piper_joint": Piper,
    "piper_pose": Piper,
    "cobot_magic": CobotMagic,
}


def face_of(node: Node, arm: SimArm, rejected: Reject, obeyed: Obeyed, in_physics: InPhysics) -> Face:
    """The driver's side of an arm.

    rejected: called with (driver, reason, text) for each command that the real driver would not take; obeyed:
    with the time in ns of one that it takes. in_physics: has something done between two steps.
    """
    return _FACES[arm.config.driver](node, arm, rejected, obeyed, in_physics)
