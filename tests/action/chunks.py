"""Chunks for tests of scheduling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk

MS = 1_000_000
JOINTS = joint_channels("arm", 2)
POSE = (*tool_channels("arm"), gripper_channel("arm"))
RANGE = {"arm/gripper": (0.0, 0.08)}


def joints(stamp_ms: float, values: ArrayLike, dt_ms: float = 100) -> ActionChunk:
    """Rows [v, -v], the first due one step after the stamp."""
    v = np.asarray(values, dtype=float)
    return chunk(JOINTS, np.column_stack([v, -v]), stamp_ms, dt_ms)


def poses(
    stamp_ms: float, rotations: Sequence[Rotation], widths: ArrayLike, dt_ms: float = 100
) -> ActionChunk:
    rows = [[0.4, 0, 0.3, *r.as_quat(), w] for r, w in zip(rotations, np.asarray(widths), strict=True)]
    return chunk(POSE, np.array(rows, dtype=float), stamp_ms, dt_ms)


def chunk(channels: tuple[str, ...], targets: np.ndarray, stamp_ms: float, dt_ms: float) -> ActionChunk:
    due = np.rint((stamp_ms + dt_ms * np.arange(1, len(targets) + 1)) * MS).astype(np.int64)
    return ActionChunk(channels, targets, due, round(stamp_ms * MS))
