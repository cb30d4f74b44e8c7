"""Statistics files as the projects write them, to {name: {statistic: numbers}} without a choice of their own.

*.json         OpenVLA, StarVLA, openpi, GR00T, LeRobot's meta/stats.json
*.jsonl        LeRobot's meta/episodes_stats.jsonl (data sets of version 2.1), aggregated
*.safetensors  LeRobot's policy_preprocessor_step_*_normalizer_processor.safetensors, and the buffers of
               policies from before there were processors
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import BundleError
from vla_ros.types import FloatArray

COPY_AGAIN = "copy or export the bundle again"
STATISTICS = ("mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99")
# LeRobot, src/lerobot/processor/migrate_policy_normalization.py: a policy's own buffers, with the feature's
# dots written as underscores.
BUFFERS = ("normalize_inputs.buffer_", "normalize_targets.buffer_", "unnormalize_outputs.buffer_")
DTYPES: dict[str, np.dtype[Any]] = {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
# Bytes; that of a policy with 10,000 tensors has 1 MB.
LONGEST_HEADER = 100_000_000


def read_json(file: Path) -> dict[str, Any]:
    """The mapping in a JSON file. Raises BundleError."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(f"{file}: not a JSON file ({error}); {COPY_AGAIN}") from None
    if not isinstance(content, dict):
        raise BundleError(f"{file}: found {type(content).__name__}, expected names with their statistics")
    return content


def read_lerobot(file: Path) -> dict[str, Any]:
    """{feature: {statistic: numbers}} of any of LeRobot's files, told by its suffix. Raises BundleError."""
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    if file.suffix == ".jsonl":
        return read_episodes(file)
    return read_json(file)


def read_safetensors(file: Path) -> dict[str, Any]:
    """{feature: {statistic: array}} of the tensors called `<feature>.<statistic>`, nothing else being read.

    The format (huggingface/safetensors, README.md): eight bytes with the header's length, the header as JSON
    {name: {dtype, shape, data_offsets}}, and the data. Raises BundleError.
    """
    found: dict[str, Any] = {}
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(size, LONGEST_HEADER):
                raise ValueError(f"a header of {length} bytes in a file of {size}")
            header = json.loads(stream.read(length))
            for name, tensor in header.items():
                feature, _, statistic = name.rpartition(".")
                if not feature or statistic not in STATISTICS:
                    continue
                for buffer in BUFFERS:
                    feature = feature.removeprefix(buffer)
                begin, end = tensor["data_offsets"]
                if not 0 <= begin <= end <= size:
                    raise ValueError(f"{name} from {begin} to {end}")
                stream.seek(8 + length + begin)
                numbers = np.frombuffer(stream.read(end - begin), DTYPES[tensor["dtype"]])
                found.setdefault(feature, {})[statistic] = numbers.reshape(tensor["shape"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise BundleError(
            f"{file}: not a safetensors file of statistics in {', '.join(DTYPES)} "
            f"({type(error).__name__}: {error}); {COPY_AGAIN}"
        ) from None
    return found


def read_episodes(file: Path) -> dict[str, Any]:
    """{feature: {min, max, mean, std}} over all episodes of LeRobot's episodes_stats.jsonl.

    As src/lerobot/datasets/compute_stats.py, aggregate_feature_stats: means weighted by the episodes' counts,
    and the variance within and between them. Quantiles cannot be had this way and are left out.
    Raises BundleError.
    """
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        episodes = [line["stats"] for line in lines]
        if not all(isinstance(each, dict) for each in episodes):
            raise ValueError("an episode's stats have no names")
        features = sorted(set.intersection(*(set(each) for each in episodes)))
        return {feature: _aggregate([each[feature] for each in episodes]) for feature in features}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleError(
            f"{file}: not lines of an episode's 'stats' with min, max, mean, std and count each "
            f"({type(error).__name__}: {error}); {COPY_AGAIN}"
        ) from None


def _aggregate(episodes: list[Mapping[str, Any]]) -> dict[str, FloatArray]:
    low, high, means, stds, counts = (
        numbers([each[name] for each in episodes]) for name in ("min", "max", "mean", "std", "count")
    )
    if not np.all(counts > 0):
        raise ValueError(f"found counts {counts.tolist()}")
    share = _columns(counts / counts.sum(axis=0), means.ndim)
    mean = (share * means).sum(axis=0)
    variance = (share * (stds**2 + (means - mean) ** 2)).sum(axis=0)
    return {"min": low.min(axis=0), "max": high.max(axis=0), "mean": mean, "std": np.sqrt(variance)}


def numbers(values: object) -> FloatArray:
    """Lists of numbers as float64. Raises ValueError for anything else, such as numbers in quotes."""
    found = np.asarray(values)
    if found.dtype.kind not in "iuf":
        raise ValueError(f"found {found.dtype} among the numbers")
    return found.astype(np.float64)


def _columns(values: NDArray[np.float64], dimensions: int) -> NDArray[np.float64]:
    return values.reshape(len(values), *[1] * (dimensions - 1))
