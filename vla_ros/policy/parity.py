"""Parity: the exported graphs, rerun on this machine, against the outputs recorded at export.

`parity.npz` holds N cases, stacked on a leading axis:
    `<graph input name>`  the prefix graph's inputs as the network sees them, [N, ...] without the batch
                          axis of 1: `image.<role>` [N, h, w, 3], `tokens` [N, T], `state` [N, S]
    `noise`               float32 [N, H, K], the sampler's start
    `expected`            float32 [N, H, K], the chunk (normalised) the exporting framework computed
    `tolerance`           float scalar, the largest absolute difference allowed
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import BundleError
from vla_ros.policy.bundle import Bundle

RESERVED = ("noise", "expected", "tolerance")


@dataclass(frozen=True)
class ParityCase:
    """One recorded inference. inputs: {graph input: array with its batch axis of 1}."""

    inputs: Mapping[str, NDArray[Any]]
    noise: NDArray[np.float32]
    expected: NDArray[np.float32]


@dataclass(frozen=True)
class ParityResult:
    """max_error: largest absolute difference of normalised values; cosine: smallest over the cases."""

    cases: int
    max_error: float
    cosine: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether every value of every case lies within the tolerance."""
        return bool(self.max_error <= self.tolerance)  # False for NaN


def parity_bytes(cases: list[ParityCase], tolerance: float) -> bytes:
    """The content of `parity.npz`."""
    arrays: dict[str, Any] = {
        name: np.concatenate([case.inputs[name] for case in cases]) for name in cases[0].inputs
    }
    arrays["noise"] = np.stack([case.noise for case in cases]).astype(np.float32)
    arrays["expected"] = np.stack([case.expected for case in cases]).astype(np.float32)
    arrays["tolerance"] = np.float64(tolerance)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def read_parity(path: Path) -> tuple[list[ParityCase], float]:
    """The cases and the tolerance of a `parity.npz`; BundleError when it is not one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path}: not a parity file ({error}); export the bundle again") from None
    missing = [name for name in RESERVED if name not in arrays]
    if missing or len(arrays) == len(RESERVED):
        raise BundleError(f"{path}: lacks {missing or 'inputs'}; found {sorted(arrays)}")
    tolerance = float(arrays.pop("tolerance"))
    noise, expected = arrays.pop("noise"), arrays.pop("expected")
    counts = {len(noise), len(expected), *(len(values) for values in arrays.values())}
    if len(counts) != 1 or 0 in counts or noise.shape != expected.shape:
        raise BundleError(f"{path}: arrays hold different numbers of cases; export the bundle again")
    cases = [
        ParityCase({name: values[i : i + 1] for name, values in arrays.items()}, noise[i], expected[i])
        for i in range(len(noise))
    ]
    return cases, tolerance


def run_parity(bundle: Bundle, policy: Any) -> ParityResult:
    """Rerun the bundle's cases. `policy`: an `OnnxPolicy` (anything with `infer(inputs, noise)`)."""
    cases, tolerance = read_parity(bundle.path(bundle.manifest.parity))
    errors, cosines = [], []
    for case in cases:
        found = policy.infer(case.inputs, case.noise).values.astype(np.float64).ravel()
        expected = case.expected.astype(np.float64).ravel()
        if found.shape != expected.shape:
            raise BundleError(
                f"parity: the network gives {found.size} values, parity.npz has {expected.size}"
            )
        errors.append(float(np.abs(found - expected).max()))
        cosines.append(float(found @ expected / (np.linalg.norm(found) * np.linalg.norm(expected))))
    return ParityResult(len(cases), float(np.max(errors)), float(np.min(cosines)), tolerance)
