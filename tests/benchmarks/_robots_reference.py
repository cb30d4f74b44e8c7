"""What the benchmark's scripted policy asks for: smooth, periodic, and the same for every robot.

Each arm leaves its home. In joint space every joint swings by SWING_RAD towards the middle of its range and
back, once in PERIOD_S. In tool space the tool goes level to halfway between home and the workspace's middle
(some arms' homes are folded over their base), then along a level circle of RADIUS_M while it turns by
TURN_RAD about its own z axis and back. Grippers go from open to half and back. A base drives forth and back
and turns left and right, by DRIVE of its limits of velocity at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from scipy.spatial.transform import Rotation

from vla_ros.robot.channels import BASE_CHANNELS, gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Arm, Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import ActionChunk, FloatArray

PERIOD_S = 4.0
SWING_RAD = 0.3
APPROACH_S, APPROACH = 2.0, 0.5
RADIUS_M = 0.02
TURN_RAD = 0.15
DRIVE = 0.5
ROWS, STEP_S = 20, 0.05
JOINT, TOOL = "joint", "tool"


class Reference:
    """Targets of every arm of a robot at any time; t counts in s from the start, where all are at home.

    space: JOINT or TOOL. kinematics: {arm: its kinematics}.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, Kinematics], space: str) -> None:
        self._robot, self._kinematics, self.space = robot, kinematics, space
        self._directions = {name: _towards_the_middle(arm) for name, arm in robot.arms.items()}
        self._homes = {name: kinematics[name].forward(arm.home) for name, arm in robot.arms.items()}
        box = robot.safety.workspace
        middle = (np.array(box.min) + np.array(box.max))[:2] / 2
        self._ways = {name: _ways(middle - home[:2, 3]) for name, home in self._homes.items()}
        channels: list[str] = []
        for name, arm in robot.arms.items():
            channels += joint_channels(name, len(arm.joints)) if space == JOINT else tool_channels(name)
            channels += [gripper_channel(name)] if arm.gripper is not None else []
        channels += [] if robot.base is None else BASE_CHANNELS
        self._channels = tuple(channels)

    def joints(self, name: str, t: float) -> FloatArray:
        """Joint targets [J], rad, at `t`."""
        home = np.array(self._robot.arms[name].home)
        return home + SWING_RAD * _there_and_back(t) * self._directions[name]

    def pose(self, name: str, t: float) -> FloatArray:
        """Tool pose in the arm's base frame, 4x4, at `t`."""
        pose = self._homes[name].copy()
        inwards, across = self._ways[name]
        length = float(np.linalg.norm(inwards))
        way = inwards / length
        share = min(max(t / APPROACH_S, 0.0), 1.0)
        pose[:2, 3] += APPROACH * length * share**3 * (10 - 15 * share + 6 * share**2) * way
        t = max(t - APPROACH_S, 0.0)
        angle = 2.0 * math.pi * _eased(t)
        pose[:2, 3] += RADIUS_M * ((1.0 - math.cos(angle)) * way + math.sin(angle) * across)
        turn = Rotation.from_rotvec([0.0, 0.0, TURN_RAD * _there_and_back(t)])
        pose[:3, :3] = pose[:3, :3] @ turn.as_matrix()
        return pose

    def velocity(self, t: float) -> FloatArray:
        """The base's [2], forward m/s and turning rad/s, at `t`."""
        assert self._robot.base is not None
        share = math.sin(2.0 * math.pi * t / PERIOD_S)
        return DRIVE * share * np.array(self._robot.base.limits.velocity)

    def chunk(self, stamp_ns: int, t: float) -> ActionChunk:
        """What a policy that observes at `t` wants from then on."""
        rows = np.arange(ROWS) * STEP_S
        return ActionChunk(
            self._channels,
            np.array([self._row(t + after) for after in rows]),
            stamp_ns + np.rint(rows * 1e9).astype(np.int64),
            stamp_ns,
        )

    def _row(self, t: float) -> FloatArray:
        row: list[float] = []
        for name, arm in self._robot.arms.items():
            if self.space == JOINT:
                row += self.joints(name, t).tolist()
            else:
                pose = self.pose(name, t)
                row += [*pose[:3, 3], *Rotation.from_matrix(pose[:3, :3]).as_quat()]
            if arm.gripper is not None:
                low, high = arm.gripper.width
                row.append(high - 0.5 * (high - low) * _there_and_back(t))
        row += [] if self._robot.base is None else self.velocity(t).tolist()
        return np.array(row)


def _there_and_back(t: float) -> float:
    """From 0 to 1 and back to 0 within PERIOD_S, with no speed at either end."""
    return 0.5 * (1.0 - math.cos(2.0 * math.pi * t / PERIOD_S))


def _eased(t: float) -> float:
    """Whole turns after each PERIOD_S, with no speed at the start."""
    turns, part = divmod(max(t, 0.0) / PERIOD_S, 1.0)
    return turns + part - math.sin(2.0 * math.pi * part) / (2.0 * math.pi)


def _ways(inwards: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(the level way [2] there, m; the unit vector across it)."""
    length = float(np.linalg.norm(inwards))
    if length < 1e-3:
        inwards, length = np.array([1e-3, 0.0]), 1e-3
    return inwards, np.array([-inwards[1], inwards[0]]) / length


def _towards_the_middle(arm: Arm) -> FloatArray:
    """Per joint: 1 or -1."""
    low, high = np.array(arm.limits.position).T
    return np.where(np.array(arm.home) <= (low + high) / 2, 1.0, -1.0)
