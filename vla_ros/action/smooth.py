"""Jerk-limited tracking of joint targets, for targets that jump or shake: raw teleoperation, a leader arm
with coarse encoders, a policy whose chunks are noisy.

The limits of `vla_ros.safety.limits` make any target safe, but they follow what is wanted as fast as they
may: a target that shakes is followed by shaking, within the limits. Here every target is approached on the
time-optimal course of limited velocity, acceleration and jerk from the motion at hand, as if it were to rest
there (Ruckig: Berscheid and Kroeger, Jerk-limited Real-time Trajectory Generation with Arbitrary Target
States, RSS 2021). That costs lag where targets move: one at speed v is followed some v / 2a + a / 2j behind.
Targets that are smooth need none of it.
"""

from __future__ import annotations

import numpy as np
from ruckig import (
    ControlInterface,
    InputParameter,
    OutputParameter,
    Ruckig,
    RuckigError,
    Synchronization,
)

from vla_ros.robot.config import JointLimits
from vla_ros.types import FloatArray


class JerkLimited:
    """Turns a target per tick into joints per tick whose velocity, acceleration and jerk keep `limits`.

    Targets beyond the position limits are taken for the limits. q: what `step` returned last, [J] rad.
    """

    def __init__(self, limits: JointLimits, period_s: float) -> None:
        joints = len(limits.position)
        self._lower, self._upper = np.array(limits.position, dtype=np.float64).T.copy()
        self._course = Ruckig(joints, period_s)
        self._input = InputParameter(joints)
        self._output = OutputParameter(joints)
        self._input.max_velocity = list(limits.velocity)
        self._input.max_acceleration = list(limits.acceleration)
        self._input.max_jerk = list(limits.jerk)
        # Each joint has its own target to be at; waiting for the others would be lag.
        self._input.synchronization = Synchronization.No
        self._still = [0.0] * joints
        self.reset(np.zeros(joints))

    def reset(self, q: FloatArray) -> None:
        """Start from q [J] at rest."""
        self.q = np.array(q, dtype=np.float64)
        self._input.current_position = self.q.tolist()
        self._input.current_velocity = self._still
        self._input.current_acceleration = self._still

    def step(self, target: FloatArray) -> FloatArray:
        """The joints one tick on, on the way to `target` [J]. Raises ValueError if that is not finite."""
        if not np.isfinite(target).all():
            raise ValueError(f"a joint target is not a number: {np.asarray(target).tolist()}")
        self._input.control_interface = ControlInterface.Position
        self._input.target_position = np.clip(target, self._lower, self._upper).tolist()
        try:
            self._course.update(self._input, self._output)
        except RuckigError:
            # No course could be computed (from 1e9 rad away, say): slow down, which always can.
            self._input.control_interface = ControlInterface.Velocity
            self._course.update(self._input, self._output)
        self._output.pass_to_input(self._input)
        self.q = np.array(self._output.new_position)
        return self.q
