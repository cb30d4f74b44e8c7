"""A gripper of the twin: where its fingers are told to go, and how that ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vla_ros.robot.config import Gripper
from vla_ros.robot.grippers import reading_at
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.types import FloatArray

# Fingers slower than this (m/s of width) for this long have arrived, or are stopped by an object.
_STILL_SPEED = 0.005
_STILL_NS = 100_000_000
# A goal counts as reached within this width, m, or within this part of a gripper's travel if that is less.
_REACHED, _REACHED_SHARE = 0.003, 0.1


@dataclass(frozen=True)
class GripperOutcome:
    """How a gripper goal ended. width: m; stalled: stopped by something before it got there."""

    width: float
    reached: bool
    stalled: bool


class SimGripper:
    """width: the present opening, m; move: has the fingers go to a width (m) with an effort (N)."""

    def __init__(
        self, config: Gripper, width: Callable[[], float], move: Callable[[float, float], None]
    ) -> None:
        self.config = config
        self._width, self._move = width, move
        self.forget()

    @property
    def width(self) -> float:
        """Opening width, m."""
        return self._width()

    def positions(self) -> FloatArray:
        """Float64, one per gripper joint, in the driver's unit: it publishes equal shares."""
        count = len(self.config.joints)
        return np.full(count, reading_at(self.config, self.width) / count)

    def forget(self) -> None:
        """No goal is under way any more."""
        self._goal: float | None = None
        self._still_since_ns: int | None = None
        self._last_width = 0.0

    def command(self, width: float, max_effort: float) -> None:
        """Begin a goal (replacing the last); width in m, effort in N.

        Raises ValueError for a width outside the gripper's, or numbers that are not finite.
        """
        low, high = self.config.width
        if not (low - 1e-3 <= width <= high + 1e-3):
            raise ValueError(f"width {width} m is outside [{low}, {high}]")
        self._move(width, max_effort)
        self._goal = width
        self._still_since_ns = None
        self._last_width = self.width

    def outcome(self, now_ns: int, elapsed_ns: int) -> GripperOutcome | None:
        """How the goal ended, None while the fingers move. elapsed_ns: since the last call."""
        if self._goal is None:
            return None
        width = self.width
        speed = abs(width - self._last_width) / max(elapsed_ns, 1) * SECOND_NS
        self._last_width = width
        if speed > _STILL_SPEED:
            self._still_since_ns = None
            return None
        if self._still_since_ns is None:
            self._still_since_ns = now_ns
        if now_ns - self._still_since_ns < _STILL_NS:
            return None
        low, high = self.config.width
        reached = abs(width - self._goal) <= min(_REACHED, _REACHED_SHARE * (high - low))
        self._goal = None
        return GripperOutcome(width, reached, not reached)
