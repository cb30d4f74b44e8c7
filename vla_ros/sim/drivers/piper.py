"""AgileX Piper: JointState or PosCmd in, JointState out at 200 Hz.

Its quirks (agilexrobotics/Piper_ros, src/piper/piper/piper_ctrl_single_node.py): a joint that a command does
not name goes to 0 rad, and a gripper that it does not name closes; nothing clamps; nothing is obeyed before
the arm was enabled, which closes the gripper; stamps come from its SDK and not from the ROS clock.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from vla_ros.errors import Refused
from vla_ros.robot.config_drivers import Enable
from vla_ros.robot.grippers import reading_at, width_commanded
from vla_ros.sim.arm import SimArm
from vla_ros.sim.controllers import pose_matrix
from vla_ros.sim.drivers.face import Command, Face, Host, JointStates, Output, ToolPose, arm_values

JOINTS = tuple(f"joint{index}" for index in range(1, 7))
GRIPPER = "gripper"


class Piper(Face):
    """See `vla_ros.sim.drivers.face.Face`."""

    def __init__(self, host: Host, arm: SimArm) -> None:
        self._arm = arm
        self._in_physics = host.in_physics
        config = arm.config
        commands = []
        enables: list[Enable] = []
        if config.drivers.piper_joint is not None:
            commands.append(
                Command("piper_joint", JointState, config.drivers.piper_joint.topic, self._joint_ctrl)
            )
            enables += [config.drivers.piper_joint.enable] if config.drivers.piper_joint.enable else []
        if config.drivers.piper_pose is not None:
            from piper_msgs.msg import PosCmd

            commands.append(Command("piper_pose", PosCmd, config.drivers.piper_pose.topic, self._pos_cmd))
            enables += [config.drivers.piper_pose.enable] if config.drivers.piper_pose.enable else []
        # Where the YAML names no way to enable it, it was enabled before (auto_enable of its launch file).
        self._enabled = not enables
        for topic in {enable.topic for enable in enables if enable.topic}:
            host.node.create_subscription(Bool, topic, self._enable_flag, 10)
        for service in {enable.service for enable in enables if enable.service}:
            from piper_msgs.srv import Enable as EnableSrv

            host.node.create_service(EnableSrv, service, self._serve)
        names = list(JOINTS) if arm.gripper is None else [*JOINTS, GRIPPER]
        # The SDK's clock: seconds since the machine started.
        states = JointStates(host.node, config.states, "", names, self._read, lambda _: time.monotonic_ns())
        outputs: list[Output] = [states]
        if config.published_pose is not None:
            outputs.append(ToolPose(host.node, arm, config.published_pose, lambda: 0.0))
        super().__init__(host, outputs, commands)

    def _read(self) -> tuple[ArrayLike, ArrayLike, ArrayLike]:
        q, v, effort = arm_values(self._arm)
        if self._arm.gripper is None:
            return q, v, effort
        finger = reading_at(self._arm.gripper.config, self._arm.gripper.width)
        return np.append(q, finger), np.append(v, 0.0), np.append(effort, 0.0)

    def _joint_ctrl(self, message: Any, now_ns: int) -> None:
        self._need_enabled()
        given = dict(zip(message.name, message.position, strict=False))
        self._arm.controllers.joint_position([given.get(joint, 0.0) for joint in JOINTS])
        self._move_gripper(given.get(GRIPPER, 0.0))

    def _pos_cmd(self, message: Any, now_ns: int) -> None:
        self._need_enabled()
        turn = Rotation.from_euler("xyz", [message.roll, message.pitch, message.yaw]).as_quat()
        pose = pose_matrix((message.x, message.y, message.z), turn)
        self._arm.controllers.cartesian_pose(pose, "")
        self._move_gripper(message.gripper)

    def _move_gripper(self, command: float) -> None:
        gripper = self._arm.gripper
        if gripper is None:
            return
        if not np.isfinite(command):
            raise Refused("nan", f"gripper: not finite: {command}")
        low, high = gripper.config.width
        gripper.command(min(max(width_commanded(gripper.config, command), low), high), 1.0)

    def _need_enabled(self) -> None:
        if not self._enabled:
            raise Refused("disabled", "the arm is not enabled")

    def _enable_flag(self, message: Any) -> None:
        self._enable(message.data)

    def _enable(self, on: bool) -> None:
        def switch() -> None:
            self._enabled = on
            if on:
                self._move_gripper(0.0)

        self._in_physics(switch)

    def _serve(self, request: Any, response: Any) -> Any:
        self._enable(request.enable_request)
        response.enable_response = bool(request.enable_request)
        return response
