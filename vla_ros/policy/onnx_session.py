"""ONNX graphs in onnxruntime: loaded where it was asked for, and checked against the manifest."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from vla_ros.errors import BundleError, VlaRosError

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
TYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
# {input or output of a graph: (numpy type, shape)}
Ends = Mapping[str, tuple[Any, Sequence[int]]]


def refuse_two_runtimes() -> None:
    """Raise VlaRosError when onnxruntime and onnxruntime-gpu are both installed.

    They share one folder, the one installed last wins file by file, and the GPU providers are lost
    without a word.
    """
    found = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if len(found) > 1:
        raise VlaRosError(
            f"{' and '.join(found)} are installed side by side, which disables the GPU: run "
            f"'pip uninstall onnxruntime onnxruntime-gpu', then install only the one you need"
        )


def open_session(path: Path, provider: Provider, threads: int) -> ort.InferenceSession:
    """A graph, loaded on nothing but `provider`. Raises BundleError for a broken graph, VlaRosError where the
    provider is not there or onnxruntime would run the graph on something else."""
    name = PROVIDERS[provider]
    if name not in ort.get_available_providers():
        raise VlaRosError(
            f"provider '{provider}': this onnxruntime has {ort.get_available_providers()}; install the "
            f"gpu extra (pip install vla_ros[gpu]) or use provider cpu"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads sleep: on a shared machine spinning doubles the time of everybody.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if provider != "cpu":
        # Without it a graph that the GPU cannot run is run on the CPU, unmentioned.
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=[name])
    except Exception as error:  # onnxruntime raises a different class for each kind of fault
        raise BundleError(f"{path}: onnxruntime cannot load it on '{provider}': {error}") from error
    if session.get_providers()[0] != name:
        raise VlaRosError(
            f"{path}: provider '{provider}' was asked for, but onnxruntime runs it on "
            f"{session.get_providers()}; check the driver and CUDA libraries, or use provider cpu"
        )
    return session


def check_ends(path: Path, side: str, found: Sequence[Any], wanted: Ends) -> None:
    """Compare names, types and shapes with what the manifest implies. side: input or output; found:
    onnxruntime's. Raises BundleError."""
    names = {item.name for item in found}
    if names != set(wanted):
        raise BundleError(
            f"{path}: {side}s {sorted(names)}, the manifest implies {sorted(wanted)}; export the bundle again"
        )
    for item in found:
        kind, shape = wanted[item.name]
        if TYPES.get(item.type) is not kind or list(item.shape) != list(shape):
            raise BundleError(
                f"{path}: {side} '{item.name}' is {item.type} {list(item.shape)}, the manifest implies "
                f"{np.dtype(kind).name} {list(shape)}; export the bundle again"
            )
