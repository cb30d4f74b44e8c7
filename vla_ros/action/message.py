"""ActionChunk <-> trajectory_msgs/JointTrajectory, the form in which a chunk travels between processes.

`header.stamp` is the observation's time, `joint_names` are channels, `points[k].time_from_start` says when
row k is due. Reading refuses whatever could not be acted on; nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from vla_ros.errors import Refused
from vla_ros.robot.channels import tool_channels
from vla_ros.types import ActionChunk

NS = 1_000_000_000
# A quaternion further from unit length than this is a mistake, not rounding.
UNIT_TOLERANCE = 1e-3


def to_message(chunk: ActionChunk) -> Any:
    """The chunk as a trajectory_msgs/JointTrajectory."""
    # Imported here: reading needs no message class, and the core stays importable without ROS.
    from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

    message = JointTrajectory(joint_names=list(chunk.channels))
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(int(chunk.stamp_ns), NS)
    for row, due in zip(chunk.targets.tolist(), (chunk.due_ns - chunk.stamp_ns).tolist(), strict=True):
        point = JointTrajectoryPoint(positions=row)
        point.time_from_start.sec, point.time_from_start.nanosec = divmod(due, NS)
        message.points.append(point)
    return message


def from_message(message: Any, channels: Collection[str]) -> ActionChunk:
    """The chunk in a JointTrajectory.

    channels: what this robot has. Raises Refused: "empty", "channels" (unknown or twice), "shape" (a row
    of another length, or no stamp), "nan" (NaN or infinity), "order" (due times that do not increase, or
    a first one before the stamp), "rotation" (a quaternion that is not of unit length or incomplete).
    """
    names = tuple(message.joint_names)
    if not names or not message.points:
        raise Refused("empty", f"a chunk with {len(names)} channels and {len(message.points)} points")
    unknown = [name for name in names if name not in channels]
    if unknown or len(set(names)) != len(names):
        raise Refused(
            "channels", f"chunk channels {unknown or list(names)}: unknown or twice; have {sorted(channels)}"
        )
    stamp = message.header.stamp.sec * NS + message.header.stamp.nanosec
    if stamp == 0:
        raise Refused("shape", "the chunk's header.stamp is empty; it must be the observation's time")
    for k, point in enumerate(message.points):
        if len(point.positions) != len(names):
            raise Refused("shape", f"row {k} has {len(point.positions)} values for {len(names)} channels")
    targets = np.array([point.positions for point in message.points], dtype=np.float64)
    if not np.all(np.isfinite(targets)):
        bad = sorted({names[column] for column in np.nonzero(~np.isfinite(targets))[1].tolist()})
        raise Refused("nan", f"NaN or infinity in {bad}")
    after = np.array(
        [p.time_from_start.sec * NS + p.time_from_start.nanosec for p in message.points], dtype=np.int64
    )
    if after[0] < 0 or np.any(np.diff(after) <= 0):
        raise Refused("order", "time_from_start must start at 0 or later and increase from row to row")
    for columns in orientation_columns(names).values():
        length = np.linalg.norm(targets[:, columns], axis=1)
        if np.any(np.abs(length - 1.0) > UNIT_TOLERANCE):
            raise Refused("rotation", f"a quaternion of length {length.min():.4g} to {length.max():.4g}")
        targets[:, columns] /= length[:, None]
    return ActionChunk(channels=names, targets=targets, due_ns=stamp + after, stamp_ns=stamp)


def orientation_columns(channels: tuple[str, ...]) -> dict[str, list[int]]:
    """{arm: columns of its tool orientation in the order x y z w}.

    Raises Refused("rotation") where an arm has some tool-pose channels but not all seven.
    """
    column = {name: index for index, name in enumerate(channels)}
    arms = sorted({name.split("/tcp/")[0] for name in channels if "/tcp/" in name})
    found = {}
    for arm in arms:
        wanted = tool_channels(arm)
        missing = [name for name in wanted if name not in column]
        if missing:
            raise Refused("rotation", f"a tool pose without {missing}")
        found[arm] = [column[name] for name in wanted[3:]]
    return found
