"""Normalised values to SI ones and back: q01/q99, min/max, mean/std and per-step statistics.

Every rule met is the same line through two points per entry: `low` becomes -1 and `high` becomes 1.

    q01_q99   low = q01, high = q99          min_max   low = min, high = max
    mean_std  low = mean - std, high = mean + std, which is (x - mean) / std

What each project makes of its statistics is declared by the bundle and decided where the file is read
(`vla_ros.policy.statistics`, which names the projects); nothing here is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.action.bins import ActionBins, from_tokens, to_tokens
from vla_ros.errors import Refused
from vla_ros.types import FloatArray

Constant = Literal["refuse", "zero", "minus_one", "same"]

CONSTANTS = {"zero": 0.0, "minus_one": -1.0}
# From here on a binary entry is 1.
BINARY_THRESHOLD = 0.5


@dataclass(frozen=True)
class Scaling:
    """How one vector of N entries is normalised.

    low, high: float64 [N], or [H, N] with a row for each step of a chunk: the SI values that become -1 and 1.
        NaN where nothing is known of an entry that is not scaled.
    mask: bool [N], False where the value passes through as it is.
    clip: a scaled entry is limited to -clip..clip while normalised, in both directions; [N] or one for all,
        infinity for no limit.
    constant: what a scaled entry with low == high, one that never varied in training, becomes: 0, -1, or the
        value itself. It is always denormalised to `low`. `refuse`: there is no such entry.
    binary: None, or [N]: entries that are not NaN are decided while normalised, before they are denormalised:
        from `BINARY_THRESHOLD` on they are 1, below what stands here.
    bins: None, or the tokens that the normalised values are spoken in.

    Raises ValueError where these do not fit one another. The arrays are made read-only.
    """

    low: FloatArray
    high: FloatArray
    mask: NDArray[np.bool_]
    clip: FloatArray | float = np.inf
    constant: Constant = "refuse"
    binary: FloatArray | None = None
    bins: ActionBins | None = None

    def __post_init__(self) -> None:
        low, high = (np.array(values, dtype=np.float64) for values in (self.low, self.high))
        mask = np.array(self.mask)
        if low.ndim not in (1, 2) or low.shape != high.shape or mask.shape != low.shape[-1:]:
            raise ValueError(
                f"low, high and mask have shapes {low.shape}, {high.shape} and {mask.shape}; expected [N] or "
                f"[H, N] twice, and [N]"
            )
        if mask.dtype != np.bool_:
            raise ValueError(f"mask: found {mask.dtype} values, expected true or false")
        with np.errstate(over="ignore", invalid="ignore"):
            unknown = mask & ~np.isfinite(high - low)
        if unknown.any():
            raise ValueError(f"low, high or what is between them is not finite at {_places(unknown)}")
        wrong = mask & ((high <= low) if self.constant == "refuse" else (high < low))
        if wrong.any():
            raise ValueError(f"high is not above low at {_places(wrong)}")
        if isinstance(self.clip, bool):
            raise ValueError("clip: expected the limit, not whether there is one")
        clip = np.broadcast_to(np.array(self.clip, dtype=np.float64), mask.shape)
        if not np.all(clip > 0):
            raise ValueError(f"clip: expected limits above 0, found {clip.tolist()}")
        arrays: dict[str, NDArray[Any]] = {"low": low, "high": high, "mask": mask, "clip": clip}
        if self.binary is not None:
            arrays["binary"] = np.broadcast_to(np.array(self.binary, dtype=np.float64), mask.shape)
        for name, array in arrays.items():
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @property
    def width(self) -> int:
        """N."""
        return len(self.mask)

    @property
    def extent(self) -> tuple[FloatArray, FloatArray]:
        """What the statistics span, float64 [N] twice, over all steps; NaN where nothing is known."""
        low, high = np.atleast_2d(self.low), np.atleast_2d(self.high)
        return low.min(axis=0), high.max(axis=0)

    @cached_property
    def _line(self) -> tuple[FloatArray, FloatArray, NDArray[np.bool_]]:
        """(low, high - low, where an entry never varied), with 0 and 1 where nothing is scaled."""
        low, high = np.where(self.mask, self.low, 0.0), np.where(self.mask, self.high, 1.0)
        return low, high - low, high == low


def unscaled(width: int) -> Scaling:
    """A scaling that leaves all of `width` entries as they are."""
    unknown = np.full(width, np.nan)
    return Scaling(unknown, unknown, np.zeros(width, bool))


def normalise(values: ArrayLike, scaling: Scaling) -> FloatArray:
    """SI values [..., N] ([..., H, N] per step) to normalised ones: 2 (x - low) / (high - low) - 1.

    Raises ValueError for another shape, Refused("nan") for NaN or infinity.
    """
    x = _checked(values, scaling)
    low, span, constant = scaling._line
    scaled = 2.0 * (x - low) / np.where(constant, 1.0, span) - 1.0
    if scaling.constant != "refuse":
        shown = x if scaling.constant == "same" else CONSTANTS[scaling.constant]
        scaled = np.where(constant, shown, scaled)
    limited = np.clip(scaled, -scaling.clip, scaling.clip)
    normalised = np.where(scaling.mask, limited, x)
    if scaling.bins is not None:
        return to_tokens(normalised, scaling.bins).astype(np.float64)
    return normalised


def denormalise(values: ArrayLike, scaling: Scaling) -> FloatArray:
    """Normalised values [..., N] ([..., H, N] per step) to SI ones: low + (x + 1) / 2 (high - low).

    Raises ValueError for another shape, Refused: "nan" for NaN or infinity, "token" for one that is no
    action.
    """
    x = _checked(values, scaling)
    low, span, _ = scaling._line
    if scaling.bins is not None:
        x = from_tokens(x, scaling.bins)
    if scaling.binary is not None:
        decided = np.where(x >= BINARY_THRESHOLD, 1.0, scaling.binary)
        x = np.where(np.isnan(scaling.binary), x, decided)
    limited = np.clip(x, -scaling.clip, scaling.clip)
    return np.where(scaling.mask, low + (limited + 1.0) * 0.5 * span, x)


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
