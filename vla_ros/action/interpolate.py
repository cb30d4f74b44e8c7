"""A chunk's targets between its rows: linear, slerp for orientation, hold for binary grippers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.action.rotations import slerp
from vla_ros.types import FloatArray


def rows_around(due_ns: NDArray[np.int64], time_ns: int) -> tuple[int, float] | None:
    """(row, fraction in [0, 1)) such that `time_ns` lies `fraction` of the way from row to row + 1.

    At the last due time the answer is (last row, 0). None before the first due time and after the last:
    nothing is extrapolated.
    """
    if time_ns < due_ns[0] or time_ns > due_ns[-1]:
        return None
    row = int(due_ns.searchsorted(time_ns, side="right")) - 1
    if row == len(due_ns) - 1:
        return row, 0.0
    return row, float(time_ns - due_ns[row]) / float(due_ns[row + 1] - due_ns[row])


def interpolate(
    targets: FloatArray,
    row: int,
    fraction: float,
    orientations: tuple[slice, ...],
    held: NDArray[np.intp],
) -> FloatArray:
    """Targets [C] between two rows of `targets` [H, C].

    orientations: columns of unit quaternions xyzw, turned the shorter way. held: columns that keep the
    earlier row's value until the later one is due.
    """
    if fraction == 0.0:
        return targets[row].copy()
    return blend(targets[row], targets[row + 1], fraction, orientations, held)


def blend(
    first: FloatArray,
    second: FloatArray,
    fraction: ArrayLike,
    orientations: tuple[slice, ...],
    held: NDArray[np.intp],
) -> FloatArray:
    """Rows [..., C] that lie `fraction` [...] of the way from `first` to `second`, as `interpolate` says."""
    share = np.asarray(fraction, dtype=np.float64)
    out = first + share[..., None] * (second - first)
    for columns in orientations:
        out[..., columns] = slerp(first[..., columns], second[..., columns], share)
    out[..., held] = first[..., held]
    return np.asarray(out, dtype=np.float64)
