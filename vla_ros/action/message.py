"""ActionChunk <-> trajectory_msgs/JointTrajectory, the form in which a chunk travels between processes.

`header.stamp` is the observation's time, `joint_names` are channels, `points[k].time_from_start` says when
row k is due. Reading refuses whatever could not be acted on; nothing is repaired.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import Refused
from vla_ros.robot.channels import tool_channels
from vla_ros.types import ActionChunk, FloatArray

NS = 1_000_000_000
# A quaternion further from unit length than this is a mistake, not rounding.
UNIT_TOLERANCE = 1e-3
# More rows than any policy returns: preparing them would keep the control loop from its next tick.
MOST_ROWS = 256


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

    channels: what this robot has. Raises Refused: "empty", "channels" (unknown or twice), "shape" (too
    many rows, one of another length, or no stamp), "nan" (NaN or infinity), "order" (due times that do not
    increase, or a first one before the stamp), "rotation" (a quaternion that is not of unit length or
    incomplete).
    """
    return checked_chunk(
        tuple(message.joint_names),
        message.header.stamp.sec * NS + message.header.stamp.nanosec,
        [point.positions for point in message.points],
        [point.time_from_start.sec * NS + point.time_from_start.nanosec for point in message.points],
        channels,
    )


def checked_chunk(
    names: tuple[str, ...],
    stamp_ns: int,
    rows: Sequence[ArrayLike],
    after_ns: Sequence[int],
    channels: Collection[str],
) -> ActionChunk:
    """The chunk with one row of positions per point, due `after_ns` after the stamp.

    Raises Refused as `from_message` says.
    """
    if not names or not len(rows):
        raise Refused("empty", f"a chunk with {len(names)} channels and {len(rows)} points")
    if len(rows) > MOST_ROWS:
        raise Refused("shape", f"a chunk of {len(rows)} rows; at most {MOST_ROWS} are taken")
    unknown = [name for name in names if name not in channels]
    if unknown or len(set(names)) != len(names):
        raise Refused(
            "channels", f"chunk channels {unknown or list(names)}: unknown or twice; have {sorted(channels)}"
        )
    if stamp_ns == 0:
        raise Refused("shape", "the chunk's header.stamp is empty; it must be the observation's time")
    for k, row in enumerate(rows):
        if len(row) != len(names):  # type: ignore[arg-type]
            raise Refused("shape", f"row {k} has {len(row)} values for {len(names)} channels")  # type: ignore[arg-type]
    targets = np.array(rows, dtype=np.float64)
    check_finite(names, targets)
    after = np.array(after_ns, dtype=np.int64)
    if after[0] < 0 or (after[1:] <= after[:-1]).any():
        raise Refused("order", "time_from_start must start at 0 or later and increase from row to row")
    for columns in orientation_columns(names).values():
        length = np.linalg.norm(targets[:, columns], axis=1)
        if (np.abs(length - 1.0) > UNIT_TOLERANCE).any():
            raise Refused("rotation", f"a quaternion of length {length.min():.4g} to {length.max():.4g}")
        targets[:, columns] /= length[:, None]
    return ActionChunk(channels=names, targets=targets, due_ns=stamp_ns + after, stamp_ns=stamp_ns)


def check_finite(channels: Sequence[str], targets: FloatArray) -> None:
    """Raises Refused("nan") where a target [H, C] is NaN or infinite."""
    if not np.isfinite(targets).all():
        row, column = np.argwhere(~np.isfinite(targets))[0]
        found = targets[row, column]
        raise Refused("nan", f"row {row} of the chunk has {found} for {channels[column]}")


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
