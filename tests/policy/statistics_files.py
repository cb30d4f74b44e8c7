"""Statistics files as projects write them, and what a manifest makes of one."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.action.normalise import Scaling
from vla_ros.policy.manifest_normalisation import VectorNormalisation
from vla_ros.policy.statistics import read_scaling

RNG = np.random.default_rng(3)
# A vector's normalisation in a manifest.
FIELDS = {"kind": "q01_q99", "format": "dataset_statistics", "file": "s.json", "key": "k", "clip": False}


def statistics(width: int, rows: int | None = None) -> dict[str, Any]:
    """Of samples, with what every project writes; per step with `rows`."""
    samples = RNG.normal(RNG.uniform(-1, 1, width), RNG.uniform(0.05, 2, width), (400, rows or 1, width))
    found = {
        "min": samples.min(0),
        "max": samples.max(0),
        "mean": samples.mean(0),
        "std": samples.std(0),
        "q01": np.quantile(samples, 0.01, axis=0),
        "q99": np.quantile(samples, 0.99, axis=0),
    }
    return {name: (values if rows else values[0]).tolist() for name, values in found.items()}


def arrays(entry: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: np.array(values) for name, values in entry.items()}


def read(folder: Path, content: Any, width: int, vector: str = "action", **spec: Any) -> Scaling:
    file = folder / spec.setdefault("file", "statistics.json")
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    file.write_bytes(content)
    rows = spec.pop("rows", None)
    used = spec.pop("used", np.ones(width, dtype=bool))
    fields = {"kind": "q01_q99", "format": "dataset_statistics", "key": "here", "clip": False, **spec}
    return read_scaling(folder, vector, VectorNormalisation.model_validate(fields), used, rows)


def near(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


def safetensors(tensors: dict[str, np.ndarray]) -> bytes:
    """As its README describes the format, with float32."""
    header, data = {}, b""
    for name, values in tensors.items():
        block = np.asarray(values, np.float32).tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(np.shape(values)),
            "data_offsets": [len(data), len(data) + len(block)],
        }
        data += block
    header["__metadata__"] = {"format": "pt"}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
