"""What the policy is told of the robot itself, in the policy's own convention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from vla_ros.action.rotations import matrix_to_rot6d, quaternion_to_matrix
from vla_ros.errors import Refused
from vla_ros.policy.manifest_inputs import StateSlice
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk, FloatArray, Observation


def state_vector(
    parts: Sequence[StateSlice], arms: Mapping[str, str], observation: Observation
) -> FloatArray:
    """float64 [S]: the slices in the manifest's order, SI, not yet normalised.

    arms: {arm role of the manifest: arm of the robot}. Each value is found by its name, so the order in which
    the robot lists or sends them plays no part.
    Raises Refused("incomplete") when the observation lacks one: it is never made up.
    """
    found = [state_signal(part, arms[part.arm], observation) for part in parts]
    return np.concatenate(found) if found else np.zeros(0)


def state_signal(part: StateSlice, arm: str, observation: Observation) -> FloatArray:
    """One slice of the state vector, SI. Raises Refused("incomplete") when the observation lacks it."""
    group = {"joint_position": "joint_position", "gripper_width": "gripper"}.get(part.signal, "tcp_pose")
    values = observation.state.get(f"{arm}/{group}")
    if values is None:
        raise Refused("incomplete", f"the observation holds no {arm}/{group}, which the policy needs")
    if part.signal == "tcp_position":
        return values[:3]
    if part.signal == "tcp_rot6d":
        return matrix_to_rot6d(quaternion_to_matrix(values[3:]), part.rot6d or "columns")
    return values


def with_predicted_state(observation: Observation, chunk: ActionChunk | None) -> Observation:
    """The observation with the policy's own last targets in place of what was measured.

    For policies whose state is declared as the last prediction, as most clients of X-VLA (2toinf/X-VLA,
    evaluation) keep it: the row of `chunk` that was due last at the observation's time. What the chunk does
    not command, and all of it before its first row is due or without a chunk, stays as measured.
    """
    if chunk is None:
        return observation
    row = int(np.searchsorted(chunk.due_ns, observation.stamp_ns, side="right")) - 1
    if row < 0:
        return observation
    target = dict(zip(chunk.channels, chunk.targets[row], strict=True))
    state = dict(observation.state)
    for group, values in observation.state.items():
        arm, signal = group.split("/")
        if signal == "joint_position":
            channels: tuple[str, ...] = joint_channels(arm, len(values))
        elif signal == "tcp_pose":
            channels = tool_channels(arm)
        else:
            channels = (gripper_channel(arm),)
        if all(channel in target for channel in channels):
            state[group] = np.array([target[channel] for channel in channels])
    return replace(observation, state=state)
