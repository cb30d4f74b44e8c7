"""Forward kinematics of every shipped URDF, written out again from other sources than the URDF's own form.

Each chain: joints, base and tool frame in the URDF, and a function from joints [J] (rad) to the tool's pose,
4x4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

URDFS = Path(__file__).parents[2] / "robot_configs" / "urdf"
INTERBOTIX = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")


@dataclass(frozen=True)
class Chain:
    """One arm. file: the URDF's name."""

    file: str
    joints: tuple[str, ...]
    base: str
    tool: str
    forward: Callable[[FloatArray], FloatArray]

    def kinematics(self) -> Kinematics:
        urdf = (URDFS / self.file).read_text(encoding="utf-8")
        return Kinematics(urdf, self.joints, self.base, self.tool)


def craig(rows: Sequence[tuple[float, float, float, float]], tool: FloatArray) -> Callable[..., FloatArray]:
    """Modified Denavit-Hartenberg rows (a, d, alpha, theta offset): Craig, Introduction to Robotics."""

    def forward(q: FloatArray) -> FloatArray:
        pose = np.eye(4)
        for (a, d, alpha, offset), joint in zip(rows, q, strict=True):
            c, s = math.cos(joint + offset), math.sin(joint + offset)
            ca, sa = math.cos(alpha), math.sin(alpha)
            step = [[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]]
            pose = pose @ np.array(step)
        return pose @ tool

    return forward


def classic(
    base: FloatArray, rows: Sequence[tuple[float, float, float]], tool: FloatArray
) -> Callable[..., FloatArray]:
    """Standard Denavit-Hartenberg rows (d, alpha, theta offset), all with a = 0."""

    def forward(q: FloatArray) -> FloatArray:
        pose = base
        for (d, alpha, offset), joint in zip(rows, q, strict=True):
            step = np.eye(4)
            step[:3, :3] = Rotation.from_euler("zx", [joint + offset, 0.0]).as_matrix()
            step[2, 3] = d
            twist = np.eye(4)
            twist[:3, :3] = Rotation.from_euler("x", alpha).as_matrix()
            pose = pose @ step @ twist
        return pose @ tool

    return forward


def exponentials(home: FloatArray, screws: Sequence[Sequence[float]]) -> Callable[..., FloatArray]:
    """Product of exponentials in the base frame, Lynch and Park, Modern Robotics, eq. 4.14 with eq. 3.51 and
    3.88; screws: (w, v), |w| = 1."""

    def forward(q: FloatArray) -> FloatArray:
        pose = np.eye(4)
        for (wx, wy, wz, *v), joint in zip(screws, q, strict=True):
            w = np.array([[0, -wz, wy], [wz, 0, -wx], [-wy, wx, 0]])
            s, c = math.sin(joint), math.cos(joint)
            step = np.eye(4)
            step[:3, :3] += s * w + (1 - c) * w @ w
            step[:3, 3] = (np.eye(3) * joint + (1 - c) * w + (joint - s) * w @ w) @ v
            pose = pose @ step
        return pose @ home

    return forward


def _shift(x: float = 0.0, y: float = 0.0, z: float = 0.0) -> FloatArray:
    pose = np.eye(4)
    pose[:3, 3] = x, y, z
    return pose


def _turn(axis: str, angle: float) -> FloatArray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler(axis, angle).as_matrix()
    return pose


_H = math.pi / 2
# Franka Control Interface documentation; the hand as in the URDF's comment.
_FR3 = craig(
    [
        (0.0, 0.333, 0.0, 0.0),
        (0.0, 0.0, -_H, 0.0),
        (0.0, 0.316, _H, 0.0),
        (0.0825, 0.0, _H, 0.0),
        (-0.0825, 0.384, -_H, 0.0),
        (0.0, 0.0, _H, 0.0),
        (0.088, 0.0, _H, 0.0),
    ],
    _turn("z", -_H / 2) @ _shift(z=0.107 + 0.1034),
)
# interbotix_ros_toolboxes, interbotix_xs_modules/xs_robot/mr_descriptions.py (humble, 8ae347e): M and Slist.
_VX300S = exponentials(
    _shift(0.536494, 0.0, 0.42705),
    [
        (0, 0, 1, 0, 0, 0),
        (0, 1, 0, -0.12705, 0, 0),
        (0, 1, 0, -0.42705, 0, 0.05955),
        (1, 0, 0, 0, 0.42705, 0),
        (0, 1, 0, -0.42705, 0, 0.35955),
        (1, 0, 0, 0, 0.42705, 0),
    ],
)
_WX250S = exponentials(
    _shift(0.458325, 0.0, 0.36065),
    [
        (0, 0, 1, 0, 0, 0),
        (0, 1, 0, -0.11065, 0, 0),
        (0, 1, 0, -0.36065, 0, 0.04975),
        (1, 0, 0, 0, 0.36065, 0),
        (0, 1, 0, -0.36065, 0, 0.29975),
        (1, 0, 0, 0, 0.36065, 0),
    ],
)
# piper_sdk 0.6.2, kinematics/piper_fk.py, with dh_is_offset; the finger tips are 0.1358 m from the flange.
_PIPER_ROWS = [
    (0.0, 0.123, 0.0, 0.0),
    (0.0, 0.0, -_H, math.radians(-172.22)),
    (0.28503, 0.0, 0.0, math.radians(-102.78)),
    (-0.02198, 0.25075, _H, 0.0),
    (0.0, 0.0, -_H, 0.0),
    (0.0, 0.091, _H, 0.0),
]
_PIPER = craig(_PIPER_ROWS, _shift(z=0.1358))
PIPER_FLANGE = craig(_PIPER_ROWS, np.eye(4))
# The table of the Gen3's user guide (spherical wrist, 7 joints), with the description's full digits.
_KINOVA = classic(
    _turn("x", math.pi),
    [
        (-(0.15643 + 0.12838), _H, 0.0),
        (-(0.005375 + 0.006375), _H, math.pi),
        (-(0.21038 + 0.21038), _H, math.pi),
        (-(0.006375 + 0.006375), _H, math.pi),
        (-(0.20843 + 0.10593), _H, math.pi),
        (-(0.00017505 + 0.00017505), _H, math.pi),
        (-(0.10593 + 0.061525), math.pi, math.pi),
    ],
    _shift(z=0.12),
)

CHAINS = {
    "fr3": Chain("fr3.urdf", tuple(f"fr3_joint{i}" for i in range(1, 8)), "fr3_link0", "fr3_hand_tcp", _FR3),
    "vx300s": Chain("vx300s.urdf", INTERBOTIX, "base_link", "ee_gripper_link", _VX300S),
    "wx250s": Chain("wx250s.urdf", INTERBOTIX, "base_link", "ee_gripper_link", _WX250S),
    "piper": Chain("piper.urdf", tuple(f"joint{i}" for i in range(1, 7)), "base_link", "gripper_tcp", _PIPER),
    "piper_cobot": Chain(
        "piper_cobot.urdf", tuple(f"joint{i}" for i in range(6)), "base_link", "gripper_tcp", _PIPER
    ),
    "kinova_gen3": Chain(
        "kinova_gen3.urdf", tuple(f"joint_{i}" for i in range(1, 8)), "base_link", "tool_frame", _KINOVA
    ),
}
