"""q01/q99 normalisation to [-1, 1], both ways (the rule of OpenVLA and RoboVLMs).

Only entries whose `mask` is true are scaled; the others pass through. Whether to clip is the bundle's
choice and never made here: projects differ, so it is an argument.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.types import FloatArray


class Quantiles(Protocol):
    """Statistics of one vector: q01, q99 float64 [N] with q01 < q99 where `mask` (bool [N]) is true."""

    @property
    def q01(self) -> FloatArray:
        """The 1 % quantile."""
        ...

    @property
    def q99(self) -> FloatArray:
        """The 99 % quantile."""
        ...

    @property
    def mask(self) -> NDArray[np.bool_]:
        """True where the value is scaled."""
        ...


def normalise(values: ArrayLike, statistics: Quantiles, clip: bool) -> FloatArray:
    """SI values [..., N] to normalised ones: 2 (x - q01) / (q99 - q01) - 1 where the mask is true.

    clip: limit the scaled entries to [-1, 1]. Raises ValueError when the last axis is not N wide.
    """
    x, low, span, mask = _prepared(values, statistics)
    scaled = 2.0 * (x - low) / span - 1.0
    if clip:
        scaled = np.clip(scaled, -1.0, 1.0)
    return np.where(mask, scaled, x)


def denormalise(values: ArrayLike, statistics: Quantiles, clip: bool) -> FloatArray:
    """Normalised values [..., N] to SI ones: q01 + (x + 1) / 2 (q99 - q01) where the mask is true.

    clip: limit the normalised entries to [-1, 1] first. Raises ValueError when the last axis is not N wide.
    """
    x, low, span, mask = _prepared(values, statistics)
    scaled = np.clip(x, -1.0, 1.0) if clip else x
    return np.where(mask, low + (scaled + 1.0) * 0.5 * span, x)


def _prepared(
    values: ArrayLike, statistics: Quantiles
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.bool_]]:
    x = np.asarray(values, dtype=np.float64)
    mask = np.asarray(statistics.mask, dtype=bool)
    if x.ndim == 0 or x.shape[-1] != len(mask):
        raise ValueError(f"values of shape {x.shape} do not fit statistics of width {len(mask)}")
    low = np.asarray(statistics.q01, dtype=np.float64)
    span = np.asarray(statistics.q99, dtype=np.float64) - low
    if np.any(mask & ~(span > 0)):
        raise ValueError(f"q99 is not above q01 at {np.flatnonzero(mask & ~(span > 0)).tolist()}")
    return x, low, np.where(mask, span, 1.0), mask
