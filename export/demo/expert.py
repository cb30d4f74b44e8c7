"""Scripted expert of the demo task: a reactive, memoryless rule and the chunk it would execute.

The rule maps the present state (tool pose, gripper width, block pose) to a motion; nothing is
remembered between calls, so a policy that sees one observation can imitate it. A chunk is the rule
rolled out kinematically from the measured state: what an ideal arm would do in the next 1.6 s.

Poses are 4x4, tool in the arm's base frame, metres; yaw is about the base z axis, radians.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from vla_ros.sim.franka_mjcf import BLOCK_HALF_SIZE
from vla_ros.sim.world import GRIPPER_MAX_WIDTH, GRIPPER_SPEED

FloatArray = NDArray[np.float64]

HORIZON = 16
STEP_S = 0.1
ACTION_SIZE = 10

MAX_SPEED = 0.28
MAX_TURN = 1.5
GAIN = 4.0
HOVER = 0.09
LIFTED_Z = 0.22
_SUBSTEP_S = 0.02
_BLOCK_WIDTH = 2 * BLOCK_HALF_SIZE
# A closed hand reads the block's width give or take the pads' softness.
_HELD_WIDTH = (_BLOCK_WIDTH - 0.006, _BLOCK_WIDTH + 0.003)


@dataclass(frozen=True)
class Goal:
    """What the rule wants now: a tool position, the speed towards it, and the gripper (1 = open)."""

    position: tuple[float, float, float]
    speed: float
    gripper: float


def aligned_yaw(tool_yaw: float, block_yaw: float) -> float:
    """Tool yaw that aligns the fingers with the block's faces, nearest to the present one."""
    quarter = math.pi / 2
    return tool_yaw + (block_yaw - tool_yaw + quarter / 2) % quarter - quarter / 2


def tool_yaw(rotation: FloatArray) -> float:
    """Yaw [rad] of a tool that points down: direction of its x axis in the base's xy plane."""
    return math.atan2(rotation[1, 0], rotation[0, 0])


def pointing_down(yaw: float) -> FloatArray:
    """Rotation [3, 3] of a tool that points straight down with the given yaw."""
    c, s = math.cos(yaw), math.sin(yaw)
    return np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])


def decide(
    x: float, y: float, z: float, angle: float, width: float, block: tuple[float, float, float]
) -> Goal:
    """The rule. ``angle``: rotation still missing to the aligned, downward orientation [rad]."""
    bx, by, bz = block
    aside = math.hypot(x - bx, y - by)
    above = z - bz
    between = aside < 0.022 and abs(above) < 0.022
    if between and _HELD_WIDTH[0] < width < _HELD_WIDTH[1]:
        # Slow off the table, so that the grip force has time to build up.
        lift = 0.03 + 2.5 * max(0.0, z - BLOCK_HALF_SIZE)
        return Goal((x, y, LIFTED_Z), lift, 0.0)
    closing = width < 0.072
    reach, turn = (0.016, 0.28) if closing else (0.008, 0.12)
    if aside < reach and abs(above) < reach and angle < turn:
        return Goal((bx, by, bz), MAX_SPEED, 0.0)
    if above < HOVER - 0.02 and (width < 0.060 or aside > 0.045):
        # Fingers not open, or low between other blocks: they would push. Straight up first.
        return Goal((x, y, bz + HOVER), MAX_SPEED, 1.0)
    # A funnel: the farther aside or turned, the higher.
    rise = max((aside - 0.010) / 0.030, (angle - 0.12) / 0.25, (0.066 - width) / 0.01)
    return Goal((bx, by, bz + HOVER * min(1.0, max(0.0, rise))), MAX_SPEED, 1.0)


def plan_chunk(tool: FloatArray, width: float, block: FloatArray) -> tuple[NDArray[np.float32], FloatArray]:
    """Roll the rule out from the measured state.

    Args:
        tool: measured tool pose [4, 4]; width: measured gripper width [m]; block: its pose [4, 4].

    Returns:
        Labels float32 [16, 10]: step k (row k - 1) is due at stamp + k * 0.1 s; xyz and rot6d (first
        two columns, contiguous) of ``inv(tool) @ target``, then the gripper (1 open, 0 closed).
        And the same targets as absolute poses, float64 [16, 4, 4].
    """
    x, y, z = (float(v) for v in tool[:3, 3])
    bx, by, bz = (float(v) for v in block[:3, 3])
    block_yaw = math.atan2(block[1, 0], block[0, 0])
    goal_rotation = pointing_down(aligned_yaw(tool_yaw(tool[:3, :3]), block_yaw))
    missing = Rotation.from_matrix(tool[:3, :3].T @ goal_rotation).as_rotvec()
    total = float(np.linalg.norm(missing))
    angle = total
    positions = np.empty((HORIZON, 3))
    angles = np.empty(HORIZON)
    grips = np.empty(HORIZON)
    substeps = round(STEP_S / _SUBSTEP_S)
    for k in range(HORIZON):
        for _ in range(substeps):
            goal = decide(x, y, z, angle, width, (bx, by, bz))
            gx, gy, gz = goal.position
            distance = math.sqrt((gx - x) ** 2 + (gy - y) ** 2 + (gz - z) ** 2)
            if distance > 0:
                speed = min(goal.speed, MAX_SPEED, GAIN * distance + 0.01)
                part = min(1.0, speed * _SUBSTEP_S / distance)
                x, y, z = x + (gx - x) * part, y + (gy - y) * part, z + (gz - z) * part
            angle -= min(angle, min(MAX_TURN, GAIN * angle + 0.05) * _SUBSTEP_S)
            if goal.gripper == 0.0:
                around = math.hypot(x - bx, y - by) < 0.03 and abs(z - bz) < 0.03
                width = max(width - GRIPPER_SPEED * _SUBSTEP_S, _BLOCK_WIDTH if around else 0.0)
                if width <= _HELD_WIDTH[1] and around:
                    # Held: the block goes where the tool goes.
                    bx, by, bz = x, y, max(z, BLOCK_HALF_SIZE)
            else:
                width = min(width + GRIPPER_SPEED * _SUBSTEP_S, GRIPPER_MAX_WIDTH)
        positions[k] = x, y, z
        angles[k] = angle
        grips[k] = decide(x, y, z, angle, width, (bx, by, bz)).gripper
    turned = missing[None, :] * (1.0 - angles / total if total > 1e-9 else np.zeros(HORIZON))[:, None]
    relative = Rotation.from_rotvec(turned).as_matrix()
    labels = np.empty((HORIZON, ACTION_SIZE), dtype=np.float32)
    labels[:, :3] = (positions - tool[:3, 3]) @ tool[:3, :3]
    labels[:, 3:6] = relative[:, :, 0]
    labels[:, 6:9] = relative[:, :, 1]
    labels[:, 9] = grips
    targets = np.tile(np.eye(4), (HORIZON, 1, 1))
    targets[:, :3, :3] = tool[:3, :3] @ relative
    targets[:, :3, 3] = positions
    return labels, targets
