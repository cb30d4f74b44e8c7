"""One arm of the twin: the world behind it, its driver's controllers and its gripper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from numpy.typing import ArrayLike

from vla_ros.robot.config import Arm
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim.controllers import ArmControllers
from vla_ros.sim.gripper import SimGripper
from vla_ros.types import FloatArray


class Body(Protocol):
    """An arm's joints in a simulated world."""

    def positions(self) -> FloatArray:
        """Float64 [J], rad."""
        ...

    def velocities(self) -> FloatArray:
        """Float64 [J], rad/s."""
        ...

    def efforts(self) -> FloatArray:
        """Servo torques, float64 [J], N m."""
        ...

    def command(self, positions: ArrayLike) -> None:
        """Set the servo targets [J], rad."""
        ...


@dataclass(frozen=True)
class SimArm:
    """See the module. gripper: None where the arm has none."""

    name: str
    config: Arm
    kinematics: Kinematics
    body: Body
    controllers: ArmControllers
    gripper: SimGripper | None


def make_controllers(arm: Arm, kinematics: Kinematics) -> ArmControllers:
    """The controllers of an arm that holds its home."""
    cartesian = arm.drivers.cartesian_pose
    frame = cartesian.frame if cartesian else arm.base_frame
    return ArmControllers(arm.joints, arm.home, kinematics, frame)
