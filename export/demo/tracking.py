"""Follow tool-pose targets with the simulated arm: what the control node does, without ROS.

A chunk's targets are interpolated (linear position, slerp, previous value for the gripper) at the
moment the command will act, turned into joint positions by damped least squares, and limited in
joint velocity and acceleration. Demonstrations and offline evaluation share it.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_ros.sim.franka_mjcf import JOINT_LIMITS, JOINT_NAMES
from vla_ros.sim.task import HOME_JOINTS
from vla_ros.sim.world import World

FloatArray = NDArray[np.float64]

TICK_S = 0.01
# As in robot_configs/franka.yaml.
_VELOCITY = np.array([1.5, 1.5, 1.5, 1.5, 2.0, 2.0, 2.0])
_ACCELERATION = np.array([7.0, 7.0, 7.0, 7.0, 9.0, 9.0, 9.0])
_DAMPING = 0.02
_POSTURE_GAIN = 0.02


@dataclass(frozen=True)
class Plan:
    """Absolute targets with due times: poses [H, 4, 4], gripper [H] (1 open), due [H] seconds."""

    poses: FloatArray
    gripper: FloatArray
    due: FloatArray

    def at(self, time: float) -> tuple[FloatArray, float]:
        """Pose [4, 4] and gripper value at ``time``; the ends are held."""
        index = int(np.searchsorted(self.due, time, side="right")) - 1
        if index < 0:
            return self.poses[0], float(self.gripper[0])
        if index >= len(self.due) - 1:
            return self.poses[-1], float(self.gripper[-1])
        part = (time - self.due[index]) / (self.due[index + 1] - self.due[index])
        a, b = self.poses[index], self.poses[index + 1]
        pose = np.eye(4)
        pose[:3, 3] = (1 - part) * a[:3, 3] + part * b[:3, 3]
        turn = Rotation.from_matrix(a[:3, :3].T @ b[:3, :3]).as_rotvec()
        pose[:3, :3] = a[:3, :3] @ Rotation.from_rotvec(part * turn).as_matrix()
        return pose, float(self.gripper[index])


class Tracker:
    """Turns tool-pose targets into limited joint commands, one call per 10 ms tick."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._data = mujoco.MjData(world.model)
        joints = [world.model.joint(name) for name in JOINT_NAMES]
        self._q = np.array([j.qposadr[0] for j in joints])
        self._v = np.array([j.dofadr[0] for j in joints])
        self._site = world.model.site("fr3_hand_tcp").id
        self._limits = np.array(JOINT_LIMITS)
        self._linear = np.zeros((3, world.model.nv))
        self._angular = np.zeros((3, world.model.nv))
        self.reset()

    def reset(self) -> None:
        """Start from the arm's present joints, at rest."""
        self.command = self._world.joint_positions
        self._rate = np.zeros(len(JOINT_NAMES))

    def solve(self, pose: FloatArray, start: FloatArray, iterations: int = 1) -> FloatArray:
        """Damped least-squares steps from ``start`` towards ``pose``; joints [7] in rad."""
        q = start.copy()
        for _ in range(iterations):
            self._data.qpos[self._q] = q
            mujoco.mj_kinematics(self._world.model, self._data)
            mujoco.mj_comPos(self._world.model, self._data)
            mujoco.mj_jacSite(self._world.model, self._data, self._linear, self._angular, self._site)
            rotation = self._data.site_xmat[self._site].reshape(3, 3)
            error = np.empty(6)
            error[:3] = pose[:3, 3] - self._data.site_xpos[self._site]
            error[3:] = Rotation.from_matrix(pose[:3, :3] @ rotation.T).as_rotvec()
            jacobian = np.vstack([self._linear[:, self._v], self._angular[:, self._v]])
            damped = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + _DAMPING**2 * np.eye(6))
            posture = _POSTURE_GAIN * (np.array(HOME_JOINTS) - q)
            posture[6] = 0.0
            q = q + damped @ error + posture - damped @ (jacobian @ posture)
            q = np.clip(q, self._limits[:, 0] + 0.02, self._limits[:, 1] - 0.02)
        return q

    def track(self, pose: FloatArray) -> None:
        """Command the arm one tick towards ``pose`` within velocity and acceleration limits."""
        miss = self.solve(pose, self.command) - self.command
        # Never faster than the joint can brake.
        speed = np.minimum(np.abs(miss) / TICK_S, np.sqrt(2 * _ACCELERATION * np.abs(miss)))
        wanted = np.sign(miss) * np.minimum(speed, _VELOCITY)
        step = _ACCELERATION * TICK_S
        self._rate = np.clip(wanted, self._rate - step, self._rate + step)
        self.command = self.command + self._rate * TICK_S
        self._world.command_joints(self.command)
