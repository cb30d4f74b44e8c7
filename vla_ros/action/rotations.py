"""Rotations on arrays: matrices, quaternions (xyzw), the forms in which policies speak, slerp and the mean.

Every function takes any leading axes. Matrices are float64 [..., 3, 3], quaternions unit float64 [..., 4].

The 6-D layouts (Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks"):
    columns              the first two columns, one after the other; identity is [1,0,0, 0,1,0]
    columns_interleaved  R[:, :2] in row-major order; identity is [1,0, 0,1, 0,0]
    rows                 the first two rows, one after the other; identity is [1,0,0, 0,1,0]

The forms, by the name that a manifest gives them: `rot6d_columns`, `rot6d_columns_interleaved`, `rot6d_rows`,
`axis_angle` (unit axis times the angle in rad), `quaternion_xyzw`, `quaternion_wxyz`, and `euler_<order>`
(`vla_ros.action.euler`), as in `euler_xyz` and `euler_ZYX`.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.euler import ORDERS, euler_to_matrix, quaternion_to_euler
from vla_ros.errors import Refused
from vla_ros.types import FloatArray

ROTATION_SIZES = {
    "rot6d_columns": 6,
    "rot6d_columns_interleaved": 6,
    "rot6d_rows": 6,
    "axis_angle": 3,
    "quaternion_xyzw": 4,
    "quaternion_wxyz": 4,
    **{f"euler_{order}": 3 for order in ORDERS},
}
Rot6dLayout = Literal["columns", "columns_interleaved", "rows"]

# Shorter than this, or closer to parallel, and the two vectors say nothing about a rotation.
DEGENERATE = 1e-6
# Below this angle between quaternions the slerp weights are 0/0; linear is exact to rounding there.
NEARLY_EQUAL = 1e-8
# Smaller than this, in rad, a turn may be forgotten.
NO_TURN = 1e-12


def rotation_size(rotation: str) -> int:
    """How many values a form has. Raises ValueError for one that does not exist."""
    if rotation not in ROTATION_SIZES:
        simple = [name for name in ROTATION_SIZES if not name.startswith("euler_")]
        raise ValueError(
            f"no rotation '{rotation}': expected {', '.join(simple)}, or euler_ and three axes: euler_xyz "
            f"for fixed axes, euler_XYZ for turned ones"
        )
    return ROTATION_SIZES[rotation]


def encode_rotation(matrices: ArrayLike, rotation: str) -> FloatArray:
    """[..., 3, 3] -> [..., n] in the form `rotation`.

    Of the values that mean the same, the ones nearest to zero: angles up to pi, quaternions with w >= 0; see
    `continuous` for a sequence. Raises ValueError for a form that does not exist.
    """
    rotation_size(rotation)
    if rotation.startswith("rot6d_"):
        return matrix_to_rot6d(matrices, _layout(rotation))
    q = matrix_to_quaternion(matrices)
    if rotation == "quaternion_xyzw":
        return q
    if rotation == "quaternion_wxyz":
        return np.roll(q, 1, axis=-1)
    if rotation == "axis_angle":
        return quaternion_to_axis_angle(q)
    return quaternion_to_euler(q, rotation.removeprefix("euler_"))


def decode_rotation(values: ArrayLike, rotation: str) -> FloatArray:
    """[..., n] in the form `rotation` -> [..., 3, 3].

    rot6d and quaternions need not be of unit length. Raises Refused("rotation") for values that are none, and
    ValueError for a form that does not exist.
    """
    rotation_size(rotation)
    if rotation.startswith("rot6d_"):
        return rot6d_to_matrix(values, _layout(rotation))
    x = np.asarray(values, dtype=np.float64)
    if not rotation.startswith("quaternion_") and not np.isfinite(x).all():
        raise Refused("rotation", f"{rotation}: a value is not a finite number")
    if rotation == "quaternion_xyzw":
        return quaternion_to_matrix(x)
    if rotation == "quaternion_wxyz":
        return quaternion_to_matrix(np.roll(x, -1, axis=-1))
    if rotation == "axis_angle":
        return quaternion_to_matrix(axis_angle_to_quaternion(x))
    return euler_to_matrix(x, rotation.removeprefix("euler_"))


def continuous(values: ArrayLike, rotation: str) -> FloatArray:
    """Rows [H, n] in the form `rotation` that mean the same and do not jump: each as near as it can be to the
    one before, the first as it is.

    A rotation vector of pi jumps to the opposite one where its angle passes pi, an Euler angle by 2 pi, a
    quaternion's signs where w passes 0. Whole turns are added and signs are turned; rot6d has no jumps.
    """
    out = np.array(values, dtype=np.float64)
    if rotation.startswith("euler_"):
        return np.asarray(np.unwrap(out, axis=0))
    if rotation.startswith("quaternion_"):
        turned = np.sign((out[1:] * out[:-1]).sum(axis=1))
        out[1:] *= np.cumprod(np.where(turned < 0, -1.0, 1.0))[:, None]
    elif rotation == "axis_angle":
        for before, row in itertools.pairwise(out):
            angle = math.hypot(*row)
            # No turn has no axis of its own: it may be a whole turn about that of the row before.
            axis = row / angle if angle > NO_TURN else before / max(math.hypot(*before), NO_TURN)
            row += axis * (2 * math.pi * round((axis @ before - axis @ row) / (2 * math.pi)))
    return out


def quaternion_to_axis_angle(quaternions: ArrayLike) -> FloatArray:
    """Unit xyzw [..., 4] -> axis times angle [..., 3] in rad, at most pi; exact for small ones too."""
    q = np.asarray(quaternions, dtype=np.float64)
    q = np.where(q[..., 3:] < 0, -q, q)
    sine = _length(q[..., :3])[..., None]
    small = sine < NEARLY_EQUAL
    ratio = np.where(small, 2.0, 2.0 * np.arctan2(sine, q[..., 3:]) / np.where(small, 1.0, sine))
    return np.asarray(q[..., :3] * ratio)


def axis_angle_to_quaternion(vectors: ArrayLike) -> FloatArray:
    """Axis times angle [..., 3] in rad -> unit xyzw [..., 4]."""
    v = np.asarray(vectors, dtype=np.float64)
    half = _length(v)[..., None] / 2.0
    return np.concatenate([v * (0.5 * np.sinc(half / np.pi)), np.cos(half)], axis=-1)


def _layout(rotation: str) -> Rot6dLayout:
    return rotation.removeprefix("rot6d_")  # type: ignore[return-value]


def matrix_to_rot6d(matrices: ArrayLike, layout: Rot6dLayout) -> FloatArray:
    """[..., 3, 3] -> [..., 6] in `layout`."""
    R = np.asarray(matrices, dtype=np.float64)
    lead = R.shape[:-2]
    if layout == "columns":
        return np.swapaxes(R[..., :2], -1, -2).reshape(*lead, 6)
    if layout == "columns_interleaved":
        return R[..., :2].reshape(*lead, 6)
    if layout == "rows":
        return R[..., :2, :].reshape(*lead, 6)
    raise ValueError(f"unknown rot6d layout {layout!r}")


def rot6d_to_matrix(values: ArrayLike, layout: Rot6dLayout) -> FloatArray:
    """[..., 6] in `layout` -> [..., 3, 3] by Gram-Schmidt; the input need not be orthonormal.

    Raises Refused("rotation") where the two vectors vanish or are parallel.
    """
    x = np.asarray(values, dtype=np.float64)
    # Entry by entry over all rows at once: the loops of numpy are over the last axis.
    entries = np.ascontiguousarray(x.reshape(-1, 6).T)
    if layout == "columns_interleaved":
        ax, bx, ay, by, az, bz = entries
    elif layout in ("columns", "rows"):
        ax, ay, az, bx, by, bz = entries
    else:
        raise ValueError(f"unknown rot6d layout {layout!r}")
    length, length2 = np.sqrt(ax * ax + ay * ay + az * az), np.sqrt(bx * bx + by * by + bz * bz)
    if not ((length > DEGENERATE) & (length2 > DEGENERATE)).all():
        raise Refused("rotation", f"rot6d ({layout}): a vector is zero or not a number")
    ax, ay, az = ax / length, ay / length, az / length
    along = ax * bx + ay * by + az * bz
    bx, by, bz = bx - along * ax, by - along * ay, bz - along * az
    across = np.sqrt(bx * bx + by * by + bz * bz)
    if not (across > DEGENERATE * length2).all():
        raise Refused("rotation", f"rot6d ({layout}): the two vectors are parallel")
    bx, by, bz = bx / across, by / across, bz / across
    columns = np.array([ax, bx, ay * bz - az * by, ay, by, az * bx - ax * bz, az, bz, ax * by - ay * bx])
    matrices = columns.T.reshape(*x.shape[:-1], 3, 3)
    return np.swapaxes(matrices, -1, -2) if layout == "rows" else matrices


def matrix_to_quaternion(matrices: ArrayLike) -> FloatArray:
    """[..., 3, 3] -> xyzw [..., 4] with w >= 0.

    Each of the four components is recovered from the largest, so that it is accurate near a half turn
    (Shepperd 1978).
    """
    R = np.asarray(matrices, dtype=np.float64)
    if R.ndim == 2:
        return _quaternion_of_one(R)
    # Entry by entry over all matrices at once: the loops of numpy are over the last axis.
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = np.ascontiguousarray(R.reshape(-1, 9).T)
    # Row i is 4 q_i times the quaternion.
    rows = np.empty((4, 4, len(m00)))
    np.subtract(m21, m12, out=rows[0, 3])
    np.subtract(m02, m20, out=rows[1, 3])
    np.subtract(m10, m01, out=rows[2, 3])
    np.add(m10, m01, out=rows[0, 1])
    np.add(m20, m02, out=rows[0, 2])
    np.add(m21, m12, out=rows[1, 2])
    rows[3, :3] = rows[:3, 3]
    rows[1, 0], rows[2, 0], rows[2, 1] = rows[0, 1], rows[0, 2], rows[1, 2]
    less, more, difference, total = 1 - m22, 1 + m22, m00 - m11, m00 + m11
    np.add(less, difference, out=rows[0, 0])
    np.subtract(less, difference, out=rows[1, 1])
    np.subtract(more, total, out=rows[2, 2])
    np.add(more, total, out=rows[3, 3])
    best = rows.reshape(16, -1)[::5].argmax(axis=0)
    q = rows[best, :, np.arange(len(m00))]
    q /= np.copysign(_length(q), q[:, 3])[:, None]
    return np.asarray(q.reshape(*R.shape[:-2], 4))


def _quaternion_of_one(R: FloatArray) -> FloatArray:
    """`matrix_to_quaternion` of one matrix, in plain numbers: a control tick makes several."""
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = R.ravel().tolist()
    x, y, z = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m10 + m01, m20 + m02, m21 + m12
    rows = (
        (1 + m00 - m11 - m22, xy, xz, x),
        (xy, 1 - m00 + m11 - m22, yz, y),
        (xz, yz, 1 - m00 - m11 + m22, z),
        (x, y, z, 1 + m00 + m11 + m22),
    )
    row = max(range(4), key=lambda index: rows[index][index])
    length = math.hypot(*rows[row])
    return np.array(rows[row]) / (math.copysign(length, rows[row][3]) if rows[row][3] else length)


def quaternion_to_matrix(quaternions: ArrayLike) -> FloatArray:
    """xyzw [..., 4] -> [..., 3, 3]. The input is normalised first.

    Raises Refused("rotation") for a quaternion of no length.
    """
    q = unit(quaternions)
    # Entry by entry over all rows at once: the loops of numpy are over the last axis.
    x, y, z, w = q.tolist() if q.ndim == 1 else np.ascontiguousarray(q.reshape(-1, 4).T)
    x2, y2, z2 = 2 * x, 2 * y, 2 * z
    xx, yy, zz = x * x2, y * y2, z * z2
    xy, xz, yz = x * y2, x * z2, y * z2
    xw, yw, zw = w * x2, w * y2, w * z2
    entries = [
        1 - (yy + zz),
        xy - zw,
        xz + yw,
        xy + zw,
        1 - (xx + zz),
        yz - xw,
        xz - yw,
        yz + xw,
        1 - (xx + yy),
    ]
    return np.array(entries).T.reshape(*q.shape[:-1], 3, 3)


def unit(quaternions: ArrayLike) -> FloatArray:
    """Quaternions [..., 4] at unit length. Raises Refused("rotation") where there is no length."""
    q = np.asarray(quaternions, dtype=np.float64)
    if q.ndim == 1:
        norm = math.hypot(*q.tolist())
        if not norm > DEGENERATE:
            raise Refused("rotation", "a quaternion has no length or is not a number")
        return q / norm
    length = _length(q)[..., None]
    if not (length > DEGENERATE).all():
        raise Refused("rotation", "a quaternion has no length or is not a number")
    return q / length


def angle_between(first: ArrayLike, second: ArrayLike) -> FloatArray:
    """Angle in rad, in [0, pi], between unit quaternions [..., 4]; the sign of a quaternion is no matter.

    By atan2 of the chord, which keeps its accuracy at small angles where acos of the dot product does not.
    """
    p, q = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if p.ndim == 1 and q.ndim == 1:
        chords = sorted((math.hypot(*(p - q).tolist()), math.hypot(*(p + q).tolist())))
        return np.float64(4.0 * math.atan2(*chords))  # type: ignore[return-value]
    apart, together = _length(p - q), _length(p + q)
    # The nearer of q and -q.
    return 4.0 * np.arctan2(np.minimum(apart, together), np.maximum(apart, together))


def slerp(first: ArrayLike, second: ArrayLike, fraction: ArrayLike) -> FloatArray:
    """Unit quaternions [..., 4] at `fraction` [...] of the shorter way from `first` to `second`."""
    p, q = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if p.ndim == 1 and q.ndim == 1 and np.ndim(fraction) == 0:
        return _slerp_one(p, q, float(np.asarray(fraction)))
    f = np.asarray(fraction, dtype=np.float64)[..., None]
    q = np.where((p * q).sum(axis=-1, keepdims=True) < 0, -q, q)
    theta = angle_between(p, q)[..., None] / 2.0
    straight = theta < NEARLY_EQUAL
    sine = np.sin(np.where(straight, 1.0, theta))
    from_first = np.where(straight, 1.0 - f, np.sin((1.0 - f) * theta) / sine)
    from_second = np.where(straight, f, np.sin(f * theta) / sine)
    out = from_first * p + from_second * q
    return out / _length(out)[..., None]


def _slerp_one(p: FloatArray, q: FloatArray, fraction: float) -> FloatArray:
    """`slerp` of one pair, in plain numbers: a control tick makes several, and numpy costs per call."""
    cosine = float(p @ q)
    if cosine < 0:
        q, cosine = -q, -cosine
    apart, together = p - q, p + q
    theta = 2.0 * math.atan2(math.sqrt(apart @ apart), math.sqrt(together @ together))
    if theta < NEARLY_EQUAL:
        out = (1.0 - fraction) * p + fraction * q
    else:
        sine = math.sin(theta)
        out = math.sin((1.0 - fraction) * theta) / sine * p + math.sin(fraction * theta) / sine * q
    return np.asarray(out / math.sqrt(out @ out))


def _length(vectors: FloatArray) -> FloatArray:
    """Euclidean length over the last axis [...], at a third of np.linalg.norm's cost for few vectors."""
    return np.asarray(np.sqrt(np.einsum("...i,...i->...", vectors, vectors)))


def mean(quaternions: ArrayLike, weights: ArrayLike) -> FloatArray:
    """The weighted mean rotation [4] of unit quaternions [N, 4] with weights [N] >= 0, w >= 0.

    The eigenvector of the largest eigenvalue of sum w_i q_i q_i^T (Markley et al. 2007, "Averaging
    Quaternions"): signs do not matter, and there is no seam at pi as there is in averaging angles.
    """
    q = np.asarray(quaternions, dtype=np.float64)
    if len(q) == 1:
        return np.where(q[0, 3] < 0, -q[0], q[0])
    w = np.asarray(weights, dtype=np.float64)
    _, vectors = np.linalg.eigh((q * w[:, None]).T @ q)
    best = vectors[:, -1]
    return -best if best[3] < 0 else best
