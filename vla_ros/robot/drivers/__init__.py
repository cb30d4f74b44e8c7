"""One module per driver protocol: from joint targets to the driver's message.

Message packages are imported when a driver is made, so that a robot can be loaded and checked where
there is no ROS.
"""

from __future__ import annotations

from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.cartesian import CartesianPose
from vla_ros.robot.drivers.cobot_magic import CobotMagic
from vla_ros.robot.drivers.driver import Call, Driver, Goal, Recovery, Send, StartStep
from vla_ros.robot.drivers.interbotix import Interbotix, InterbotixGripper
from vla_ros.robot.drivers.piper import PiperJoint, PiperPose
from vla_ros.robot.drivers.position import JointPosition
from vla_ros.robot.drivers.trajectory import LATE_NS, SETTLE_NS, JointTrajectory

__all__ = [
    "LATE_NS",
    "SETTLE_NS",
    "WITH_GRIPPER",
    "Call",
    "Driver",
    "Goal",
    "InterbotixGripper",
    "Recovery",
    "Send",
    "StartStep",
    "driver_class",
    "driver_for",
]

DriverClass = (
    type[JointTrajectory]
    | type[JointPosition]
    | type[CartesianPose]
    | type[Interbotix]
    | type[PiperJoint]
    | type[PiperPose]
    | type[CobotMagic]
)
_DRIVERS: dict[str, DriverClass] = {
    "joint_trajectory": JointTrajectory,
    "joint_position": JointPosition,
    "cartesian_pose": CartesianPose,
    "interbotix": Interbotix,
    "piper_joint": PiperJoint,
    "piper_pose": PiperPose,
    "cobot_magic": CobotMagic,
}
# Drivers whose message holds the gripper beside the joints.
WITH_GRIPPER = tuple(name for name, driver in _DRIVERS.items() if driver.with_gripper)


def driver_class(arm: Arm) -> DriverClass:
    """The driver that the arm's YAML chooses, to ask what it is like; needs no ROS."""
    return _DRIVERS[arm.driver]


def driver_for(arm: Arm) -> Driver:
    """The driver that the arm's YAML chooses. Raises ImportError without the ROS message packages, and
    VlaRosError without a vendor's."""
    return driver_class(arm)(arm)
