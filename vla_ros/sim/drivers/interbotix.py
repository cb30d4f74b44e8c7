"""interbotix_xs_sdk: group and single commands in, one JointState of arm, gripper and fingers out.

Its quirks (interbotix_ros_core, interbotix_xs_sdk/src/xs_sdk_obj.cpp): the joint states list the gripper's
motor (rad) and both fingers (m, the right one negative) after the arm; a command for a group that it does not
know, or of another length, is left out with a word in its log; positions are taken as they come and the
motors' own limits bound them; motors without torque ignore commands, those with a profile take their own time
to each, and a motor in another mode takes none of them for an angle.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import Refused
from vla_ros.robot.grippers import command_for, reading_at, width_commanded
from vla_ros.sim.arm import SimArm
from vla_ros.sim.controllers import TrajectoryPoint
from vla_ros.sim.drivers.face import Command, Face, Host, JointStates, arm_values
from vla_ros.sim.drivers.xs_motors import XsMotors

FINGERS = ("left_finger", "right_finger")


class Interbotix(Face):
    """See `vla_ros.sim.drivers.face.Face`."""

    def __init__(self, host: Host, arm: SimArm) -> None:
        from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand

        self._arm = arm
        config, gripper, driver = arm.config, arm.gripper, arm.config.drivers.interbotix
        assert driver is not None
        self._group = driver.group
        commands = [Command("joint_group", JointGroupCommand, driver.topic, self._joint_group)]
        names = list(config.joints)
        motor_name = ""
        if gripper is not None and gripper.config.interbotix is not None:
            motor = gripper.config.interbotix
            motor_name = motor.name
            names += [motor_name, *FINGERS]
            commands.append(Command("joint_single", JointSingleCommand, motor.topic, self._joint_single))
        states = JointStates(host.node, config.states, config.base_frame, names, self._read)
        super().__init__(host, [states], commands)
        self._motors = XsMotors(host, arm.name, driver, config.joints, motor_name)

    def _read(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        q, v, effort = arm_values(self._arm)
        gripper = self._arm.gripper
        if gripper is None or gripper.config.interbotix is None:
            return q, v, effort
        finger = reading_at(gripper.config, gripper.width)
        motor = command_for(gripper.config, gripper.width)
        rest = np.zeros(3)
        return np.append(q, [motor, finger, -finger]), np.append(v, rest), np.append(effort, rest)

    def _joint_group(self, message: Any, now_ns: int) -> None:
        if message.name != self._group:
            raise Refused("group", f"no group '{message.name}'; there is '{self._group}'")
        joints = self._arm.config.joints
        for joint in joints:
            self._need_ready(joint)
        target = np.array(message.cmd, dtype=np.float64)
        profile_ms = self._motors.profile_ms(joints[0])
        if profile_ms and len(target) == len(joints):
            goal = TrajectoryPoint(target, profile_ms * 1_000_000)
            self._arm.controllers.joint_trajectory(joints, [goal], 0, now_ns)
        else:
            self._arm.controllers.joint_position(target)

    def _joint_single(self, message: Any, now_ns: int) -> None:
        gripper = self._arm.gripper
        assert gripper is not None and gripper.config.interbotix is not None
        if message.name != gripper.config.interbotix.name:
            raise Refused("joint", f"no joint '{message.name}'; there is '{gripper.config.interbotix.name}'")
        if not np.isfinite(message.cmd):
            raise Refused("nan", f"not finite: {message.cmd}")
        self._need_ready(message.name)
        low, high = gripper.config.width
        gripper.command(min(max(width_commanded(gripper.config, message.cmd), low), high), 1.0)

    def _need_ready(self, motor: str) -> None:
        if not self._motors.torque(motor):
            raise Refused("torque", f"{motor} has no torque")
        if not self._motors.takes_angles(motor):
            raise Refused("mode", f"{motor} is in a mode that takes no angles")
