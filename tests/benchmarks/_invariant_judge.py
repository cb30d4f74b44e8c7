"""How near to its limits everything came that was sent to a robot, and what went beyond."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vla_ros.benchmarks._invariant_robot import Robot, Stream
from vla_ros.robot.config import Gripper, JointLimits
from vla_ros.types import FloatArray

# The finite differences of what is sent are exact but for rounding, which the period's third power magnifies.
ROUNDING = 1e-6
# Beyond what the supervisor itself lets pass (5 mm of the workspace, 2 mm between two looks): the way between
# two ticks bulges, m.
BULGE = 0.003
WORKSPACE, CLEARANCE = 0.005 + BULGE, 0.002 + BULGE
# A stream begins where the arm is. Joint states may be a tick old, noisy, or a glitch that is too small to be
# told from motion.
BEGIN = 0.12
LIMITS = (
    "position", "velocity", "acceleration", "jerk", "begin", "tool_speed", "tool_rotation_speed", "workspace",
    "forbidden", "arm_distance", "gripper_range", "gripper_speed", "base_velocity", "base_acceleration",
)  # fmt: skip


@dataclass(frozen=True)
class Worst:
    """limit: one of LIMITS. used: share of the limit that was used at most, 1 being all of it; for distances
    the least distance left over, m, negative where the limit is broken; either with the tolerances above."""

    limit: str
    used: float
    broken: bool


def judge(robot: Robot) -> list[Worst]:
    """The worst of each limit that applies, over all that was sent."""
    found: dict[str, list[float]] = {}
    for name, streams in robot.streams.items():
        arm = robot.config.arms[name]
        for stream in streams:
            for limit, value in _joints(stream, arm.limits, robot.period_s):
                found.setdefault(limit, []).append(value)
            for limit, value in _tool(robot, name, stream):
                found.setdefault(limit, []).append(value)
            if arm.gripper is not None:
                for limit, value in _gripper(stream, arm.gripper, robot.period_s):
                    found.setdefault(limit, []).append(value)
    for limit, value in (*_distances(robot), *(() if robot.base is None else robot.base.worst())):
        found.setdefault(limit, []).append(value)
    least = ("forbidden", "arm_distance")
    return [
        Worst(limit, min(values), min(values) < 0)
        if limit in least
        else Worst(limit, max(values), max(values) > 1 + ROUNDING)
        for limit, values in ((limit, found[limit]) for limit in LIMITS if limit in found)
    ]


def _joints(stream: Stream, limits: JointLimits, period_s: float) -> Iterator[tuple[str, float]]:
    q = np.array(stream.q)
    # An arm that is found beyond a limit begins there, and may only go back.
    low, high = np.array(limits.position).T
    low, high = np.minimum(low, q[0]), np.maximum(high, q[0])
    middle = (low + high) / 2
    yield "position", float((np.abs(q - middle) / (high - middle)).max())
    begin = min(float(np.abs(start - q[0]).max()) for start in stream.start)
    yield "begin", begin / BEGIN
    # Before its first command the arm rests where that command is, but for a share of one period's change.
    q = np.concatenate([np.repeat(q[:1], 3, axis=0), q])
    for order, (limit, most) in enumerate(
        (("velocity", limits.velocity), ("acceleration", limits.acceleration), ("jerk", limits.jerk)), 1
    ):
        yield limit, float((np.abs(np.diff(q, n=order, axis=0)) / period_s**order / np.array(most)).max())


def _tool(robot: Robot, name: str, stream: Stream) -> Iterator[tuple[str, float]]:
    kinematics, safety = robot.kinematics[name], robot.config.safety
    poses = np.array([kinematics.forward(q) for q in stream.q])
    position = poses[:, :3, 3]
    nearest = np.clip(position, safety.workspace.min, safety.workspace.max)
    yield "workspace", float(np.linalg.norm(position - nearest, axis=1).max() / WORKSPACE)
    steps = np.linalg.norm(np.diff(position, axis=0), axis=1)
    yield "tool_speed", float(steps.max(initial=0.0) / robot.period_s / safety.tool_speed)
    turns = _angles(poses[:-1, :3, :3], poses[1:, :3, :3])
    rate = float(turns.max(initial=0.0) / robot.period_s)
    yield "tool_rotation_speed", rate / safety.tool_rotation_speed


def _gripper(stream: Stream, gripper: Gripper, period_s: float) -> Iterator[tuple[str, float]]:
    widths = np.array(stream.gripper)
    low, high = gripper.width
    middle = (low + high) / 2
    off = np.abs(widths - middle) / (high - middle)
    yield "gripper_range", float(np.nanmax(off, initial=0.0))
    speed = np.abs(np.diff(widths)) / period_s / gripper.speed
    yield "gripper_speed", float(np.nanmax(speed, initial=0.0))


def _angles(one: FloatArray, other: FloatArray) -> FloatArray:
    """Angles between rotations [N, 3, 3], rad; from the sine, exact for small ones."""
    turn = np.einsum("nji,njk->nik", one, other)
    axis = np.stack(
        [turn[:, 2, 1] - turn[:, 1, 2], turn[:, 0, 2] - turn[:, 2, 0], turn[:, 1, 0] - turn[:, 0, 1]], axis=1
    )
    return np.arctan2(np.linalg.norm(axis, axis=1), np.trace(turn, axis1=1, axis2=2) - 1)


def _distances(robot: Robot) -> Iterator[tuple[str, float]]:
    for rule in robot.geometry.rules:
        # All arms' streams begin and end together.
        for streams in zip(*(robot.streams[name] for name in rule.arms), strict=True):
            way = np.concatenate([np.array(stream.q) for stream in streams], axis=1)
            yield rule.kind, min(robot.geometry.distance(rule, q) for q in way) - rule.distance + CLEARANCE
