"""What the policy is told of the robot itself, in the policy's own convention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from vla_ros.action.grippers import gripper_from_width
from vla_ros.action.rotations import encode_rotation, quaternion_to_matrix
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import Horn, StateSlice
from vla_ros.robot.channels import (
    BASE_CHANNELS,
    BASE_VELOCITY,
    gripper_channel,
    joint_channels,
    tool_channels,
)
from vla_ros.robot.config import Arm
from vla_ros.types import ActionChunk, FloatArray, Observation


def state_vector(
    manifest: Manifest, arms: Mapping[str, tuple[str, Arm]], observation: Observation
) -> FloatArray:
    """float64 [S]: the slices in the manifest's order and conventions, not yet normalised.

    arms: {arm role of the manifest: (name, arm) of the robot}. Each value is found by its name, so the order
    in which the robot lists or sends them plays no part. Padding is 0.
    Raises Refused("incomplete") when the observation lacks one: it is never made up.
    """
    found: list[FloatArray] = []
    for part in manifest.inputs.state:
        if part.signal == "padding":
            found.append(np.zeros(part.size))
        elif part.arm is None:
            found.append(_group(observation, BASE_VELOCITY))
        else:
            rotation = manifest.tool_rotation(part.arm)
            found.append(state_signal(part, *arms[part.arm], observation, rotation))
    return np.concatenate(found) if found else np.zeros(0)


def state_signal(
    part: StateSlice, name: str, arm: Arm, observation: Observation, tool_rotation: FloatArray
) -> FloatArray:
    """One slice of the state vector [size], of the robot's arm `name`.

    tool_rotation: [3, 3], the manifest's for this arm. In BridgeData V2 it is default_rot^T: there a tool's
    rotation is R default_rot^T (rail-berkeley/bridge_data_robot, widowx_controller.py; clients in SimplerEnv
    write mat2euler(R @ default_rot.T)).
    Raises Refused("incomplete") when the observation lacks it.
    """
    group = {"joint_position": "joint_position", "gripper": "gripper"}.get(part.signal, "tcp_pose")
    values = _group(observation, f"{name}/{group}")
    if part.signal == "joint_position":
        if len(values) != part.size:
            raise Refused(
                "incomplete", f"{name}/{group} has {len(values)} values, the policy needs {part.size}"
            )
        return values if part.signs is None else values * np.array(part.signs, dtype=np.float64)
    if part.signal == "tcp_position":
        return values[:3]
    if part.rotation is not None:
        return encode_rotation(quaternion_to_matrix(values[3:]) @ tool_rotation, part.rotation)
    if arm.gripper is None:
        raise ContractError(f"policy: needs a gripper, but the robot's arm '{name}' declares none")
    return np.atleast_1d(gripper_signal(part, float(values[0]), arm.gripper.width))


def _group(observation: Observation, name: str) -> FloatArray:
    """Raises Refused("incomplete") when the observation lacks it."""
    values = observation.state.get(name)
    if values is None:
        raise Refused("incomplete", f"the observation holds no {name}, which the policy needs")
    return values


def gripper_signal(part: StateSlice, width: float, ends: tuple[float, float]) -> FloatArray:
    """[1]: an opening width in m as the slice wants it. ends: the widths in m when closed and when open."""
    if part.gripper is not None:
        return np.atleast_1d(gripper_from_width(width, part.gripper, ends))
    assert part.horn is not None
    return np.array([horn_value(part.horn, (width - ends[0]) / (ends[1] - ends[0]))])


def horn_value(horn: Horn, opened: float) -> float:
    """What a policy is told of a gripper that is open by the fraction `opened` (`Horn` has the formula).

    Beyond the horn's reach its angle stays at a right one, as in openpi.
    """
    travel = horn.travel[0] + opened * (horn.travel[1] - horn.travel[0])
    sine = (horn.horn_m**2 + travel**2 - horn.rod_m**2) / (2 * horn.horn_m * travel)
    angle = math.asin(min(1.0, max(-1.0, sine)))
    return (angle - horn.angle[0]) / (horn.angle[1] - horn.angle[0])


def at_training_speed(observation: Observation, speed: float) -> Observation:
    """The observation as a policy that is played at `speed` knows it from its training: with the base's
    velocity divided by that, for `decode` multiplies those that the policy asks for by it. All else is
    positions, which are the same at any speed.
    """
    velocity = observation.state.get(BASE_VELOCITY)
    if velocity is None or speed == 1.0:
        return observation
    return replace(observation, state={**observation.state, BASE_VELOCITY: velocity / speed})


def with_predicted_state(observation: Observation, rows: ActionChunk | None) -> Observation:
    """The observation with the policy's own last targets in place of what was measured.

    For policies whose state is declared as the last prediction, as most clients of X-VLA (2toinf/X-VLA,
    evaluation) keep it: of `rows`, what was asked of the robot until now, the one due last at the
    observation's time. What it does not command stays as measured, and all of it where none was due yet.
    """
    if rows is None:
        return observation
    row = int(np.searchsorted(rows.due_ns, observation.stamp_ns, side="right")) - 1
    if row < 0:
        return observation
    target = dict(zip(rows.channels, rows.targets[row], strict=True))
    state = dict(observation.state)
    for group, values in observation.state.items():
        arm, signal = group.split("/")
        if group == BASE_VELOCITY:
            channels: tuple[str, ...] = BASE_CHANNELS
        elif signal == "joint_position":
            channels = joint_channels(arm, len(values))
        elif signal == "tcp_pose":
            channels = tool_channels(arm)
        else:
            channels = (gripper_channel(arm),)
        if all(channel in target for channel in channels):
            state[group] = np.array([target[channel] for channel in channels])
    return replace(observation, state=state)
