"""A base of the twin that drives forward and turns, without MuJoCo, ROS or clocks.

It stands for the wheels and their controller: what the base is commanded it reaches with a lag, and no faster
than it can speed up and slow down.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.robot.config import MobileBase
from vla_ros.types import FloatArray

# This project's own choice, for SLATE's maker tells neither: a first-order lag, s, and the most by which it
# speeds up and slows down, m/s^2 and rad/s^2.
LAG_S = 0.1
ACCELERATION = np.array([1.5, 3.0])


class SimBase:
    """pose: float64 [3], x and y in m and the heading in rad, from where it stood at first; velocity: float64
    [2], forward m/s and turning rad/s."""

    def __init__(self, config: MobileBase) -> None:
        self.config = config
        self.reset()

    def reset(self) -> None:
        """Back to where it stood at first, at rest."""
        self.pose: FloatArray = np.zeros(3)
        self.velocity: FloatArray = np.zeros(2)
        self._wanted: FloatArray = np.zeros(2)

    def command(self, velocity: ArrayLike) -> None:
        """Go for a velocity [2] until another is commanded. Raises ValueError where it is not finite."""
        wanted = np.asarray(velocity, dtype=np.float64)
        if wanted.shape != (2,) or not np.isfinite(wanted).all():
            raise ValueError(f"a base's velocity must be 2 finite values, got {wanted}")
        self._wanted = wanted

    def step(self, seconds: float) -> None:
        """Advance by a small step, in which the velocity changes evenly."""
        most = ACCELERATION * seconds
        change = np.clip((self._wanted - self.velocity) * -math.expm1(-seconds / LAG_S), -most, most)
        forward, turning = (self.velocity + change / 2) * seconds
        self.velocity = self.velocity + change
        x, y, heading = self.pose
        halfway = heading + turning / 2
        self.pose = np.array(
            [x + forward * math.cos(halfway), y + forward * math.sin(halfway), heading + turning]
        )
