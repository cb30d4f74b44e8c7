"""RawChunk <-> ActionChunk: the one place where a policy's convention meets the robot's channels.

`decode` turns what the network returned into absolute SI targets: whatever the manifest says that an action
refers to (`vla_ros.action.references`) is resolved here, exactly once, and nothing downstream knows that it
ever was relative. `encode` is the inverse, for real-time chunking, for making training data and for tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.action.convention import ArmActions, Origins, Part, tool_targets
from vla_ros.action.last_targets import asked_at
from vla_ros.action.normalise import Scaling, denormalise, normalise
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import Outputs
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, FloatArray, Observation, RawChunk

# How much slower or faster than in training a policy may be played.
SPEEDS = (0.25, 2.0)


def decode(
    raw: RawChunk,
    observation: Observation,
    manifest: Manifest,
    scaling: Scaling,
    robot: Robot,
    speed: float = 1.0,
    last: ActionChunk | None = None,
) -> ActionChunk:
    """Absolute targets of every arm that the policy moves, and velocities of the base, which come last.

    raw: [horizon, K] normalised. scaling: of the action, width K.
    robot: the manifest's arm roles are matched to its arms in the order of its YAML.
    speed: see `due_times`; the base's velocities are the policy's times it, so that its way does not hang on
    it. last: what was asked of the robot until now (`LastTargets.rows`), None when the robot follows nothing:
    then what is declared to start from the last target starts from the measured state.
    Raises Refused: "shape", "nan", "rotation" (values that are no rotation), "incomplete" (the observation
    lacks what the action refers to), and ContractError where the manifest asks for something the robot has
    not.
    """
    outputs = manifest.outputs
    shape = (outputs.horizon, outputs.size)
    if raw.values.shape != shape:
        raise Refused("shape", f"the network returned {raw.values.shape}, the manifest declares {shape}")
    if not np.all(np.isfinite(raw.values)):
        bad = sorted(set(np.nonzero(~np.isfinite(raw.values))[1].tolist()))
        raise Refused("nan", f"the network returned NaN or infinity in action columns {bad}")
    due = due_times(observation.stamp_ns, outputs, speed)
    return ActionChunk(
        *to_targets(
            denormalise(raw.values, scaling),
            manifest,
            robot,
            _origins(observation.state, last, due, outputs, speed),
        ),
        due_ns=due,
        stamp_ns=observation.stamp_ns,
    )


def encode(
    chunk: ActionChunk,
    state: Mapping[str, ArrayLike],
    manifest: Manifest,
    scaling: Scaling,
    robot: Robot,
    speed: float = 1.0,
    last: ActionChunk | None = None,
) -> RawChunk:
    """The inverse of `decode`, with binary grippers at their two values and zeros for padding.

    state: measured at the chunk's stamp, groups as in `Observation.state`; only those that the actions refer
    to are needed. The others: as for `decode`. A binary gripper counts as open from half its range on.
    Raises KeyError for a missing channel, Refused("incomplete") for a missing group.
    """
    outputs = manifest.outputs
    values = to_values(
        chunk.targets,
        chunk.channels,
        manifest,
        robot,
        _origins(state, last, due_times(chunk.stamp_ns, outputs, speed), outputs, speed),
    )
    raw = normalise(values, scaling).astype(np.float32)
    column = 0
    for part in outputs.action:
        if part.signal == "padding" and scaling.bins is None:  # else the token of zero stands there
            raw[:, column : column + part.size] = 0.0
        column += part.size
    return RawChunk(raw)


def to_targets(
    values: FloatArray, manifest: Manifest, robot: Robot, origins: Origins
) -> tuple[tuple[str, ...], FloatArray]:
    """(channels, targets [H, C]) of rows in the policy's convention [H, K], SI. Errors as for `decode`."""
    channels: list[str] = []
    targets: list[FloatArray] = []
    everyone, driven = list(_by_arm(manifest, robot)), _base_columns(manifest, robot)
    tools = tool_targets(everyone, values, origins)
    for one in everyone:
        for names, columns in one.targets(values, tools.get(one.name), origins):
            channels.extend(names)
            targets.append(columns)
    if driven is not None:
        channels.extend(BASE_CHANNELS)
        # Positions are reached at any speed; a velocity that is kept for longer has to be so much less.
        targets.append(values[:, driven] * origins.speed)
    return tuple(channels), np.concatenate(targets, axis=1)


def to_values(
    targets: FloatArray,
    channels: tuple[str, ...],
    manifest: Manifest,
    robot: Robot,
    origins: Origins,
) -> FloatArray:
    """The inverse of `to_targets`, with zeros for padding. Errors as for `encode`."""
    values = np.zeros((len(targets), manifest.outputs.size))
    column = {name: index for index, name in enumerate(channels)}
    for one in _by_arm(manifest, robot):
        one.write(targets, column, origins, values)
    driven = _base_columns(manifest, robot)
    if driven is not None:
        values[:, driven] = targets[:, [column[name] for name in BASE_CHANNELS]] / origins.speed
    return values


def due_times(stamp_ns: int, outputs: Outputs, speed: float = 1.0) -> NDArray[np.int64]:
    """int64 [horizon]: row k is due at stamp + (k + first_step) step_s / speed.

    speed: 1 is the speed that the policy was trained at. Raises ValueError outside SPEEDS.
    """
    if not SPEEDS[0] <= speed <= SPEEDS[1]:
        raise ValueError(f"speed {speed}: expected {SPEEDS[0]} to {SPEEDS[1]}")
    steps = np.arange(outputs.horizon) + outputs.first_step
    return stamp_ns + np.rint(steps * (outputs.step_s / speed * 1e9)).astype(np.int64)


def first_rows(chunk: ActionChunk, count: int) -> ActionChunk:
    """The chunk cut to its first `count` rows (at least one)."""
    return replace(chunk, targets=chunk.targets[:count], due_ns=chunk.due_ns[:count])


def _origins(
    state: Mapping[str, ArrayLike],
    last: ActionChunk | None,
    due: NDArray[np.int64],
    outputs: Outputs,
    speed: float,
) -> Origins:
    # The first row's step begins one step before it is due.
    begin_ns = int(due[0]) - round(outputs.step_s / speed * 1e9)
    return Origins(state, None if last is None else asked_at(last, begin_ns), outputs.step_s, speed)


def _by_arm(manifest: Manifest, robot: Robot) -> Iterator[ArmActions]:
    """What is asked of each of the robot's arms, in the order of the manifest's arms."""
    if len(manifest.arms) > len(robot.arms):
        raise ContractError(
            f"policy '{manifest.name}' moves {len(manifest.arms)} arms {manifest.arms}; robot "
            f"'{robot.name}' has {list(robot.arms)}"
        )
    by_role: dict[str, dict[str, Part]] = {role: {} for role in manifest.arms}
    for part, columns in _columns(manifest):
        if part.arm is not None:
            by_role[part.arm][part.signal] = (part, columns)
    for role, (name, arm) in zip(manifest.arms, robot.arms.items(), strict=False):
        yield ArmActions(name, arm, by_role[role], manifest.tool_rotation(role))


def _base_columns(manifest: Manifest, robot: Robot) -> slice | None:
    """Where a row holds the base's velocity, which refers to nothing in any policy; None where it does not.

    Raises ContractError where the robot has no base.
    """
    driven = next((where for part, where in _columns(manifest) if part.signal == "base_velocity"), None)
    if driven is not None and robot.base is None:
        raise ContractError(
            f"policy '{manifest.name}' drives a base (base_velocity); robot '{robot.name}' has none"
        )
    return driven


def _columns(manifest: Manifest) -> Iterator[Part]:
    """The slices of a row with their columns."""
    start = 0
    for part in manifest.outputs.action:
        yield part, slice(start, start + part.size)
        start += part.size
