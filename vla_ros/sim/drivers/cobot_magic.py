"""Cobot Magic: JointState in on the master's topic, JointState out on the puppet's; seven numbers by index.

Its quirks: the puppet reads positions by index and not by name, the seventh is the gripper; its end pose is a
PoseStamped with roll, pitch, yaw in orientation.x, y, z and the gripper in w.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sensor_msgs.msg import JointState

from vla_ros.errors import Refused
from vla_ros.robot.grippers import reading_at, width_commanded
from vla_ros.sim.arm import SimArm
from vla_ros.sim.drivers.face import Command, Face, Host, JointStates, Output, ToolPose, arm_values

COUNT = 7
NAMES = tuple(f"joint{index}" for index in range(COUNT))


class CobotMagic(Face):
    """See `vla_ros.sim.drivers.face.Face`."""

    def __init__(self, host: Host, arm: SimArm) -> None:
        self._arm = arm
        config, driver = arm.config, arm.config.drivers.cobot_magic
        assert driver is not None and arm.gripper is not None
        self._gripper = arm.gripper
        outputs: list[Output] = [JointStates(host.node, config.states, "", NAMES, self._read)]
        if config.published_pose is not None:
            outputs.append(ToolPose(host.node, arm, config.published_pose, self._reading))
        master = Command("cobot_magic", JointState, driver.topic, self._master, "sensor_msgs/msg/JointState")
        super().__init__(host, outputs, [master])

    def _reading(self) -> float:
        return reading_at(self._gripper.config, self._gripper.width)

    def _read(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        q, v, effort = arm_values(self._arm)
        return np.append(q, self._reading()), np.append(v, 0.0), np.append(effort, 0.0)

    def _master(self, message: Any, now_ns: int) -> None:
        if len(message.position) < COUNT:
            # The real puppet's node ends with an IndexError here.
            raise Refused("shape", f"{len(message.position)} positions, expected {COUNT}")
        if not np.isfinite(message.position[:COUNT]).all():
            raise Refused("nan", f"not finite: {list(message.position)}")
        self._arm.controllers.joint_position(message.position[: COUNT - 1])
        low, high = self._gripper.config.width
        width = width_commanded(self._gripper.config, float(message.position[COUNT - 1]))
        self._gripper.command(min(max(width, low), high), 1.0)
