"""A chunk out of noise by flow matching: N Euler steps of the bundle's step graph.

Step: the prefix graph's outputs, `x` float32 [1, H, K], `t` float32 [1] -> `velocity` float32 [1, H, K].
Where the manifest says rtc: prefix, `t` is float32 [1, H], a time per row: 1 for the frozen ones.
Guided step (rtc: guided): also `target` [1, H, K] and `weights` [1, H] -> `velocity` and `correction`
[1, H, K], the product (target - f) diag(weights) df/dx with f = x + (1 - t) velocity, the chunk that this
step expects.
The Euler accumulator stays in float32 on the host whatever precision the graphs run in: with a
half-precision one the error of the chunk grows tenfold and more (jetson-ai-lab PR 368; measured
0.002 against 0.074 in bf16).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from vla_ros.errors import BundleError, Refused
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.manifest import FlowMatching
from vla_ros.policy.onnx_session import Ends, Provider, check_ends, open_session
from vla_ros.policy.rtc import Guidance, guidance_weight


class FlowSampler:
    """The step graphs, loaded and checked against the manifest, with the seeded noise."""

    def __init__(
        self, bundle: Bundle, declared: FlowMatching, context: Sequence[str], provider: Provider, threads: int
    ) -> None:
        """declared: the manifest's sampler; context: names of the prefix graph's outputs. Errors as
        `OnnxPolicy`'s."""
        manifest = bundle.manifest
        self._declared, self._context = declared, context
        self._shape = (1, manifest.outputs.horizon, manifest.outputs.size)
        rows = self._shape[:2]
        step = bundle.path(str(manifest.graphs.step))
        self._step = open_session(step, provider, threads)
        ends: dict[str, tuple[Any, Sequence[int]]] = {
            "x": (np.float32, self._shape),
            "t": (np.float32, rows if declared.rtc == "prefix" else (1,)),
        }
        velocity: dict[str, tuple[Any, Sequence[int]]] = {"velocity": (np.float32, self._shape)}
        self._check(step, self._step, ends, velocity)
        self._guided: ort.InferenceSession | None = None
        if manifest.graphs.step_guided is not None:
            path = bundle.path(manifest.graphs.step_guided)
            self._guided = open_session(path, provider, threads)
            ends |= {"target": (np.float32, self._shape), "weights": (np.float32, rows)}
            self._check(path, self._guided, ends, {**velocity, "correction": (np.float32, self._shape)})
        self.reset()

    def _check(self, path: Path, session: ort.InferenceSession, ends: Ends, outputs: Ends) -> None:
        inputs = {item.name: item for item in session.get_inputs()}
        if set(inputs) != {*self._context, *ends}:
            raise BundleError(
                f"{path}: inputs {sorted(inputs)}, expected the prefix graph's outputs "
                f"{sorted(self._context)} with {', '.join(ends)}; export the bundle again"
            )
        check_ends(path, "input", [inputs[name] for name in ends], ends)
        check_ends(path, "output", session.get_outputs(), outputs)

    def reset(self) -> None:
        """Start the noise anew from the manifest's seed, so that a run can be repeated."""
        self._noise = np.random.default_rng(self._declared.noise_seed)

    def noise(self) -> NDArray[np.float32]:
        """The next chunk's noise, float32 [H, K], standard normal."""
        return self._noise.standard_normal(self._shape[1:], dtype=np.float32)

    def sample(
        self,
        context: Mapping[str, NDArray[Any]],
        noise: NDArray[np.float32] | None,
        guidance: Guidance | None,
    ) -> NDArray[np.float32]:
        """The chunk, float32 [H, K]. context: {name: what the prefix graph returned}; others as `infer`'s.

        Raises Refused: "shape" or "nan" when the network returns what cannot be a chunk.
        """
        start = self.noise() if noise is None else noise
        x = np.array(start, dtype=np.float32).reshape(self._shape)
        steps = self._declared.steps
        frozen, prefix = 0, x[0, :0]
        if guidance is not None and self._declared.prefix_rows is not None:
            frozen = min(guidance.frozen, self._declared.prefix_rows)
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
        return x[0]

    def _velocity(
        self,
        context: Mapping[str, NDArray[Any]],
        x: NDArray[np.float32],
        t: float,
        frozen: int,
        guidance: Guidance | None,
    ) -> NDArray[np.float32]:
        feeds: dict[str, Any] = {**context, "x": x, "t": np.array([t], dtype=np.float32)}
        if self._declared.rtc == "prefix":
            feeds["t"] = np.full(self._shape[:2], t, dtype=np.float32)
            feeds["t"][:, :frozen] = 1.0
        if guidance is None or self._guided is None:
            return np.asarray(self._step.run(None, feeds)[0])
        feeds |= {"target": guidance.target[None], "weights": guidance.weights[None]}
        velocity, correction = self._guided.run(["velocity", "correction"], feeds)
        with np.errstate(invalid="ignore", over="ignore"):
            return np.asarray(velocity + np.float32(guidance_weight(t, self._declared.steps)) * correction)
