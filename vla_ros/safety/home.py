"""The way home: a straight line in joint space, slowly."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.robot.config import Robot
from vla_ros.types import FloatArray

# Share of the velocity limits used to go home.
HOME_SPEED = 0.25
# Peak speed of the quintic over its mean speed.
PEAK = 1.875
# Even a tiny way takes this long, so that it asks for no great acceleration.
SHORTEST_NS = 500_000_000


class HomePath:
    """A straight line in joint space from where the arms are to home, starting and ending at rest."""

    def __init__(self, begin: Mapping[str, FloatArray], robot: Robot, now_ns: int) -> None:
        self._begin = begin
        self._end = {name: np.array(arm.home, dtype=np.float64) for name, arm in robot.arms.items()}
        self._start_ns = now_ns
        longest = max(
            float(
                np.max(
                    np.abs(self._end[name] - q) / (HOME_SPEED * np.array(robot.arms[name].limits.velocity))
                )
            )
            for name, q in begin.items()
        )
        self._duration_ns = max(int(PEAK * longest * 1e9), SHORTEST_NS)

    def at(self, name: str, now_ns: int) -> FloatArray:
        """Where arm `name` is to be, rad [J]."""
        share = min(max((now_ns - self._start_ns) / self._duration_ns, 0.0), 1.0)
        # The quintic without velocity and acceleration at its ends (Flash and Hogan 1985).
        share = share**3 * (10 - 15 * share + 6 * share**2)
        return self._begin[name] + share * (self._end[name] - self._begin[name])

    def left(self, q: Mapping[str, FloatArray]) -> float:
        """How far the joint that is furthest from home is from there, rad, for {arm: joints [J]}."""
        return max(float(np.max(np.abs(joints - self._end[name]))) for name, joints in q.items())

    def over_for(self, now_ns: int) -> int:
        """How long ago the line came to its end, ns; negative before."""
        return now_ns - self._start_ns - self._duration_ns
