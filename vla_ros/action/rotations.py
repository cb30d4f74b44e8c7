"""Rotations on arrays: matrices, quaternions (xyzw), the three 6-D layouts, slerp and the mean.

Every function takes any leading axes. Matrices are float64 [..., 3, 3], quaternions unit float64 [..., 4].

The 6-D layouts (Zhou et al. 2019, "On the Continuity of Rotation Representations in Neural Networks"):
    columns              the first two columns, one after the other; identity is [1,0,0, 0,1,0]
    columns_interleaved  R[:, :2] in row-major order; identity is [1,0, 0,1, 0,0]
    rows                 the first two rows, one after the other; identity is [1,0,0, 0,1,0]
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import Refused
from vla_ros.types import FloatArray

Rot6dLayout = Literal["columns", "columns_interleaved", "rows"]

# Shorter than this, or closer to parallel, and the two vectors say nothing about a rotation.
DEGENERATE = 1e-6
# Below this angle between quaternions the slerp weights are 0/0; linear is exact to rounding there.
NEARLY_EQUAL = 1e-8


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
    lead = x.shape[:-1]
    if layout == "columns_interleaved":
        pair = np.swapaxes(x.reshape(*lead, 3, 2), -1, -2)
    elif layout in ("columns", "rows"):
        pair = x.reshape(*lead, 2, 3)
    else:
        raise ValueError(f"unknown rot6d layout {layout!r}")
    first, second = pair[..., 0, :], pair[..., 1, :]
    length, length2 = _length(first)[..., None], _length(second)[..., None]
    if not np.all((length > DEGENERATE) & (length2 > DEGENERATE)):
        raise Refused("rotation", f"rot6d ({layout}): a vector is zero or not a number")
    a = first / length
    rest = second - (a * second).sum(axis=-1, keepdims=True) * a
    across = _length(rest)[..., None]
    if not np.all(across > DEGENERATE * length2):
        raise Refused("rotation", f"rot6d ({layout}): the two vectors are parallel")
    b = rest / across
    normal = a[..., [1, 2, 0]] * b[..., [2, 0, 1]] - a[..., [2, 0, 1]] * b[..., [1, 2, 0]]
    vectors = np.stack([a, b, normal], axis=-2)
    return vectors if layout == "rows" else np.swapaxes(vectors, -1, -2)


def matrix_to_quaternion(matrices: ArrayLike) -> FloatArray:
    """[..., 3, 3] -> xyzw [..., 4] with w >= 0.

    Each of the four components is recovered from the largest, so that it is accurate near a half turn
    (Shepperd 1978).
    """
    R = np.asarray(matrices, dtype=np.float64)
    # Entry by entry: plain numbers for one matrix, arrays over the leading axes for many.
    entries = R.ravel().tolist() if R.ndim == 2 else np.moveaxis(R.reshape(*R.shape[:-2], 9), -1, 0)
    m00, m01, m02, m10, m11, m12, m20, m21, m22 = entries
    x, y, z = m21 - m12, m02 - m20, m10 - m01
    xy, xz, yz = m10 + m01, m20 + m02, m21 + m12
    # Row i is 4 q_i times the quaternion.
    rows = (
        (1 + m00 - m11 - m22, xy, xz, x),
        (xy, 1 - m00 + m11 - m22, yz, y),
        (xz, yz, 1 - m00 - m11 + m22, z),
        (x, y, z, 1 + m00 + m11 + m22),
    )
    if R.ndim == 2:
        row = max(range(4), key=lambda index: rows[index][index])
        length = math.hypot(*rows[row])
        return np.array(rows[row]) / (math.copysign(length, rows[row][3]) if rows[row][3] else length)
    best = np.array([rows[index][index] for index in range(4)]).argmax(axis=0)
    alike = int(best.flat[0]) if best.size else 0
    if (best == alike).all():
        q = np.stack(rows[alike], axis=-1)
    else:
        outer = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
        q = np.take_along_axis(outer, best[..., None, None], axis=-2)[..., 0, :]
    q /= _length(q)[..., None]
    return np.where(q[..., 3:] < 0, -q, q)


def quaternion_to_matrix(quaternions: ArrayLike) -> FloatArray:
    """xyzw [..., 4] -> [..., 3, 3]. The input is normalised first.

    Raises Refused("rotation") for a quaternion of no length.
    """
    q = unit(quaternions)
    x, y, z, w = q.tolist() if q.ndim == 1 else np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows) if q.ndim == 1 else np.moveaxis(np.array(rows), (0, 1), (-2, -1))


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
