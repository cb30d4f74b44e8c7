"""Parity: the exported graphs, rerun on this machine, against the outputs recorded at export.

`parity.npz` holds N cases, stacked on a leading axis:
    `<graph input name>`  the first graph's inputs as the network sees them, [N, ...] without the batch
                          axis of 1: `image.<role>` [N, h, w, 3], `tokens` [N, T], `state` [N, S]
    `noise`               float32 [N, H, K], the start of flow matching; only there
    `expected`            float32 [N, H, K], the chunk (normalised, or its tokens) the exporting framework
                          computed
    `tolerance`           float scalar, the largest absolute difference allowed, of normalised values: of
                          tokens, one bin is 2 / (count - 1), and 0 asks for the same ones
and, where the policy does real-time chunking (`vla_ros.policy.rtc`), the same again with guidance:
    `target`              float32 [N, H, K], `weights` float32 [N, H], `frozen` int64 [N]
    `guided`              float32 [N, H, K], the chunk computed with it
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.bins import from_tokens
from vla_ros.errors import BundleError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.rtc import Guidance

NEEDED = ("expected", "tolerance")
GUIDED = ("target", "weights", "frozen", "guided")


@dataclass(frozen=True)
class ParityCase:
    """One recorded inference. inputs: {graph input: array with its batch axis of 1}. noise: of flow matching,
    else None.

    guidance, guided: the same with real-time chunking, and the chunk expected then.
    """

    inputs: Mapping[str, NDArray[Any]]
    noise: NDArray[np.float32] | None
    expected: NDArray[np.float32]
    guidance: Guidance | None = None
    guided: NDArray[np.float32] | None = None


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
    noises = [case.noise for case in cases if case.noise is not None]
    if noises:
        arrays["noise"] = np.stack(noises).astype(np.float32)
    arrays["expected"] = np.stack([case.expected for case in cases]).astype(np.float32)
    arrays["tolerance"] = np.float64(tolerance)
    guidances = [case.guidance for case in cases if case.guidance is not None]
    if guidances:
        arrays["target"] = np.stack([guidance.target for guidance in guidances])
        arrays["weights"] = np.stack([guidance.weights for guidance in guidances])
        arrays["frozen"] = np.array([guidance.frozen for guidance in guidances], dtype=np.int64)
        arrays["guided"] = np.stack([case.guided for case in cases if case.guided is not None])
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
    missing = [name for name in NEEDED if name not in arrays]
    if missing or not set(arrays) - {*NEEDED, "noise", *GUIDED}:
        raise BundleError(f"{path}: lacks {missing or 'inputs'}; found {sorted(arrays)}")
    tolerance = float(arrays.pop("tolerance"))
    noise, expected = arrays.pop("noise", None), arrays.pop("expected")
    guided = {name: arrays.pop(name) for name in GUIDED if name in arrays}
    if guided and len(guided) != len(GUIDED):
        raise BundleError(f"{path}: has {sorted(guided)}, expected all or none of {list(GUIDED)}")
    every = [expected, *([] if noise is None else [noise]), *guided.values(), *arrays.values()]
    counts = {len(values) for values in every}
    if len(counts) != 1 or 0 in counts or (noise is not None and noise.shape != expected.shape):
        raise BundleError(f"{path}: arrays hold different numbers of cases; export the bundle again")
    cases = []
    for i in range(len(expected)):
        inputs = {name: values[i : i + 1] for name, values in arrays.items()}
        case = ParityCase(inputs, None if noise is None else noise[i], expected[i])
        if guided:
            target, weights, frozen, chunk = (guided[name][i] for name in GUIDED)
            case = replace(case, guidance=Guidance(target, weights, int(frozen)), guided=chunk)
        cases.append(case)
    return cases, tolerance


def run_parity(bundle: Bundle, policy: Any) -> ParityResult:
    """Rerun the bundle's cases, with guidance too where the policy does real-time chunking.

    policy: an `OnnxPolicy` (anything with `infer(inputs, noise, guidance)`).
    Raises BundleError for a file that is not of this bundle's kind, Refused where the network fails.
    """
    path = bundle.path(bundle.manifest.parity)
    cases, tolerance = read_parity(path)
    if (bundle.manifest.sampler.rtc != "none") != (cases[0].guidance is not None):
        raise BundleError(
            f"{path}: {'has no' if cases[0].guidance is None else 'has'} guided cases, but sampler.rtc is "
            f"{bundle.manifest.sampler.rtc}; export the bundle again"
        )
    bins = bundle.action.bins
    if (bundle.manifest.sampler.kind == "flow_matching") != (cases[0].noise is not None):
        raise BundleError(
            f"{path}: {'has no' if cases[0].noise is None else 'has'} noise, but sampler.kind is "
            f"{bundle.manifest.sampler.kind}; export the bundle again"
        )
    errors, cosines = [], []
    for case in cases:
        pairs = [(policy.infer(case.inputs, case.noise), case.expected)]
        if case.guidance is not None and case.guided is not None:
            pairs.append((policy.infer(case.inputs, case.noise, case.guidance), case.guided))
        for raw, chunk in pairs:
            found, wanted = (
                np.asarray(values if bins is None else from_tokens(values, bins), np.float64).ravel()
                for values in (raw.values, chunk)
            )
            if found.shape != wanted.shape:
                raise BundleError(
                    f"parity: the network gives {found.size} values, parity.npz has {wanted.size}"
                )
            errors.append(float(np.abs(found - wanted).max()))
            cosines.append(float(found @ wanted / (np.linalg.norm(found) * np.linalg.norm(wanted))))
    return ParityResult(len(cases), float(np.max(errors)), float(np.min(cosines)), tolerance)
