"""A base for the invariant: its wheels, its driver and its odometry, and what it was sent held against its
limits. Virtual time."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from vla_ros.robot.config import MobileBase
from vla_ros.safety.base import BaseMeasured
from vla_ros.types import BaseCommand, FloatArray

# Share of its distance from what it is sent that the base's velocity covers in one tick.
LAG = 0.1
# The driver forgets what it was sent after this long, s; from this long on it may have, for who sends.
FORGETS_S, MAY_FORGET_S = 0.3, 0.2
# In these the base has to slow down, or stand.
STANDING = ("hold", "estop", "home")
NOTHING = np.zeros(2)


class Base:
    """See the module. The enemy sets `blind`, `limp`, `shown` and `velocity`.

    blind: ticks for which no odometry comes; limp: periods for which the motors are off; shown: what is added
    to one tick's odometry [2]; velocity: float64 [2], m/s and rad/s; complaints: rules that were broken.
    """

    def __init__(self, config: MobileBase, period_s: float) -> None:
        self.velocity = NOTHING
        self.blind = self.limp = 0
        self.shown = NOTHING
        self.complaints: list[str] = []
        self._limits, self._period_s = config.limits, period_s
        self._newest: BaseMeasured | None = None
        self._last: BaseCommand | None = None
        self._silent_s = math.inf
        self._sent: list[FloatArray] = []
        self._steps: list[FloatArray] = []
        self._rests_by = math.inf

    def measure(self, now_ns: int) -> BaseMeasured | None:
        """The newest odometry."""
        self.blind -= 1
        if self.blind < 0:
            self._newest = BaseMeasured(self.velocity + self.shown, now_ns)
        self.shown = NOTHING
        return self._newest

    def pass_time(self) -> None:
        """One period: it does what it was sent last, until its driver has forgotten that."""
        self._silent_s += self._period_s
        self.limp -= 1
        keeps = self._last is not None and self.limp < 0 and self._silent_s <= FORGETS_S
        wanted = self._last.sent if keeps and self._last is not None else NOTHING
        self.velocity = self.velocity + LAG * (wanted - self.velocity)

    def take(self, command: BaseCommand | None) -> None:
        """What it is sent in this tick, None for nothing."""
        last, self._last = self._last, command
        if command is None:
            if last is not None and last.sent.any():
                self.complaints.append(f"base: its stream ends at {last.sent}")
            return
        if not np.isfinite(command.sent).all():
            self.complaints.append(f"base: it was sent {command.sent}")
        before = [NOTHING if last is None else last.sent]
        if last is not None and self._silent_s > MAY_FORGET_S:
            # It goes on from where the base is slower, or stands.
            slowest = NOTHING if self._newest is None else self._newest.velocity
            before += [NOTHING, np.clip(slowest, np.minimum(last.sent, 0.0), np.maximum(last.sent, 0.0))]
        self._silent_s = 0.0
        self._sent.append(command.sent)
        self._steps.append(min((np.abs(command.sent - each) for each in before), key=np.max))
        self._check_standing(command, before)

    def worst(self) -> Iterator[tuple[str, float]]:
        """(limit, share of it that was used at most)."""
        if self._sent:
            velocity, acceleration = np.array(self._limits.velocity), np.array(self._limits.acceleration)
            yield "base_velocity", float((np.abs(self._sent) / velocity).max())
            yield "base_acceleration", float((np.array(self._steps) / self._period_s / acceleration).max())

    def _check_standing(self, command: BaseCommand, before: list[FloatArray]) -> None:
        """Where the policy does not drive it, it slows down in no more ticks than it takes, and stands."""
        if command.source not in STANDING:
            self._rests_by = math.inf
            return
        change = np.array(self._limits.acceleration) * self._period_s
        if math.isinf(self._rests_by):
            self._rests_by = max(math.ceil(float((np.abs(each) / change).max())) for each in before)
        self._rests_by -= 1
        fastest = np.max(np.abs(before), axis=0)
        if (np.abs(command.sent) > fastest).any():
            self.complaints.append(f"base: faster in '{command.source}', {command.sent} after {before}")
        if self._rests_by <= 0 and command.sent.any():
            self.complaints.append(f"base: it still drives in '{command.source}', {command.sent}")
