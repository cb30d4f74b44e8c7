"""A bundle's statistics, in the format of the project that trained the policy, to a `Scaling`.

How each project normalises, and what its manifest therefore declares (v is the normalised value):

OpenVLA   decodes 0.5 (v + 1) (q99 - q01) + q01 where `mask`: prismatic/extern/hf/modeling_prismatic.py,
          predict_action; trained on 2 (x - q01) / (q99 - q01 + 1e-8) - 1, clipped, an entry with min == max
          shown as 0: prismatic/vla/datasets/rlds/utils/data_utils.py, normalize_action_and_proprio.
          q01_q99, clip false for the action, constant zero. OpenVLA-OFT's 1e-8 stands in both directions
          (epsilon), and its state is clipped to 1: experiments/robot/openvla_utils.py, normalize_proprio.
RoboVLMs  decodes as OpenVLA: eval/simpler/model_wrapper.py.
StarVLA   decodes q01_q99 clipped to 1, column 6 decided at 0.5 first (`binary`, below 0):
          starVLA/model/tools.py, unnormalize_actions; its examples min_max, below 0 or -1:
          examples/realRobots/Franka/eval_files/inference_single_example.py. States as in GR00T N1.5, clipped
          to 2.2 for quantiles: starVLA/dataloader/gr00t_lerobot/transform/state_action.py, Normalizer.
openpi    (x - q01) / (q99 - q01 + 1e-6) * 2 - 1 or (x - mean) / (std + 1e-6), and the inverse of the same:
          src/openpi/transforms.py, Normalize and Unnormalize. epsilon 1e-6, clip false; constant minus_one
          for quantiles, zero for mean_std.
LeRobot   2 (x - min) / (max - min) - 1 and the same on quantiles, (x - mean) / (std + 1e-8), inverse
          v std + mean: src/lerobot/processor/normalize_processor.py. clip false; epsilon 1e-8 for the state
          with mean_std; constant minus_one, or zero for mean_std.
GR00T     N1.7: min_max or q01_q99, clipped in both directions, an entry whose ends are close (as in
          numpy's isclose) shown as 0; mean_std for some groups, with one that never varied the same:
          gr00t/data/utils.py and gr00t/data/state_action/state_action_processor.py. Relative actions have a
          row per step. N1.5 clips quantiles to 1, and only while encoding; constant zero with min_max, same
          with the others: gr00t/data/transform/state_action.py, Normalizer.

An entry that never varied is where this differs from openpi and LeRobot: off its one value, they divide by
their epsilon and show the network numbers of a million; here it is shown as it was in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.bins import ActionBins
from vla_ros.action.normalise import Scaling, unscaled
from vla_ros.errors import BundleError
from vla_ros.policy.manifest_normalisation import Kind, Part, VectorNormalisation
from vla_ros.policy.statistics_files import COPY_AGAIN, numbers, read_json, read_lerobot
from vla_ros.types import FloatArray

NEEDS: dict[Kind, tuple[str, str]] = {
    "q01_q99": ("q01", "q99"),
    "min_max": ("min", "max"),
    "mean_std": ("mean", "std"),
}
# What dataset_statistics.json calls the vectors: OpenVLA says proprio, StarVLA state.
NAMES = {"action": ("action",), "proprio": ("proprio", "state")}


@dataclass(frozen=True)
class _Line:
    """low, high, mask, clip: of n entries, as in `Scaling`; low and high are [n] or [H, n]."""

    low: FloatArray
    high: FloatArray
    mask: NDArray[np.bool_]
    clip: float


def read_scaling(
    directory: Path,
    vector: Literal["action", "proprio"],
    spec: VectorNormalisation,
    used: NDArray[np.bool_],
    rows: int | None = None,
) -> Scaling:
    """The scaling that a manifest declares for one of its vectors.

    directory: the bundle's. used: bool [N], false for columns that are padding: these are not scaled, and the
    file need not have them at the vector's end. rows: the horizon, for statistics per step.
    Raises BundleError naming file and entry, what was found and what to do.
    """
    width = len(used)
    if spec.kind == "none":
        return unscaled(width)
    assert spec.file is not None and spec.key is not None
    file = directory / spec.file
    lines: list[_Line] = []
    found = 0
    for where, entry, kind in _entries(file, vector, spec, spec.kind):
        lines.append(_line(where, entry, kind, vector, spec, rows, used[found:]))
        found += len(lines[-1].mask)
    if found > width or used[found:].any():
        raise BundleError(
            f"{file}: {spec.key}: the {vector} has {found} values, but policy.yaml declares {width}; "
            f"{COPY_AGAIN}"
        )
    unknown = np.full(width - found, np.nan)
    lines.append(_Line(unknown, unknown, np.zeros(width - found, dtype=bool), np.inf))
    steps = max((line.low.shape[0] for line in lines if line.low.ndim == 2), default=None)
    if spec.per_step != (steps is not None):
        stand = "no row for each step" if steps is None else f"a row for each of {steps} steps"
        raise BundleError(
            f"{file}: {spec.key}: the {vector}'s statistics have {stand}, but policy.yaml says per_step: "
            f"{str(spec.per_step).lower()}; correct normalisation.{vector}.per_step"
        )
    low, high = (
        np.concatenate([_with_rows(values, steps) for values in each], axis=-1)
        for each in ([line.low for line in lines], [line.high for line in lines])
    )
    try:
        return Scaling(
            low=low,
            high=high,
            mask=np.concatenate([line.mask for line in lines]),
            clip=np.concatenate([np.full(len(line.mask), line.clip) for line in lines]),
            constant=spec.constant,
            binary=_binary(spec, width),
            bins=ActionBins(**spec.bins.model_dump()) if spec.bins else None,
        )
    except ValueError as error:
        raise BundleError(f"{file}: {spec.key}: normalisation.{vector}: {error}; {COPY_AGAIN}") from None


def _entries(
    file: Path, vector: str, spec: VectorNormalisation, kind: Kind
) -> list[tuple[str, Mapping[str, Any], Kind]]:
    """(where, statistics, kind) of the entries that the vector is made of, in order."""
    key, says = str(spec.key), f"normalisation.{vector}.key in policy.yaml"
    content: Mapping[str, Any] = read_lerobot(file) if spec.format == "lerobot" else read_json(file)
    if spec.format == "lerobot":
        # A policy's own buffers have no dots in a feature's name.
        name = key if key in content else key.replace(".", "_")
        return [(f"{file}: {key}", _inside(file, content, name, key, says), kind)]
    if spec.format == "norm_stats":
        content = _inside(file, content, "norm_stats", "norm_stats", "openpi's norm_stats.json has it")
        return [(f"{file}: {key}", _inside(file, content, key, key, says), kind)]
    content = _inside(file, content, key, key, says)
    if spec.format == "dataset_statistics":
        name = next((each for each in NAMES[vector] if each in content), NAMES[vector][0])
        entry = _inside(file, content, name, f"{key}.{name}", f"the statistics of the {vector}")
        return [(f"{file}: {key}.{name}", entry, kind)]
    return [_part(file, content, key, vector, part, kind) for part in spec.parts or ()]


def _part(
    file: Path, content: Mapping[str, Any], key: str, vector: str, part: Part, kind: Kind
) -> tuple[str, Mapping[str, Any], Kind]:
    path = key
    for name in part.name.split("."):
        path = f"{path}.{name}"
        content = _inside(file, content, name, path, f"normalisation.{vector}.parts in policy.yaml")
    return f"{file}: {path}", content, part.kind or kind


def _inside(file: Path, content: Mapping[str, Any], name: str, path: str, says: str) -> Mapping[str, Any]:
    """content[name], which must be a mapping."""
    if name not in content:
        raise BundleError(f"{file}: no key '{path}' ({says}); found {sorted(map(str, content))}")
    entry = content[name]
    if not isinstance(entry, Mapping):
        raise BundleError(f"{file}: {path}: found {type(entry).__name__}, expected names ({says})")
    return entry


def _line(
    where: str,
    entry: Mapping[str, Any],
    kind: Kind,
    vector: str,
    spec: VectorNormalisation,
    rows: int | None,
    used: NDArray[np.bool_],
) -> _Line:
    first, second = NEEDS[kind]
    one, two = (_numbers(where, entry, name, kind) for name in (first, second))
    shape = (rows, one.shape[-1]) if one.ndim == 2 else (one.shape[-1],)
    if one.shape != two.shape or one.shape != shape:
        raise BundleError(
            f"{where}: {first} and {second} have shapes {one.shape} and {two.shape}, expected "
            f"{(rows, 'N') if one.ndim == 2 else '(N,)'} twice; {COPY_AGAIN}"
        )
    mask = _mask(where, entry, spec, shape[-1])
    mask[: len(used)] &= used[: len(mask)]
    unknown = mask & ~(np.isfinite(one) & np.isfinite(two))
    if unknown.any():
        raise BundleError(f"{where}: {first} or {second} holds a value that is not finite; {COPY_AGAIN}")
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = (one - two, one + two) if kind == "mean_std" else (one, two)
    if spec.format == "gr00t" and kind != "mean_std":
        high = np.where(np.isclose(high, low), low, high)
    constant = mask & (high == low)
    if (mask & (high < low)).any() or (constant.any() and spec.constant == "refuse"):
        at = np.argwhere(mask & (high <= low))[0].tolist()
        index = at[0] if len(at) == 1 else at
        found = f"std {two[tuple(at)]}, not above 0" if kind == "mean_std" else (
            f"{second} {two[tuple(at)]} is not above {first} {one[tuple(at)]}"
        )  # fmt: skip
        raise BundleError(
            f"{where}: index {index}: {found}, so it cannot be normalised; if it never varied in training, "
            f"declare what it was shown as (normalisation.{vector}.constant), else export again"
        )
    if kind == "mean_std":
        low, high = (
            np.where(constant, ends, ends + sign * spec.epsilon) for ends, sign in ((low, -1), (high, 1))
        )
    else:
        high = np.where(constant, high, high + spec.epsilon)
    limit = np.inf if not spec.clip or kind == "mean_std" else spec.clip
    return _Line(low, high, mask, limit)


def _numbers(where: str, entry: Mapping[str, Any], name: str, kind: Kind) -> FloatArray:
    needed = " and ".join(NEEDS[kind])
    if name not in entry:
        raise BundleError(
            f"{where}: no '{name}', but kind: {kind} needs {needed}; found {sorted(map(str, entry))}"
        )
    try:
        values = numbers(entry[name])
    except ValueError:
        values = np.empty(0)
    if values.ndim not in (1, 2) or not values.size:
        raise BundleError(
            f"{where}.{name}: found {_short(entry[name])}, expected a list of numbers; {COPY_AGAIN}"
        )
    return values


def _mask(where: str, entry: Mapping[str, Any], spec: VectorNormalisation, width: int) -> NDArray[np.bool_]:
    """All true where the file has none, as in OpenVLA's `action_norm_stats.get("mask", ones_like(q01))`."""
    if spec.format != "dataset_statistics" or "mask" not in entry:
        return np.ones(width, dtype=bool)
    found = entry["mask"]
    if not isinstance(found, list) or len(found) != width or not all(isinstance(x, bool) for x in found):
        raise BundleError(f"{where}.mask: found {_short(found)}, expected true or false, {width} times")
    return np.array(found)


def _with_rows(values: FloatArray, steps: int | None) -> FloatArray:
    """Statistics [n] that hold for every step, as [steps, n]."""
    return values if steps is None or values.ndim == 2 else np.tile(values, (steps, 1))


def _binary(spec: VectorNormalisation, width: int) -> FloatArray | None:
    if spec.binary is None:
        return None
    if max(spec.binary.columns) >= width:
        raise BundleError(
            f"policy.yaml: normalisation.action.binary.columns: found {spec.binary.columns}, but the action "
            f"has {width} values (0 to {width - 1})"
        )
    below = np.full(width, np.nan)
    below[spec.binary.columns] = spec.binary.below
    return below


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
