"""The faces that the twin shows to the graph: each the topics, types, rates and quirks of a real driver.

One module per protocol, chosen by the robot YAML's `driver` of each arm, as in `vla_ros.robot.drivers`; a
base has one driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from vla_ros.sim.arm import SimArm
from vla_ros.sim.drivers.cobot_magic import CobotMagic
from vla_ros.sim.drivers.face import Face, Host
from vla_ros.sim.drivers.interbotix import Interbotix
from vla_ros.sim.drivers.piper import Piper
from vla_ros.sim.drivers.ros2_control import Ros2Control
from vla_ros.sim.drivers.slate import Slate
from vla_ros.sim.twin import Twin

_FACES: dict[str, Callable[[Host, SimArm], Face]] = {
    "joint_trajectory": Ros2Control,
    "joint_position": Ros2Control,
    "cartesian_pose": Ros2Control,
    "interbotix": Interbotix,
    "piper_joint": Piper,
    "piper_pose": Piper,
    "cobot_magic": CobotMagic,
}


def faces_of(host: Host, twin: Twin) -> Iterator[Face]:
    """The drivers of the twin's arms, in their order, and of its base."""
    for arm in twin.arms:
        yield _FACES[arm.config.driver](host, arm)
    if twin.base is not None:
        yield Slate(host, twin.base)
