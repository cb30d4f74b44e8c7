"""Euler angles in all 24 orders, in rad.

An order is three of x, y, z with no neighbours alike. Lower case turns about the fixed axes (extrinsic),
upper case about the axes as they have been turned so far (intrinsic), as in scipy: for the angles [a, b, c],
"xyz" is Rz(c) Ry(b) Rx(a) and "XYZ" is Rx(a) Ry(b) Rz(c).
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.types import FloatArray

ORDERS = tuple(
    "".join(axes)
    for letters in ("xyz", "XYZ")
    for axes in itertools.product(letters, repeat=3)
    if axes[0] != axes[1] != axes[2]
)
# Nearer to the lock than this, the first and the third axis are one and only the sum of their angles counts.
LOCK = 1e-10


def euler_to_matrix(angles: ArrayLike, order: str) -> FloatArray:
    """[..., 3] rad -> [..., 3, 3]."""
    x = np.asarray(angles, dtype=np.float64)
    cosine, sine = np.cos(x), np.sin(x)
    turns = [_turn(axis, cosine[..., index], sine[..., index]) for index, axis in enumerate(order.lower())]
    first, second, third = turns if order.isupper() else reversed(turns)
    return np.asarray(first @ second @ third)


def quaternion_to_euler(quaternions: ArrayLike, order: str) -> FloatArray:
    """Unit xyzw [..., 4] -> [..., 3] rad.

    First and third lie in [-pi, pi]; the second in [-pi/2, pi/2], or in [0, pi] where the first axis is also
    the third. At the lock the third is 0. Bernardes and Viollet 2022, "Quaternion to Euler angles conversion:
    A direct, general and computationally efficient method", which scipy uses too.
    """
    q = np.moveaxis(np.asarray(quaternions, dtype=np.float64), -1, 0)
    extrinsic = order.islower()
    i, j, k = ("xyz".index(axis) for axis in (order if extrinsic else order.lower()[::-1]))
    symmetric = i == k
    if symmetric:
        k = 3 - i - j
    sign = (i - j) * (j - k) * (k - i) // 2
    if symmetric:
        a, b, c, d = q[3], q[i], q[j], q[k] * sign
    else:
        a, b, c, d = q[3] - q[j], q[i] + q[k] * sign, q[j] + q[3], q[k] * sign - q[i]
    half_sum, half_difference = np.arctan2(b, a), np.arctan2(d, c)
    middle = 2.0 * np.arctan2(np.hypot(c, d), np.hypot(a, b))
    flat, over = middle <= LOCK, np.pi - middle <= LOCK
    first, third = half_sum - half_difference, half_sum + half_difference
    if not extrinsic:
        first, third = third, first
    lock = np.where(flat, 2.0 * half_sum, (-2.0 if extrinsic else 2.0) * half_difference)
    first, third = np.where(flat | over, lock, first), np.where(flat | over, 0.0, third)
    if not symmetric:
        if extrinsic:
            third = third * sign
        else:
            first = first * sign
        middle = middle - np.pi / 2
    angles = np.stack([first, middle, third], axis=-1)
    return np.where(angles > np.pi, angles - 2 * np.pi, np.where(angles < -np.pi, angles + 2 * np.pi, angles))


def _turn(axis: str, cosine: FloatArray, sine: FloatArray) -> FloatArray:
    """The matrix [..., 3, 3] of a turn about one axis."""
    index = "xyz".index(axis)
    out = np.zeros((*np.shape(cosine), 3, 3))
    one, two = (index + 1) % 3, (index + 2) % 3
    out[..., index, index] = 1.0
    out[..., one, one] = out[..., two, two] = cosine
    out[..., one, two], out[..., two, one] = -sine, sine
    return out
