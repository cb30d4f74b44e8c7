"""Joint states that can be believed: a joint does not move faster than it can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.robot.config import Arm
from vla_ros.robot.states import FASTER, JUMP
from vla_ros.types import FloatArray

# An arm that is not commanded is believed to be where it has said for this long.
SETTLED_NS = 50_000_000


@dataclass(frozen=True)
class Measured:
    """One arm's joint states: positions float64 [J] rad in the order of the YAML, finite, and their stamp.

    gripper: its opening width in m, for a gripper that is sent a stream of widths, where it is known.
    """

    q: FloatArray
    stamp_ns: int
    gripper: float | None = None


class JointWatch:
    """Leaves out joint states that the arm cannot have got to, such as an encoder's glitch.

    newest: the newest ones believed; jumping: whether the last ones were not; settled: whether they have
    agreed with each other for a while, so that a motion may begin from them. While none are believed they
    grow old, which holds the arm. The longer that takes, the further the arm can have come, so a real move
    of unknown cause is believed in the end; where the arm is not commanded (somebody may set it elsewhere),
    as soon as joint states have settled.
    """

    def __init__(self, arm: Arm) -> None:
        self._speed = FASTER * np.array(arm.limits.velocity)
        self._joints = arm.joints
        self.forget()

    def forget(self) -> None:
        """Believe the next joint states whatever they are: the clock or the world was set."""
        self.newest: Measured | None = None
        self.jumping = False
        self.settled = False
        self._taken: Measured | None = None
        self._agree_since_ns = 0

    def take(self, measured: Measured | None, live: bool) -> str:
        """Take this tick's newest joint states; returns what is wrong with them, once per run of bad ones,
        for people; else "". live: whether the arm is being commanded."""
        before = self._taken
        if measured is None or (before is not None and measured.stamp_ns <= before.stamp_ns):
            # Nothing new, or out of order.
            return ""
        self._taken = measured
        jump = self._jump(self.newest, measured)
        if before is None or (jump if before is self.newest else self._jump(before, measured)) > JUMP:
            self._agree_since_ns = measured.stamp_ns
        self.settled = measured.stamp_ns - self._agree_since_ns >= SETTLED_NS
        first, self.jumping = not self.jumping, jump > JUMP and (live or not self.settled)
        if not self.jumping:
            self.newest = measured
        if not (self.jumping and first):
            return ""
        assert self.newest is not None
        worst = int(np.argmax(np.abs(measured.q - self.newest.q)))
        return (
            f"{self._joints[worst]} jumped from {self.newest.q[worst]:.3f} to {measured.q[worst]:.3f} rad, "
            "faster than it can move"
        )

    def _jump(self, before: Measured | None, now: Measured) -> float:
        """How much further the arm is than it can have come, rad."""
        if before is None:
            return 0.0
        elapsed_s = (now.stamp_ns - before.stamp_ns) / 1e9
        return float(np.max(np.abs(now.q - before.q) - self._speed * elapsed_s))
