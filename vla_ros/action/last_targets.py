"""What was asked of the robot last: what deltas start from, and how long a gripper has been as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.rotations import slerp
from vla_ros.policy.manifest_outputs import Outputs
from vla_ros.robot.channels import BASE_CHANNELS, joint_channels, tool_channels
from vla_ros.types import ActionChunk, FloatArray


@dataclass(frozen=True)
class Asked:
    """The targets in force at one time.

    targets: {channel: value}. gripper_rows: {gripper channel: for how many rows it has been so}, without
    those that have been so for as long as is remembered.
    """

    targets: Mapping[str, float]
    gripper_rows: Mapping[str, int]

    def vector(self, channels: tuple[str, ...]) -> FloatArray | None:
        """The targets of these channels, None where one was never asked for."""
        if not all(name in self.targets for name in channels):
            return None
        return np.array([self.targets[name] for name in channels])


class LastTargets:
    """The rows that went out, chunk after chunk, each up to where the next one begins.

    A chunk's rows start from the targets before it, so these stay known for a while: the chunk that follows
    may be from a time before this one's first row.
    """

    def __init__(self, outputs: Outputs) -> None:
        sticky = [
            part.gripper.binary.sticky_steps
            for part in outputs.action
            if part.gripper and part.gripper.binary
        ]
        self._kept = 2 + max(sticky, default=0)
        self.rows: ActionChunk | None = None

    def forget(self) -> None:
        """The robot does something else, or nothing: the next chunk starts from what is measured."""
        self.rows = None

    def published(self, sent: ActionChunk, state: Mapping[str, ArrayLike]) -> None:
        """`sent` went out, computed from an observation of this `state` (`vla_ros.types.Observation`)."""
        due, targets = sent.due_ns, sent.targets
        old = self.rows
        kept = 0 if old is None or old.channels != sent.channels else int(np.searchsorted(old.due_ns, due[0]))
        if old is not None and kept:
            before = slice(max(0, kept - self._kept), kept)
            due = np.concatenate([old.due_ns[before], due])
            targets = np.concatenate([old.targets[before], targets])
        elif sent.stamp_ns < due[0]:
            due = np.concatenate([[sent.stamp_ns], due])
            targets = np.concatenate([_measured_row(sent, state)[None], targets])
        self.rows = ActionChunk(sent.channels, targets, due, sent.stamp_ns)


def asked_at(rows: ActionChunk, time_ns: int) -> Asked:
    """The targets in force at a time: between two rows in between, before the first and after the last these.

    A gripper's is that of the row before.
    """
    last = max(0, int(np.searchsorted(rows.due_ns, time_ns, side="right")) - 1)
    next_row = min(last + 1, len(rows.due_ns) - 1)
    before, after = rows.targets[last], rows.targets[next_row]
    span = int(rows.due_ns[next_row] - rows.due_ns[last])
    share = max(0.0, (time_ns - int(rows.due_ns[last])) / span) if span else 0.0
    values = (before + share * (after - before)).tolist()
    turns, grippers = _not_linear(rows.channels)
    for turn in turns:
        values[turn] = slerp(before[turn], after[turn], share).tolist()
    since = {}
    for column in grippers:
        values[column] = float(before[column])
        changes = np.flatnonzero(np.diff(rows.targets[: last + 1, column]))
        if len(changes):
            since[rows.channels[column]] = last - int(changes[-1])
    return Asked(dict(zip(rows.channels, values, strict=True)), since)


@cache
def _not_linear(channels: tuple[str, ...]) -> tuple[list[slice], list[int]]:
    """Where the quaternions and where the grippers are."""
    turns = [slice(i, i + 4) for i, name in enumerate(channels) if name.endswith("/orientation.x")]
    return turns, [i for i, name in enumerate(channels) if name.endswith("/gripper")]


def _measured_row(sent: ActionChunk, state: Mapping[str, ArrayLike]) -> FloatArray:
    """The measured state on the channels of a chunk [C]; a gripper as in the chunk's first row, for what it
    had to be before is not known."""
    values = dict(zip(sent.channels, sent.targets[0].tolist(), strict=True))
    for group, measured in state.items():
        arm, _, kind = group.rpartition("/")
        vector = np.asarray(measured, dtype=np.float64).tolist()
        names = {
            "tcp_pose": tool_channels(arm),
            "joint_position": joint_channels(arm, len(vector)),
            "velocity": BASE_CHANNELS,
        }.get(kind, ())
        values.update((name, value) for name, value in zip(names, vector, strict=False) if name in values)
    return np.array(list(values.values()))
