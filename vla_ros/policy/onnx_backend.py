"""RawChunk from the bundle's ONNX graphs with onnxruntime: the prefix once, then N Euler steps.

Prefix: `image.<role>`, `tokens`, `state` and what else the manifest's inputs declare (`Inputs.tensors`) ->
context tensors of any names.
Step: those context tensors, `x` float32 [1, H, K], `t` float32 [1] -> `velocity` float32 [1, H, K]. Where
the manifest says rtc: prefix, `t` is float32 [1, H], a time per row: 1 for the frozen ones.
Guided step (rtc: guided): also `target` [1, H, K] and `weights` [1, H] -> `velocity` and `correction`
[1, H, K], the product (target - f) diag(weights) df/dx with f = x + (1 - t) velocity, the chunk that this
step expects.
The Euler accumulator stays in float32 on the host whatever precision the graphs run in: with a
half-precision one the error of the chunk grows tenfold and more (jetson-ai-lab PR 368; measured
0.002 against 0.074 in bf16).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vla_ros.errors import BundleError, Refused, VlaRosError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.rtc import Guidance, guidance_weight
from vla_ros.types import RawChunk

Provider = Literal["cpu", "cuda", "tensorrt"]
PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(uint8)": np.uint8,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class OnnxPolicy:
    """The bundle's network, loaded and checked against its manifest.

    Not thread-safe: one thread at a time calls `infer` and `reset`.
    """

    def __init__(self, bundle: Bundle, provider: Provider = "cpu", threads: int | None = None) -> None:
        """threads: of onnxruntime's pool; half the cores by default, so that control keeps the others.

        Raises BundleError when a graph is broken or contradicts the manifest, and VlaRosError when
        `provider` is not what the graphs would really run on.
        """
        refuse_two_runtimes()
        manifest = bundle.manifest
        self._shape = (1, manifest.outputs.horizon, manifest.outputs.size)
        self._sampler = manifest.sampler
        prefix, step = bundle.path(manifest.graphs.prefix), bundle.path(manifest.graphs.step)
        count = threads or max(1, (os.cpu_count() or 1) // 2)
        self._prefix = _session(prefix, provider, count)
        self._step = _session(step, provider, count)
        wanted: dict[str, tuple[Any, Sequence[int]]] = {
            name: (np.dtype(kind).type, shape) for name, (kind, shape) in manifest.inputs.tensors.items()
        }
        _check(prefix, "input", self._prefix.get_inputs(), wanted)
        self._context = [output.name for output in self._prefix.get_outputs()]
        rows = self._shape[:2]
        ends: dict[str, tuple[Any, Sequence[int]]] = {
            "x": (np.float32, self._shape),
            "t": (np.float32, rows if self.rtc == "prefix" else (1,)),
        }
        velocity: dict[str, tuple[Any, Sequence[int]]] = {"velocity": (np.float32, self._shape)}
        self._check_step(step, self._step, ends, velocity)
        self._guided: ort.InferenceSession | None = None
        if manifest.graphs.step_guided is not None:
            path = bundle.path(manifest.graphs.step_guided)
            self._guided = _session(path, provider, count)
            ends |= {"target": (np.float32, self._shape), "weights": (np.float32, rows)}
            self._check_step(path, self._guided, ends, {**velocity, "correction": (np.float32, self._shape)})
        self.reset()

    def _check_step(
        self,
        path: Path,
        session: ort.InferenceSession,
        ends: Mapping[str, tuple[Any, Sequence[int]]],
        outputs: Mapping[str, tuple[Any, Sequence[int]]],
    ) -> None:
        inputs = {item.name: item for item in session.get_inputs()}
        if set(inputs) != {*self._context, *ends}:
            raise BundleError(
                f"{path}: inputs {sorted(inputs)}, expected the prefix graph's outputs "
                f"{sorted(self._context)} with {', '.join(ends)}; export the bundle again"
            )
        _check(path, "input", [inputs[name] for name in ends], ends)
        _check(path, "output", session.get_outputs(), outputs)

    @property
    def rtc(self) -> Literal["none", "guided", "prefix"]:
        """The kind of real-time chunking that `infer` can do."""
        return self._sampler.rtc

    @property
    def providers(self) -> list[str]:
        """What onnxruntime says the step graph runs on, first choice first."""
        return list(self._step.get_providers())

    def reset(self) -> None:
        """Start the noise anew from the manifest's seed, so that a run can be repeated."""
        self._noise = np.random.default_rng(self._sampler.noise_seed)

    def noise(self) -> NDArray[np.float32]:
        """The next chunk's noise, float32 [H, K], standard normal."""
        return self._noise.standard_normal(self._shape[1:], dtype=np.float32)

    def infer(
        self,
        inputs: Mapping[str, NDArray[Any]],
        noise: NDArray[np.float32] | None = None,
        guidance: Guidance | None = None,
    ) -> RawChunk:
        """One chunk. inputs: the prefix graph's. noise: float32 [H, K]; the next of the seed if None.

        guidance: what the chunk has to agree with (`vla_ros.policy.rtc.make_guidance`); ValueError where the
        bundle has no real-time chunking.
        Raises Refused: "shape" or "nan" when the network returns what cannot be a chunk.
        """
        if guidance is not None and self.rtc == "none":
            raise ValueError("guidance for a policy without real-time chunking (manifest: sampler.rtc: none)")
        context = dict(zip(self._context, self._prefix.run(None, dict(inputs)), strict=True))
        start = self.noise() if noise is None else noise
        x = np.array(start, dtype=np.float32).reshape(self._shape)
        steps = self._sampler.steps
        frozen, prefix = 0, x[0, :0]
        if guidance is not None and self._sampler.prefix_rows is not None:
            frozen = min(guidance.frozen, self._sampler.prefix_rows)
            prefix = guidance.target[:frozen]
        for index in range(steps):
            x[:, :frozen] = prefix
            velocity = self._velocity(context, x, index / steps, frozen, guidance)
            if velocity.shape != self._shape:
                raise Refused("shape", f"the network returned {velocity.shape}, expected {self._shape}")
            with np.errstate(invalid="ignore", over="ignore"):  # looked at below
                x += velocity.astype(np.float32, copy=False) / np.float32(steps)
        x[:, :frozen] = prefix
        if not np.isfinite(x).all():
            raise Refused("nan", f"the network returned {int((~np.isfinite(x)).sum())} values not finite")
        return RawChunk(values=x[0])

    def _velocity(
        self,
        context: Mapping[str, NDArray[Any]],
        x: NDArray[np.float32],
        t: float,
        frozen: int,
        guidance: Guidance | None,
    ) -> NDArray[np.float32]:
        feeds: dict[str, Any] = {**context, "x": x, "t": np.array([t], dtype=np.float32)}
        if self.rtc == "prefix":
            feeds["t"] = np.full(self._shape[:2], t, dtype=np.float32)
            feeds["t"][:, :frozen] = 1.0
        if guidance is None or self._guided is None:
            return np.asarray(self._step.run(None, feeds)[0])
        feeds |= {"target": guidance.target[None], "weights": guidance.weights[None]}
        velocity, correction = self._guided.run(["velocity", "correction"], feeds)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(velocity + np.float32(guidance_weight(t, self._sampler.steps)) * correction)

    def warm_up(self) -> None:
        """Run once on blank input, so that the first real chunk is as fast as the others.

        The seeded noise is left untouched. What comes out is not looked at.
        """
        inputs: dict[str, NDArray[Any]] = {
            item.name: np.zeros([int(size) for size in item.shape], _TYPES[item.type])
            for item in self._prefix.get_inputs()
        }
        # A blank input may well give nonsense; a real one is judged when it comes.
        blank = np.zeros(self._shape[1:], np.float32)
        with contextlib.suppress(Refused):
            self.infer(inputs, blank)
        if self.rtc != "none":
            with contextlib.suppress(Refused):
                self.infer(inputs, blank, Guidance(blank, np.ones(len(blank), np.float32), 1))


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


def _session(path: Path, provider: Provider, threads: int) -> ort.InferenceSession:
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


def _check(
    path: Path, side: str, found: Sequence[Any], wanted: Mapping[str, tuple[Any, Sequence[int]]]
) -> None:
    """Compare names, types and shapes with what the manifest implies."""
    names = {item.name for item in found}
    if names != set(wanted):
        raise BundleError(
            f"{path}: {side}s {sorted(names)}, the manifest implies {sorted(wanted)}; export the bundle again"
        )
    for item in found:
        kind, shape = wanted[item.name]
        if _TYPES.get(item.type) is not kind or list(item.shape) != list(shape):
            raise BundleError(
                f"{path}: {side} '{item.name}' is {item.type} {list(item.shape)}, the manifest implies "
                f"{np.dtype(kind).name} {list(shape)}; export the bundle again"
            )
