"""What the recorded messages say: pure functions on numpy arrays, times in ns.

The commanded motion is judged as a driver at 1 kHz carries it out: the trajectory controller is given every
message when it was published, and its reference is sampled. Where no message comes it follows the last one to
its end, and stays there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from vla_ros.errors import Refused
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim.controllers import ArmControllers, TrajectoryPoint
from vla_ros.types import FloatArray

NS = 1_000_000_000
DRIVER_PERIOD_S = 0.001
REST_S = 0.5


@dataclass(frozen=True)
class Sent:
    """One message to the driver. at_ns: when it was published; stamp_ns: its header's, 0 for "at once";
    points: joints in the YAML's order."""

    at_ns: int
    stamp_ns: int
    points: tuple[TrajectoryPoint, ...]

    @property
    def speed(self) -> float:
        """The fastest joint's speed on the way to the second point, rad/s; 0 with one point."""
        if len(self.points) < 2:
            return 0.0
        first, second = self.points[:2]
        apart = np.max(np.abs(second.positions - first.positions))
        return float(apart) * NS / (second.after_ns - first.after_ns)


@dataclass(frozen=True)
class Limits:
    """Of one arm: position [J, 2] rad, velocity, acceleration, jerk [J]."""

    position: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray


@dataclass(frozen=True)
class Use:
    """The largest share of a limit that a stream used; above 1 it broke it. `what` names limit and joint."""

    share: float
    what: str


def carried_out(messages: Sequence[Sent], joints: Sequence[str], start: FloatArray) -> FloatArray:
    """Joints [N, J] that the trajectory controller asks of the arm, one row per millisecond from the first
    message to the last, and REST_S more. start: what it held before."""
    if not messages:
        return np.empty((0, len(joints)))
    # Kinematics serve Cartesian commands only.
    controller = ArmControllers(joints, start, cast(Kinematics, None), "")
    rows: list[FloatArray] = []
    ends = [message.at_ns for message in messages[1:]] + [messages[-1].at_ns + round(REST_S * NS)]
    now = messages[0].at_ns
    for message, end in zip(messages, ends, strict=True):
        with contextlib.suppress(Refused):  # as the controller does: what was before goes on
            controller.joint_trajectory(joints, message.points, message.stamp_ns, message.at_ns)
        while now < end:
            rows.append(controller.reference(now))
            now += round(DRIVER_PERIOD_S * NS)
    return np.array(rows)


def stretches(commands: Sequence[tuple[int, FloatArray]], period_s: float) -> list[FloatArray]:
    """Commands (when published, joints [J]) of consecutive ticks together, [N, J] each."""
    if not commands:
        return []
    at = np.array([when for when, _ in commands])
    breaks = np.flatnonzero(np.diff(at) > 1.5 * period_s * NS) + 1
    return np.split(np.array([q for _, q in commands]), breaks)


def worst(uses: Iterable[Use]) -> Use:
    """The largest one."""
    return max(uses, key=lambda use: use.share, default=Use(0.0, ""))


def limit_use(q: FloatArray, period_s: float, limits: Limits) -> Use:
    """The largest share of any limit that the motion q [N, J], one row per period, uses, by finite
    differences."""
    largest = Use(0.0, "")
    if not len(q):
        return largest
    low, high = limits.position.T
    middle, half = (low + high) / 2, (high - low) / 2
    series: FloatArray = q
    tables: list[tuple[str, FloatArray, FloatArray]] = [("position", np.abs(q - middle), half)]
    for order, (name, limit) in enumerate(
        (("velocity", limits.velocity), ("acceleration", limits.acceleration), ("jerk", limits.jerk)), 1
    ):
        series = np.diff(q, n=order, axis=0) / period_s**order
        tables.append((name, np.abs(series), limit))
    for name, values, limit in tables:
        if not len(values):
            continue
        share = values / limit
        if not np.isfinite(share).all():
            return Use(float("inf"), f"{name} (not finite)")
        _, joint = np.unravel_index(int(np.argmax(share)), share.shape)
        if share.max() > largest.share:
            largest = Use(float(share.max()), f"{name} of joint {int(joint) + 1}")
    return largest


def speeds(times_ns: FloatArray, q: FloatArray, over_s: float = 0.05) -> tuple[FloatArray, FloatArray]:
    """(times_ns [M], fastest joint's speed [M] rad/s over the last `over_s`) of measured joints q [N, J]."""
    before = np.searchsorted(times_ns, times_ns - over_s * NS, side="right") - 1
    use = before >= 0
    elapsed = np.maximum((times_ns[use] - times_ns[before[use]]) / NS, 1e-6)
    moved = np.max(np.abs(q[use] - q[before[use]]), axis=1)
    return times_ns[use], moved / elapsed


def rest_from(times_ns: FloatArray, q: FloatArray, still: float, until_ns: float) -> float | None:
    """The moment from which, until `until_ns`, no joint was faster than `still` rad/s, or None."""
    times, speed = speeds(times_ns, q)
    inside = times <= until_ns
    times, speed = times[inside], speed[inside]
    if not len(times):
        return None
    fast = np.flatnonzero(speed > still)
    if not len(fast):
        return float(times[0])
    last = int(fast[-1])
    return None if last == len(times) - 1 else float(times[last + 1])


def largest_motion(q: FloatArray) -> float:
    """The furthest that any joint is from where it was first, rad; 0 of nothing."""
    return float(np.max(np.abs(q - q[0]))) if len(q) else 0.0
