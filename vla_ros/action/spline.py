"""The cubic spline through a chunk's rows.

Chunks of one policy have the same spacing, so that the linear map from rows to slopes is solved once; then a
chunk costs a product of matrices. (scipy's CubicSpline takes 0.15 ms for each, and 49 MB to import.)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray


def cubic_pieces(due_ns: NDArray[np.int64], rows: FloatArray) -> FloatArray:
    """Coefficients [H - 1, 4, C] of the not-a-knot cubic spline through rows [H, C], highest power first, of
    the time in s since each row was due. due_ns: int64 [H], increasing. H is at least 2; of two rows it is a
    line, of three a parabola."""
    since = np.ascontiguousarray(due_ns - due_ns[0])
    slopes = _slopes(since.tobytes()) @ rows
    h = (np.diff(since) / 1e9)[:, None]
    rise = np.diff(rows, axis=0) / h
    bend = (slopes[:-1] + slopes[1:] - 2.0 * rise) / h
    pieces = np.empty((len(h), 4, rows.shape[1]))
    pieces[:, 0] = bend / h
    pieces[:, 1] = (rise - slopes[:-1]) / h - bend
    pieces[:, 2] = slopes[:-1]
    pieces[:, 3] = rows[:-1]
    return pieces


@lru_cache(maxsize=16)
def _slopes(since: bytes) -> FloatArray:
    """The matrix [H, H] from rows to the spline's slopes at the rows, 1/s (de Boor 1978, chapter IV).

    since: bytes of int64 [H], ns since the first row.
    """
    x = np.frombuffer(since, dtype=np.int64) / 1e9
    n = len(x)
    h = np.diff(x)
    rises = np.zeros((n - 1, n))  # from rows to rises
    index = np.arange(n - 1)
    rises[index, index], rises[index, index + 1] = -1.0 / h, 1.0 / h
    if n == 2:
        return np.vstack([rises, rises])
    # One tridiagonal system: `lower`, `diagonal` and `upper` of the slopes, `right` of the rises.
    lower, diagonal, upper, right = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, n - 1))
    inner = np.arange(1, n - 1)
    lower[inner], diagonal[inner], upper[inner] = h[1:], 2.0 * (h[:-1] + h[1:]), h[:-1]
    right[inner, inner - 1], right[inner, inner] = 3.0 * h[1:], 3.0 * h[:-1]
    if n == 3:
        diagonal[[0, 2]] = upper[0] = lower[2] = 1.0
        right[0, 0] = right[2, 1] = 2.0
    else:
        diagonal[0], upper[0] = h[1], h[0] + h[1]
        right[0, :2] = (3.0 * h[0] + 2.0 * h[1]) * h[1] / (h[0] + h[1]), h[0] ** 2 / (h[0] + h[1])
        lower[-1], diagonal[-1] = h[-1] + h[-2], h[-2]
        right[-1, -2:] = h[-1] ** 2 / (h[-1] + h[-2]), (3.0 * h[-1] + 2.0 * h[-2]) * h[-2] / (h[-1] + h[-2])
    slopes = right @ rises
    # Row by row (Thomas' algorithm), because a general solver wakes up all of its threads: 100 ms on a busy
    # machine, in the thread that commands.
    for i in range(1, n):
        factor = lower[i] / diagonal[i - 1]
        diagonal[i] -= factor * upper[i - 1]
        slopes[i] -= factor * slopes[i - 1]
    slopes[-1] /= diagonal[-1]
    for i in range(n - 2, -1, -1):
        slopes[i] = (slopes[i] - upper[i] * slopes[i + 1]) / diagonal[i]
    return slopes
