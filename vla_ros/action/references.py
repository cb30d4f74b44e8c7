"""What an action refers to: values in a policy's convention to absolute targets, and back.

Tool poses are T = (p, R), positions in m and rotation matrices, in the arm's base frame. T_0 is the pose
measured at the observation's time (or the last target, where a policy declares that it refers to that), T_k
the target of row k (from 1 in these formulas), and T_b what the first delta is from: the measured pose or the
last target, as the policy declares. Position and rotation each have their own reference.

                   position                  rotation
    absolute       p_k                       R_k
    world_relative p_k - p_0                 R_k R_0^T
    world_delta    p_k - p_{k-1}             R_k R_{k-1}^T
    eef_relative   R_0^T (p_k - p_0)         R_0^T R_k
    eef_delta      R_{k-1}^T (p_k - p_{k-1}) R_{k-1}^T R_k
    bridge_delta   as world_delta, but the first row's turn is about the measured position p_0:
                   p_1 = p_0 + d_1 + R_1 R_b^T (p_b - p_0)

Sources: the four modes world/EEF, relative/delta are those of "Rethinking VLA Scaling", eq. 4 (EEF-relative
is T_0^-1 T_k, EEF-delta T_{k-1}^-1 T_k); world_relative positions with eef_relative rotations are GR00T-H's,
world_relative positions with absolute rotations are X-VLA's on the Google robot. bridge_delta is what
rail-berkeley/bridge_data_robot does, widowx_envs/widowx_envs/base/robot_base_env.py `_next_qpos` with
utils/transformation_utils.py `action2transform_local`: there each step is measured anew. Where the arm will
be at a chunk's later rows cannot be known when the chunk is decoded, so these turn about the target before
them: exact on an arm that has come to its targets, and else off by R l - l for a step's turn R and the lag l
(2 mm for 2 cm and 0.1 rad). Where only first rows are carried out (execute_steps: 1), all of it is exact.

Joints q, in rad: absolute q_k, relative q_k - q_0 (to the one measured state, where `mask` is true; openpi
src/openpi/transforms.py `DeltaActions`, lerobot), delta q_k - q_{k-1}, velocity (q_k - q_{k-1}) / dt.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

RotationReference = Literal["absolute", "world_relative", "world_delta", "eef_relative", "eef_delta"]
PositionReference = Literal[RotationReference, "bridge_delta"]
JointReference = Literal["absolute", "relative", "delta"]


class Pose(NamedTuple):
    """A tool pose: position [3] in m and rotation matrix [3, 3]."""

    position: FloatArray
    rotation: FloatArray


def to_rotations(values: FloatArray, reference: RotationReference, start: Pose, base: Pose) -> FloatArray:
    """Matrices [H, 3, 3] in `reference` as absolute ones. start: T_0; base: T_b."""
    if reference == "world_relative":
        return values @ start.rotation
    if reference == "eef_relative":
        return start.rotation @ values
    if reference == "world_delta":
        return _products(values, base.rotation, left=True)
    if reference == "eef_delta":
        return _products(values, base.rotation, left=False)
    return values


def from_rotations(
    rotations: FloatArray, reference: RotationReference, start: Pose, base: Pose
) -> FloatArray:
    """The inverse of `to_rotations`."""
    if reference == "world_relative":
        return rotations @ start.rotation.T
    if reference == "eef_relative":
        return start.rotation.T @ rotations
    if reference in ("world_delta", "eef_delta"):
        before = np.swapaxes(_before(rotations, base.rotation), -1, -2)
        return rotations @ before if reference == "world_delta" else before @ rotations
    return rotations


def to_positions(
    values: FloatArray, reference: PositionReference, rotations: FloatArray, start: Pose, base: Pose
) -> FloatArray:
    """Positions [H, 3] in `reference` as absolute ones.

    rotations: [H, 3, 3], the rows' absolute rotations. start: T_0; base: T_b.
    """
    if reference == "absolute":
        return values
    if reference == "world_relative":
        return start.position + values
    if reference == "eef_relative":
        return start.position + values @ start.rotation.T
    if reference == "eef_delta":
        values = np.einsum("hij,hj->hi", _before(rotations, base.rotation), values)
    out = base.position + np.cumsum(values, axis=0)
    return out + _bridge_shift(rotations, start, base) if reference == "bridge_delta" else out


def from_positions(
    positions: FloatArray, reference: PositionReference, rotations: FloatArray, start: Pose, base: Pose
) -> FloatArray:
    """The inverse of `to_positions`."""
    if reference == "absolute":
        return positions
    if reference == "world_relative":
        return positions - start.position
    if reference == "eef_relative":
        return (positions - start.position) @ start.rotation
    steps = np.diff(positions, axis=0, prepend=base.position[None])
    if reference == "eef_delta":
        return np.einsum("hji,hj->hi", _before(rotations, base.rotation), steps)
    if reference == "bridge_delta":
        steps[0] -= _bridge_shift(rotations, start, base)
    return steps


def to_joints(
    values: FloatArray,
    reference: JointReference,
    start: FloatArray,
    base: FloatArray,
    mask: NDArray[np.bool_],
) -> FloatArray:
    """Joint values [H, J] in `reference` as absolute positions in rad.

    start: measured [J]; base: what the first delta is from [J]; mask: bool [J], which joints are relative.
    """
    if reference == "relative":
        return values + np.where(mask, start, 0.0)
    return base + np.cumsum(values, axis=0) if reference == "delta" else values


def from_joints(
    positions: FloatArray,
    reference: JointReference,
    start: FloatArray,
    base: FloatArray,
    mask: NDArray[np.bool_],
) -> FloatArray:
    """The inverse of `to_joints`."""
    if reference == "relative":
        return positions - np.where(mask, start, 0.0)
    return np.diff(positions, axis=0, prepend=base[None]) if reference == "delta" else positions


def _before(rows: FloatArray, first: FloatArray) -> FloatArray:
    """Rows [H, ...] shifted by one, with `first` [...] before them."""
    return np.concatenate([first[None], rows[:-1]])


def _bridge_shift(rotations: FloatArray, start: Pose, base: Pose) -> FloatArray:
    """How far turning about the measured position instead of the last target's moves the first row [3]."""
    lag = base.position - start.position
    return np.asarray(rotations[0] @ (base.rotation.T @ lag) - lag)


def _products(matrices: FloatArray, first: FloatArray, left: bool) -> FloatArray:
    """Running products [H, 3, 3] after `first` F: F M_1 M_2 ... M_k, or with `left` M_k ... M_2 M_1 F.

    By doubling: log2(H) products of many matrices cost less than H of one.
    """
    out = matrices.copy()
    out[0] = out[0] @ first if left else first @ out[0]
    step = 1
    while step < len(out):
        earlier, later = out[:-step], out[step:]
        out[step:] = later @ earlier if left else earlier @ later
        step *= 2
    return out
