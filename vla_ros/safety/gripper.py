"""A gripper's width within its range and speed."""

from __future__ import annotations

import math

from vla_ros.robot.config import Gripper


class GripperLimiter:
    """Follows wanted widths (m). `width` is what may be sent now, None before the first one.

    A driver that takes a stream of widths is begun where the gripper is measured (`begin`), and holds it
    there until another width is wanted; without that it is sent nothing. For a driver that takes a goal and
    keeps its own speed, the first width is taken as it stands, within the range. One tick is `tick`, and then
    `begin` and `follow` as needed.
    """

    def __init__(self, gripper: Gripper, period_s: float) -> None:
        self._low, self._high = gripper.width
        self._most = gripper.speed * period_s
        self._streamed = gripper.action is None
        self.width: float | None = None
        self._before: float | None = None

    def tick(self) -> None:
        """Begin a tick: what is sent in it can be taken back by `undo`."""
        self._before = self.width

    def undo(self) -> None:
        """Take the tick's step back: it was not sent."""
        self.width = self._before

    def begin(self, measured: float | None) -> None:
        """Begin at a measured width where none was begun with yet; None: it is not known."""
        if self.width is None and measured is not None and math.isfinite(measured):
            self.width = self.goal(measured)

    def goal(self, wanted: float) -> float:
        """The wanted width within the range."""
        return min(max(wanted, self._low), self._high)

    def follow(self, wanted: float) -> tuple[str, ...]:
        """One tick towards a width; returns what kept it from being reached: "gripper_range",
        "gripper_speed", "nan" (it stays where it is) or "gripper_unknown" (it is sent nothing)."""
        if not math.isfinite(wanted):
            return ("nan",)
        goal = self.goal(wanted)
        words = ("gripper_range",) if goal != wanted else ()
        if self.width is None:
            if self._streamed:
                return (*words, "gripper_unknown")
            self.width = goal
            return words
        way = goal - self.width
        if abs(way) <= self._most:
            self.width = goal
            return words
        self.width += math.copysign(self._most, way)
        return (*words, "gripper_speed")

    def forget(self) -> None:
        """Begin anew with the next width: someone else may have moved the gripper."""
        self.width = self._before = None
