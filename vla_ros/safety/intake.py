"""What chunks and targets may be taken up: whole arms and bases, in time, and near where the arms are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vla_ros.action import message
from vla_ros.action.schedule import Target
from vla_ros.errors import Refused
from vla_ros.robot.channels import BASE_CHANNELS, gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.watch import CLOCK_AHEAD_NS, check_near_joints, check_near_pose
from vla_ros.types import ActionChunk, FloatArray


def channels_of(robot: Robot) -> frozenset[str]:
    """Every channel that a chunk for this robot may name."""
    channels: set[str] = set()
    for name, arm in robot.arms.items():
        channels |= {*joint_channels(name, len(arm.joints)), *tool_channels(name)}
        if arm.gripper is not None:
            channels.add(gripper_channel(name))
    if robot.base is not None:
        channels |= {*BASE_CHANNELS}
    return frozenset(channels)


def gripper_ranges(robot: Robot) -> dict[str, tuple[float, float]]:
    """{gripper channel: narrowest and widest opening, m}."""
    return {
        gripper_channel(name): arm.gripper.width
        for name, arm in robot.arms.items()
        if arm.gripper is not None
    }


def check_channels(robot: Robot, channels: tuple[str, ...]) -> None:
    """Raises Refused("channels") for an arm or a base only partly named, an arm named by joints and tool
    both, or a base that the robot does not have."""
    groups: list[tuple[str, ...]] = [BASE_CHANNELS]
    for name, arm in robot.arms.items():
        groups += [joint_channels(name, len(arm.joints)), tool_channels(name)]
        if joint_channels(name, 1)[0] in channels and tool_channels(name)[0] in channels:
            raise Refused("channels", f"the chunk has both joint and tool targets for {name}")
    for group in groups:
        some = [channel for channel in group if channel in channels]
        if some and len(some) != len(group):
            missing = [channel for channel in group if channel not in channels]
            raise Refused("channels", f"the chunk has {some} but not {missing}")
    if robot.base is None and BASE_CHANNELS[0] in channels:
        raise Refused(
            "channels", f"the chunk has {list(BASE_CHANNELS)}, and robot '{robot.name}' has no base"
        )


def check_finite(chunk: ActionChunk) -> None:
    """Raises Refused("nan"), as for a chunk in a message: not every one came in one."""
    message.check_finite(chunk.channels, chunk.targets)


def check_times(chunk: ActionChunk, started_ns: int, now_ns: int, acts_ns: int) -> None:
    """Raises Refused: "old" (computed from what was seen before the last start, reset or loss), "future" or
    "late" (every step is past due at `acts_ns`, when a command made now acts)."""
    if chunk.stamp_ns < started_ns:
        raise Refused("old", "the chunk was computed from what was seen before the last start, reset or loss")
    if chunk.stamp_ns - now_ns > CLOCK_AHEAD_NS:
        ahead = (chunk.stamp_ns - now_ns) / 1e9
        raise Refused("future", f"the chunk's stamp is {ahead:.3f} s ahead of this node's clock")
    if chunk.due_ns[-1] < acts_ns:
        late = (acts_ns - chunk.due_ns[-1]) / 1e9
        raise Refused(
            "late", f"every step of the chunk is past due, by {late:.3f} s: inference is slower than "
            "the chunk's horizon",
        )  # fmt: skip


def from_rest(chunk: ActionChunk, begins_ns: int) -> ActionChunk:
    """The chunk, with its first step due no earlier than `begins_ns` and the others as far after it.

    For arms that have stood still since the observation: what was due meanwhile they have not missed, and
    where they ought to be by now may be too far to be taken up.
    """
    later = begins_ns - int(chunk.due_ns[0])
    return chunk if later <= 0 else replace(chunk, due_ns=chunk.due_ns + later)


def first_target(chunk: ActionChunk, acts_ns: int) -> Target:
    """What a chunk that is not past due wants first, at `acts_ns` or when its first step is due: linear
    between steps, orientations of the nearer one, since all that is asked is whether it is far."""
    due = chunk.due_ns
    time_ns = max(acts_ns, int(due[0]))
    after = min(int(np.searchsorted(due, time_ns)), len(due) - 1)
    before = max(after - 1, 0)
    share = (time_ns - int(due[before])) / max(int(due[after] - due[before]), 1)
    first, second = chunk.targets[before], chunk.targets[after]
    values = first + share * (second - first)
    turns = ["/tcp/orientation." in name for name in chunk.channels]
    values[turns] = (first if share < 0.5 else second)[turns]
    return Target(chunk.channels, values, chunk.stamp_ns)


def check_near(
    target: Target,
    robot: Robot,
    kinematics: Mapping[str, Kinematics],
    references: Mapping[str, FloatArray],
    of_what: str,
) -> None:
    """Raises Refused("far") where a target is too far from {arm: joints [J], rad}, or names an arm that has
    none there. of_what: what those are, for people. (A base's velocity is never far: it is only limited.)"""
    for name, arm in robot.arms.items():
        pose, joints, _ = parts(target, name, len(arm.joints))
        if pose is None and joints is None:
            continue
        if name not in references:
            raise Refused("far", f"{name}: no joint states to compare the target with")
        if joints is not None:
            check_near_joints(joints, references[name], robot.safety, of_what)
        if pose is not None:
            check_near_pose(pose, kinematics[name].forward(references[name]), robot.safety, of_what)


def parts(target: Target, arm: str, joints: int) -> tuple[FloatArray | None, FloatArray | None, float | None]:
    """(tool pose [7], joints [J], gripper width) of one arm in a target; None for what it does not name."""
    tool, joint, gripper = _columns(target.channels, arm, joints)
    values = target.values
    return (
        None if tool is None else values[tool],
        None if joint is None else values[joint],
        None if gripper is None else float(values[gripper][0]),
    )


def base_velocity(target: Target) -> FloatArray | None:
    """The base's velocity [2] in a target, forward m/s and turning rad/s; None where it is not named."""
    columns = _base_columns(target.channels)
    return None if columns is None else target.values[columns]


@lru_cache(maxsize=64)
def _base_columns(channels: tuple[str, ...]) -> NDArray[np.intp] | None:
    if BASE_CHANNELS[0] not in channels:
        return None
    return np.array([channels.index(name) for name in BASE_CHANNELS])


@lru_cache(maxsize=64)
def _columns(channels: tuple[str, ...], arm: str, joints: int) -> list[NDArray[np.intp] | None]:
    """Where one arm's tool, joints and gripper are among the channels; None for what is not there."""
    column = {name: index for index, name in enumerate(channels)}
    return [
        np.array([column[name] for name in names]) if names[0] in column else None
        for names in (tool_channels(arm), joint_channels(arm, joints), (gripper_channel(arm),))
    ]
