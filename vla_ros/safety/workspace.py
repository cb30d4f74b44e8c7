"""The box that the tool is to stay in."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.robot.config import Box
from vla_ros.types import FloatArray


class Forward(Protocol):
    """What is needed of `vla_ros.robot.kinematics.Kinematics`. reach: m per rad that the tool moves at most
    by each joint, float64 [J]."""

    reach: FloatArray

    def forward(self, q: ArrayLike) -> FloatArray:
        """Tool pose, 4x4, for joints [J]."""
        ...


class Workspace:
    """How far joints bring the tool out of its box. The tool moves no further than its joints' ways times
    their reach, so where it was looked at last is often enough to know."""

    def __init__(self, box: Box, kinematics: Forward) -> None:
        self._box = box
        self._kinematics = kinematics
        # Joints that were looked at, and how far inside the tool was.
        self._seen: FloatArray | None = None
        self._inside = 0.0

    def outside(self, q: FloatArray) -> float:
        """How far outside the box the tool is with joints q [J], m; 0 inside."""
        if self._seen is not None and self._kinematics.reach @ np.abs(q - self._seen) < self._inside:
            return 0.0
        position = self._kinematics.forward(q)[:3, 3]
        self._seen, self._inside = q, _inside_box(position, self._box)
        return outside_box(position, self._box)


def into_box(position: FloatArray, box: Box) -> FloatArray:
    """The point of the box nearest to `position` [3], m."""
    sides = zip(position.tolist(), box.min, box.max, strict=True)
    return np.array([min(max(place, low), high) for place, low, high in sides])


def outside_box(position: FloatArray, box: Box) -> float:
    """How far `position` [3] lies outside the box, m; 0 inside."""
    sides = zip(position.tolist(), box.min, box.max, strict=True)
    return math.hypot(*(max(low - place, 0.0, place - high) for place, low, high in sides))


def _inside_box(position: FloatArray, box: Box) -> float:
    """How far `position` [3] is from the box's nearest side, m; negative outside."""
    sides = zip(position.tolist(), box.min, box.max, strict=True)
    return min(min(place - low, high - place) for place, low, high in sides)
