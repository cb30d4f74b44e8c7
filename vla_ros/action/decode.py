"""RawChunk <-> ActionChunk: the one place where a policy's convention meets the robot's channels.

`decode` turns what the network returned into absolute SI targets. An `eef_relative` pose becomes absolute
here, exactly once, against the tool pose measured at the observation's time; nothing downstream knows that
it ever was relative. `encode` is the inverse, for making training data and for tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.action.normalise import Scaling, denormalise, normalise
from vla_ros.action.rotations import (
    matrix_to_quaternion,
    matrix_to_rot6d,
    quaternion_to_matrix,
    rot6d_to_matrix,
)
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import ActionSlice, GripperRule, Outputs
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Arm
from vla_ros.types import ActionChunk, FloatArray, Observation, RawChunk

# How much slower or faster than in training a policy may be played.
SPEEDS = (0.25, 2.0)


def decode(
    raw: RawChunk,
    observation: Observation,
    manifest: Manifest,
    scaling: Scaling,
    arms: Mapping[str, Arm],
    speed: float = 1.0,
) -> ActionChunk:
    """Absolute targets of every arm that the policy moves.

    raw: [horizon, K] normalised. scaling: of the action, width K. arms: the robot's, in the order of
    its YAML; the manifest's arm roles are matched to them in order. speed: see `due_times`.
    Raises Refused: "shape", "nan", "rotation" (a degenerate rot6d), "incomplete" (no tool pose in the
    observation), and ContractError where the manifest asks for something the robot has not.
    """
    outputs = manifest.outputs
    shape = (outputs.horizon, outputs.size)
    if raw.values.shape != shape:
        raise Refused("shape", f"the network returned {raw.values.shape}, the manifest declares {shape}")
    if not np.all(np.isfinite(raw.values)):
        bad = sorted(set(np.nonzero(~np.isfinite(raw.values))[1].tolist()))
        raise Refused("nan", f"the network returned NaN or infinity in action columns {bad}")
    values = denormalise(raw.values, scaling)
    channels: list[str] = []
    targets: list[FloatArray] = []
    for name, arm, parts in _by_arm(manifest, arms):
        for part_channels, part_targets in _decode_arm(name, arm, parts, values, observation, outputs):
            channels.extend(part_channels)
            targets.append(part_targets)
    return ActionChunk(
        channels=tuple(channels),
        targets=np.concatenate(targets, axis=1),
        due_ns=due_times(observation.stamp_ns, outputs, speed),
        stamp_ns=observation.stamp_ns,
    )


def encode(
    chunk: ActionChunk,
    tool_poses: Mapping[str, ArrayLike],
    manifest: Manifest,
    scaling: Scaling,
    arms: Mapping[str, Arm],
) -> RawChunk:
    """The inverse of `decode`, with grippers at 0 or 1.

    tool_poses: {arm: measured pose at the chunk's stamp, [7] x y z (m) and quaternion xyzw}. A gripper
    width counts as open from half the gripper's range on. Raises KeyError for a missing channel.
    """
    outputs = manifest.outputs
    values = np.empty((len(chunk.targets), outputs.size))
    column = {name: index for index, name in enumerate(chunk.channels)}
    for name, arm, parts in _by_arm(manifest, arms):
        for part, columns in parts:
            if part.signal == "joint_position":
                names: Sequence[str] = joint_channels(name, part.size)
                values[:, columns] = chunk.targets[:, [column[key] for key in names]]
            elif part.signal == "gripper":
                low, high = _width(name, arm)
                is_open = chunk.targets[:, column[gripper_channel(name)]] >= (low + high) / 2
                values[:, columns] = np.where(is_open, outputs.gripper.open_is, 1 - outputs.gripper.open_is)[
                    :, None
                ]
            else:
                pose = chunk.targets[:, [column[key] for key in tool_channels(name)]]
                origin, frame = _reference(part, np.asarray(tool_poses[name], dtype=np.float64))
                if part.signal == "tcp_position":
                    values[:, columns] = (pose[:, :3] - origin) @ frame
                else:
                    relative = frame.T @ quaternion_to_matrix(pose[:, 3:])
                    values[:, columns] = matrix_to_rot6d(relative, part.rot6d or "columns")
    return RawChunk(values=normalise(values, scaling).astype(np.float32))


def due_times(stamp_ns: int, outputs: Outputs, speed: float = 1.0) -> NDArray[np.int64]:
    """int64 [horizon]: row k is due at stamp + (k + first_step) dt / speed.

    speed: 1 is the speed that the policy was trained at. Raises ValueError outside SPEEDS.
    """
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise ValueError(f"speed {speed}: expected {SPEEDS[0]} to {SPEEDS[1]}")
    steps = np.arange(outputs.horizon) + outputs.first_step
    return stamp_ns + np.rint(steps * (outputs.dt_s / speed * 1e9)).astype(np.int64)


def first_rows(chunk: ActionChunk, count: int) -> ActionChunk:
    """The chunk cut to its first `count` rows (at least one)."""
    return replace(chunk, targets=chunk.targets[:count], due_ns=chunk.due_ns[:count])


def gripper_open(values: ArrayLike, rule: GripperRule) -> NDArray[np.bool_]:
    """Whether the gripper is to be open, per row [H], by the manifest's threshold with hysteresis.

    The first row has no past, so there the bare threshold decides; from then on a value inside the band
    keeps the state of the row before.
    """
    v = np.asarray(values, dtype=np.float64)
    if rule.open_is == 0:
        # Mirrored, 'open' lies above the threshold in both polarities.
        v, threshold = 1.0 - v, 1.0 - rule.threshold
    else:
        threshold = rule.threshold
    state = np.empty(len(v), dtype=bool)
    current = bool(v[0] > threshold)
    for row, value in enumerate(v):
        if value > threshold + rule.hysteresis:
            current = True
        elif value < threshold - rule.hysteresis:
            current = False
        state[row] = current
    return state


Part = tuple[ActionSlice, slice]


def _by_arm(manifest: Manifest, arms: Mapping[str, Arm]) -> Iterable[tuple[str, Arm, list[Part]]]:
    """(robot arm name, arm, its slices with their columns), in the order of the manifest's arms."""
    if len(manifest.arms) > len(arms):
        raise ContractError(
            f"policy '{manifest.name}' moves {len(manifest.arms)} arms {manifest.arms}; the robot has "
            f"{list(arms)}"
        )
    by_role: dict[str, list[Part]] = {role: [] for role in manifest.arms}
    start = 0
    for part in manifest.outputs.action:
        by_role[part.arm].append((part, slice(start, start + part.size)))
        start += part.size
    for role, (name, arm) in zip(manifest.arms, arms.items(), strict=False):
        yield name, arm, by_role[role]


def _decode_arm(
    name: str,
    arm: Arm,
    parts: Iterable[Part],
    values: FloatArray,
    observation: Observation,
    outputs: Outputs,
) -> Iterable[tuple[tuple[str, ...], FloatArray]]:
    """(channels, targets [H, n]) of one arm, the gripper's last whatever the manifest's order."""
    position: FloatArray | None = None
    rotation: FloatArray | None = None
    gripper: FloatArray | None = None
    for part, columns in parts:
        x = values[:, columns]
        if part.signal == "joint_position":
            if part.reference != "absolute" or part.size != len(arm.joints):
                raise ContractError(
                    f"policy: joint_position of arm '{part.arm}' is {part.size} wide and {part.reference}; "
                    f"the robot's arm '{name}' takes {len(arm.joints)} absolute joint positions"
                )
            yield joint_channels(name, part.size), x
        elif part.signal == "gripper":
            low, high = _width(name, arm)
            is_open = gripper_open(x[:, 0], outputs.gripper)
            gripper = np.where(is_open, high, low)[:, None]
        else:
            pose = observation.state.get(f"{name}/tcp_pose")
            if pose is None:
                raise Refused("incomplete", f"the observation holds no {name}/tcp_pose to act relative to")
            origin, frame = _reference(part, pose)
            if part.signal == "tcp_position":
                position = x @ frame.T + origin
            else:
                rotation = frame @ rot6d_to_matrix(x, part.rot6d or "columns")
    if (position is None) != (rotation is None):
        raise ContractError(f"policy: arm '{name}' needs both tcp_position and tcp_rot6d, or neither")
    if position is not None and rotation is not None:
        yield tool_channels(name), np.concatenate([position, matrix_to_quaternion(rotation)], axis=1)
    if gripper is not None:
        yield (gripper_channel(name),), gripper


def _reference(part: ActionSlice, pose: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Origin [3] and axes [3, 3] that a slice's values refer to, from the pose [7] at chunk start."""
    if part.reference == "absolute":
        return np.zeros(3), np.eye(3)
    return np.asarray(pose[:3], dtype=np.float64), quaternion_to_matrix(pose[3:])


def _width(name: str, arm: Arm) -> tuple[float, float]:
    if arm.gripper is None:
        raise ContractError(f"policy: moves a gripper, but the robot's arm '{name}' declares none")
    return arm.gripper.width
