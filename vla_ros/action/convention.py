"""One arm's slices of an action row: from a policy's convention to channels of the robot, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action import references
from vla_ros.action.grippers import gripper_from_width, gripper_is_open, gripper_to_width
from vla_ros.action.last_targets import Asked
from vla_ros.action.references import Pose
from vla_ros.action.rotations import (
    continuous,
    decode_rotation,
    encode_rotation,
    matrix_to_quaternion,
    quaternion_to_matrix,
)
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Arm
from vla_ros.types import FloatArray

# A slice with its columns in the action row.
Part = tuple[ActionSlice, slice]


@dataclass(frozen=True)
class Origins:
    """What relative actions refer to.

    state: measured at the observation's time, groups as in `Observation.state`. asked: the targets in force
    before the first row, None where there are none. step_s: the policy's time between rows. speed: how fast
    the policy is played, relative to its training (`due_times`).
    """

    state: Mapping[str, ArrayLike]
    asked: Asked | None
    step_s: float
    speed: float = 1.0

    def measured(self, group: str) -> FloatArray:
        """One group of the state. Raises Refused("incomplete") where it was not observed."""
        if group not in self.state:
            raise Refused("incomplete", f"the observation holds no {group} to act relative to")
        return np.asarray(self.state[group], dtype=np.float64)

    def last_target(self, channels: tuple[str, ...], start: FloatArray) -> FloatArray:
        """What was asked for last on `channels`; `start`, their measured values, where nothing was."""
        asked = None if self.asked is None else self.asked.vector(channels)
        return start if asked is None else asked


@dataclass(frozen=True)
class ArmActions:
    """What a policy asks of one arm. name, arm: the robot's. parts: {signal: slice with its columns}.
    tool_rotation: [3, 3], the policy's tool axes in the robot's tool frame (`Manifest.tool_rotations`)."""

    name: str
    arm: Arm
    parts: Mapping[str, Part]
    tool_rotation: FloatArray

    @property
    def moves_tool(self) -> bool:
        """Whether it is told where its tool has to be."""
        return "tcp_position" in self.parts or "tcp_rotation" in self.parts

    def targets(
        self, values: FloatArray, tool: FloatArray | None, origins: Origins
    ) -> Iterator[tuple[tuple[str, ...], FloatArray]]:
        """(channels, absolute targets [H, n]) of rows of SI values [H, K]; the gripper's come last.

        tool: this arm's `tool_targets` [H, 7].
        """
        parts = self.parts
        if tool is not None:
            yield tool_channels(self.name), tool
        for signal in ("joint_position", "joint_velocity"):
            if signal in parts:
                part, columns = parts[signal]
                yield self._joint_channels(part), self._joint_targets(part, values[:, columns], origins)
        if "gripper" in parts:
            part, columns = parts["gripper"]
            yield (gripper_channel(self.name),), self._widths(part, values[:, columns], origins)

    def write(
        self, targets: FloatArray, column: Mapping[str, int], origins: Origins, values: FloatArray
    ) -> None:
        """The inverse of `targets`: fill this arm's columns of `values` [H, K].

        targets: [H, C]; column: {channel: its column there}. Raises KeyError for a missing channel.
        """

        def of(channels: Sequence[str]) -> FloatArray:
            return targets[:, [column[name] for name in channels]]

        parts = self.parts
        if self.moves_tool:
            self._write_tool(of(tool_channels(self.name)), origins, values)
        for signal in ("joint_position", "joint_velocity"):
            if signal in parts:
                part, columns = parts[signal]
                values[:, columns] = self._joint_values(part, of(self._joint_channels(part)), origins)
        if "gripper" in parts:
            part, columns = parts["gripper"]
            assert part.gripper is not None
            ends, widths = self._ends(), of((gripper_channel(self.name),))
            if part.gripper.binary is not None:
                widths = np.where(widths >= sum(ends) / 2, ends[1], ends[0])
            values[:, columns] = gripper_from_width(widths, part.gripper, ends)

    # --- tool -----------------------------------------------------------------------------------------

    def _poses_of(
        self, turns: FloatArray, values: FloatArray, origins: Origins
    ) -> tuple[FloatArray, FloatArray]:
        """Absolute (positions [H, 3], rotations [H, 3, 3]). turns: the rotation slice as matrices."""
        (position, place), (rotation, _) = self._tool_parts()
        for_position, for_rotation = self._tool_origins(origins)
        # In the policy's tool axes until the end.
        rotations = references.to_rotations(turns, _reference(rotation), *for_rotation)
        positions = references.to_positions(values[:, place], _reference(position), rotations, *for_position)
        return positions, rotations @ self.tool_rotation.T

    def _write_tool(self, targets: FloatArray, origins: Origins, values: FloatArray) -> None:
        (position, place), (rotation, turn) = self._tool_parts()
        assert rotation.rotation is not None
        for_position, for_rotation = self._tool_origins(origins)
        positions, rotations = targets[:, :3], quaternion_to_matrix(targets[:, 3:]) @ self.tool_rotation
        values[:, place] = references.from_positions(
            positions, _reference(position), rotations, *for_position
        )
        turns = references.from_rotations(rotations, _reference(rotation), *for_rotation)
        values[:, turn] = continuous(encode_rotation(turns, rotation.rotation), rotation.rotation)

    def _tool_parts(self) -> tuple[Part, Part]:
        if not {"tcp_position", "tcp_rotation"} <= self.parts.keys():
            raise ContractError(
                f"policy: arm '{self.name}' needs both tcp_position and tcp_rotation, or neither"
            )
        return self.parts["tcp_position"], self.parts["tcp_rotation"]

    def _tool_origins(self, origins: Origins) -> tuple[tuple[Pose, Pose], tuple[Pose, Pose]]:
        """(T_0, T_b) of the position and of the rotation, with the policy's tool axes.

        T_0 is the last target for what is relative to that.
        """
        parts = [part for part, _ in self._tool_parts()]
        if all(part.reference == "absolute" for part in parts):
            nowhere = Pose(np.zeros(3), np.eye(3))
            return (nowhere, nowhere), (nowhere, nowhere)
        measured = origins.measured(f"{self.name}/tcp_pose")
        start = base = self._pose(measured)
        if any(part.from_last_target for part in parts):
            last = origins.last_target(tool_channels(self.name), measured)
            base = start if last is measured else self._pose(last)
        position, rotation = (
            (start, start) if not part.from_last_target else (start, base) if part.is_delta else (base, base)
            for part in parts
        )
        return position, rotation

    def _pose(self, vector: FloatArray) -> Pose:
        """A pose [7] with the policy's tool axes."""
        return Pose(vector[:3], quaternion_to_matrix(vector[3:]) @ self.tool_rotation)

    # --- joints ---------------------------------------------------------------------------------------

    def _joint_channels(self, part: ActionSlice) -> tuple[str, ...]:
        if part.size != len(self.arm.joints):
            raise ContractError(
                f"policy: {part.signal} of arm '{part.arm}' has {part.size} values; the robot's arm "
                f"'{self.name}' has {len(self.arm.joints)} joints"
            )
        return joint_channels(self.name, part.size)

    def _joint_origins(self, part: ActionSlice, origins: Origins) -> tuple[FloatArray, FloatArray]:
        """(measured, what the first delta is from) [J], rad."""
        if part.reference == "absolute":
            return np.zeros(part.size), np.zeros(part.size)
        start = origins.measured(f"{self.name}/joint_position")
        if part.from_last_target:
            start = origins.last_target(joint_channels(self.name, part.size), start)
        return start, start

    def _joint_targets(self, part: ActionSlice, values: FloatArray, origins: Origins) -> FloatArray:
        start, base = self._joint_origins(part, origins)
        signed = values * np.array(part.signs or 1)
        if part.signal == "joint_velocity":
            return references.to_joints(signed * origins.step_s, "delta", start, base, _mask(part))
        return references.to_joints(signed, _reference(part), start, base, _mask(part))

    def _joint_values(self, part: ActionSlice, targets: FloatArray, origins: Origins) -> FloatArray:
        start, base = self._joint_origins(part, origins)
        if part.signal == "joint_velocity":
            values = references.from_joints(targets, "delta", start, base, _mask(part)) / origins.step_s
        else:
            values = references.from_joints(targets, _reference(part), start, base, _mask(part))
        return values * np.array(part.signs or 1)

    # --- gripper --------------------------------------------------------------------------------------

    def _widths(self, part: ActionSlice, values: FloatArray, origins: Origins) -> FloatArray:
        """[H, 1], m."""
        rule, ends = part.gripper, self._ends()
        assert rule is not None
        if rule.binary is None:
            return gripper_to_width(values, rule, ends)
        was_open = rows = None
        channel = gripper_channel(self.name)
        if origins.asked is not None and channel in origins.asked.targets:
            was_open = origins.asked.targets[channel] >= sum(ends) / 2
            rows = origins.asked.gripper_rows.get(channel)
        is_open = gripper_is_open(values[:, 0], rule, was_open, rows)
        return np.where(is_open, ends[1], ends[0])[:, None]

    def _ends(self) -> tuple[float, float]:
        """The width in m when closed and when open."""
        if self.arm.gripper is None:
            raise ContractError(f"policy: moves a gripper, but the robot's arm '{self.name}' declares none")
        return self.arm.gripper.width


def tool_targets(
    everyone: Sequence[ArmActions], values: FloatArray, origins: Origins
) -> dict[str, FloatArray]:
    """{robot arm name: [H, 7] x y z and quaternion xyzw} of the arms whose tool is moved.

    All arms at once where it can be: numpy costs per call.
    """
    by_form: dict[str, list[ArmActions]] = {}
    for one in everyone:
        if one.moves_tool:
            by_form.setdefault(str(one._tool_parts()[1][0].rotation), []).append(one)
    poses: dict[str, tuple[FloatArray, FloatArray]] = {}
    for form, alike in by_form.items():
        turns = decode_rotation(np.stack([values[:, one.parts["tcp_rotation"][1]] for one in alike]), form)
        for one, turn in zip(alike, turns, strict=True):
            poses[one.name] = one._poses_of(turn, values, origins)
    if not poses:
        return {}
    quaternions = matrix_to_quaternion(np.stack([rotations for _, rotations in poses.values()]))
    return {
        name: np.concatenate([positions, quaternion], axis=1)
        for (name, (positions, _)), quaternion in zip(poses.items(), quaternions, strict=True)
    }


def _mask(part: ActionSlice) -> Any:
    return np.ones(part.size, dtype=bool) if part.mask is None else np.array(part.mask)


def _reference(part: ActionSlice) -> Any:
    """The slice's reference; that it fits its signal was checked when the manifest was read."""
    return part.reference
