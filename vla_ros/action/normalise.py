"""Normalised values to SI ones and back: q01/q99, min/max, mean/std and per-step statistics.

Every rule met is the same line through two points per entry: `low` becomes -1 and `high` becomes 1.

    q01_q99   low = q01, high = q99          min_max   low = min, high = max
    mean_std  low = mean - std, high = mean + std, which is (x - mean) / std

What a file of statistics makes of these, and each project's own additions (epsilon, what an entry that never
varied becomes), is decided where the file is read (`vla_ros.policy.statistics`); nothing here is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import Refused
from vla_ros.types import FloatArray

# From here on a binary entry is 1 (StarVLA: `normalized_actions[:, 6] < 0.5` becomes 0, the rest 1).
BINARY_THRESHOLD = 0.5


@dataclass(frozen=True)
class Scaling:
    """How one vector of N entries is normalised.

    low, high: float64 [N], or [H, N] with a row for each step of a chunk: the SI values that become -1 and 1.
        NaN where nothing is known of an entry that is not scaled.
    mask: bool [N], False where the value passes through as it is.
    clip: limit scaled entries to [-1, 1], in both directions.
    constant: what a scaled entry with low == high (it never varied in training) becomes; such an entry is
        always denormalised to `low`. None: there is no such entry.
    binary: bool [N] or None: entries whose normalised value counts as 0 below `BINARY_THRESHOLD` and as 1
        from there on, before it is denormalised.

    Raises ValueError where these do not fit one another. The arrays are made read-only.
    """

    low: FloatArray
    high: FloatArray
    mask: NDArray[np.bool_]
    clip: bool
    constant: float | None = None
    binary: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        low, high = (np.array(values, dtype=np.float64) for values in (self.low, self.high))
        masks = [np.array(mask) for mask in (self.mask, self.binary) if mask is not None]
        if low.ndim not in (1, 2) or any(mask.shape != low.shape[-1:] for mask in masks):
            raise ValueError(
                f"low has shape {low.shape}, the masks {[mask.shape for mask in masks]}; expected [N] or "
                f"[H, N], and [N]"
            )
        if low.shape != high.shape:
            raise ValueError(f"low and high have shapes {low.shape} and {high.shape}")
        if any(mask.dtype != np.bool_ for mask in masks):
            raise ValueError(f"mask: found {[str(mask.dtype) for mask in masks]}, expected true or false")
        mask = masks[0]
        unknown = mask & ~(np.isfinite(low) & np.isfinite(high))
        if unknown.any():
            raise ValueError(f"not finite at {_places(unknown)}")
        wrong = mask & ((high < low) if self.constant is not None else (high <= low))
        if wrong.any():
            raise ValueError(f"high is not above low at {_places(wrong)}")
        for name, array in zip(("low", "high", "mask", "binary"), (low, high, *masks), strict=False):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def width(self) -> int:
        """N."""
        return len(self.mask)

    @cached_property
    def _line(self) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """(low, high - low, where an entry never varied), with 0 and 1 where nothing is scaled."""
        low, high = np.where(self.mask, self.low, 0.0), np.where(self.mask, self.high, 1.0)
        return low, high - low, high == low


def unscaled(width: int) -> Scaling:
    """A scaling that leaves all of `width` entries as they are."""
    unknown = np.full(width, np.nan)
    return Scaling(unknown, unknown, np.zeros(width, bool), clip=False)


def normalise(values: ArrayLike, scaling: Scaling) -> FloatArray:
    """SI values [..., N] ([..., H, N] per step) to normalised ones: 2 (x - low) / (high - low) - 1.

    Raises ValueError for another shape, Refused("nan") for NaN or infinity.
    """
    x = _checked(values, scaling)
    low, span, constant = scaling._line
    scaled = 2.0 * (x - low) / np.where(constant, 1.0, span) - 1.0
    if scaling.constant is not None:
        scaled = np.where(constant, scaling.constant, scaled)
    if scaling.clip:
        scaled = np.clip(scaled, -1.0, 1.0)
    return np.where(scaling.mask, scaled, x)


def denormalise(values: ArrayLike, scaling: Scaling) -> FloatArray:
    """Normalised values [..., N] ([..., H, N] per step) to SI ones: low + (x + 1) / 2 (high - low).

    Raises ValueError for another shape, Refused("nan") for NaN or infinity.
    """
    x = _checked(values, scaling)
    low, span, _ = scaling._line
    if scaling.binary is not None:
        x = np.where(scaling.binary, x >= BINARY_THRESHOLD, x)
    scaled = np.clip(x, -1.0, 1.0) if scaling.clip else x
    return np.where(scaling.mask, low + (scaled + 1.0) * 0.5 * span, x)


def _checked(values: ArrayLike, scaling: Scaling) -> FloatArray:
    x = np.asarray(values, dtype=np.float64)
    shape = scaling.low.shape
    if x.shape[-len(shape) :] != shape:
        raise ValueError(f"values of shape {x.shape} do not fit statistics of shape {shape}")
    if not np.isfinite(x).all():
        raise Refused("nan", f"NaN or infinity at {_places(~np.isfinite(x))} of the values to be scaled")
    return x


def _places(wrong: NDArray[np.bool_]) -> list[int]:
    """The entries of the last axis at which `wrong` is true anywhere."""
    return sorted(set(np.nonzero(wrong)[-1].tolist()))
