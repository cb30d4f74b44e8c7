"""AgileX Cobot Magic: two arms that follow /master/joint_*, whether a policy or a master arm publishes it."""

from __future__ import annotations

from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.agilex import AgilexJoints


class CobotMagic(AgilexJoints):
    """sensor_msgs/JointState of joint0 to joint6, the last of which is the gripper: in m on newer arms, in
    units of its motor on older ones, as the YAML's `commands` say. Nobody else may publish there: the master
    arms' own nodes have to run in the mode that does not."""

    def __init__(self, arm: Arm) -> None:
        assert arm.drivers.cobot_magic is not None
        super().__init__(arm, arm.drivers.cobot_magic.topic)
