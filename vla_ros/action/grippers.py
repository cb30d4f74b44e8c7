"""Grippers: between a policy's number and the opening width in m."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.policy.manifest_model import GripperRule, GripperUnit
from vla_ros.types import FloatArray

# A logit of exactly closed or open would be infinite: so near is it taken for.
LOGIT_END = 1e-12


def gripper_from_width(width: ArrayLike, unit: GripperUnit, ends: tuple[float, float]) -> FloatArray:
    """Opening widths [...] in m in `unit`. ends: the widths in m when closed and when open.

    Nothing is clipped but a logit: a width measured beyond an end stays beyond it.
    """
    w = np.asarray(width, dtype=np.float64)
    if unit.unit == "width_m":
        return w
    fraction = (w - ends[0]) / (ends[1] - ends[0])
    low, high = _values_at_ends(unit)
    value = low + (high - low) * fraction
    if unit.unit == "logit":
        value = np.clip(value, LOGIT_END, 1 - LOGIT_END)
        return np.asarray(np.log(value) - np.log1p(-value))
    return np.asarray(value)


def gripper_to_width(values: ArrayLike, unit: GripperUnit, ends: tuple[float, float]) -> FloatArray:
    """Values [...] in `unit` as opening widths in m, within `ends` (closed, open)."""
    v = np.asarray(values, dtype=np.float64)
    if unit.unit != "width_m":
        low, high = _values_at_ends(unit)
        v = ends[0] + (ends[1] - ends[0]) * ((_sigmoid(v, unit) - low) / (high - low))
    return np.clip(v, *ends)


def gripper_is_open(
    values: ArrayLike, rule: GripperRule, was_open: bool | None = None, rows_since: int | None = None
) -> NDArray[np.bool_]:
    """Whether a binary gripper is to be open, per row [H].

    was_open: what was wanted before the first row, None when nothing was: then the bare threshold decides
    there, and a value on it counts as below (it is never a third thing, as sign() makes it).
    rows_since: for how many rows it has been so, None for long ago.
    """
    binary = rule.binary
    if binary is None:
        raise ValueError("gripper_is_open is for a binary rule")
    at_closed, at_open = (0.0, 1.0) if rule.unit == "width_m" else _values_at_ends(rule)
    high_is_open = at_open > at_closed
    v = _sigmoid(np.asarray(values, dtype=np.float64), rule)
    upper, lower = binary.threshold + binary.hysteresis, binary.threshold - binary.hysteresis
    # In terms of high and low: which of the two is open comes last.
    high = bool(v[0] > binary.threshold) if was_open is None else was_open == high_is_open
    kept = binary.sticky_steps if was_open is None or rows_since is None else rows_since
    out = np.empty(len(v), dtype=bool)
    for row, value in enumerate(v.tolist()):
        if kept >= binary.sticky_steps and (value < lower if high else value > upper):
            high, kept = not high, 0
        kept += 1
        out[row] = high
    return out == high_is_open


def _values_at_ends(unit: GripperUnit) -> tuple[float, float]:
    """The value, after a logit's sigmoid, of a closed and of an open gripper."""
    if unit.closed is not None and unit.open is not None:
        return unit.closed, unit.open
    if unit.unit == "signed":
        return (-1.0, 1.0) if unit.open_is == 1 else (1.0, -1.0)
    closed_is_low = unit.unit == "open_fraction" or unit.open_is == 1
    return (0.0, 1.0) if closed_is_low else (1.0, 0.0)


def _sigmoid(values: FloatArray, unit: GripperUnit) -> FloatArray:
    """A logit's sigmoid, of no overflow; other units as they are."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values))) if unit.unit == "logit" else values
