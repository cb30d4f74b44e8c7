"""RawChunk from the bundle's ONNX graphs with onnxruntime.

sampler.kind: flow_matching: the graph `prefix` once, then steps from noise (`vla_ros.policy.flow_sampler`).
    `image.<role>`, `tokens`, `state` and what else the manifest's inputs declare (`Inputs.tensors`) ->
    context tensors of any names.
sampler.kind: tokens or regression: the graph of that name once. The same inputs -> `action_tokens` int64
    [1, H, K], the ids as the language model's tokenizer counts them, or `action` float32 [1, H, K], the
    normalised chunk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import Refused
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.flow_sampler import FlowSampler
from vla_ros.policy.manifest import FlowMatching
from vla_ros.policy.onnx_session import TYPES, Provider, check_ends, open_session, refuse_two_runtimes
from vla_ros.policy.rtc import Guidance
from vla_ros.types import RawChunk

# {sampler.kind of one graph: its output (name, type)}
CHUNK = {"tokens": ("action_tokens", np.int64), "regression": ("action", np.float32)}


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
        self._kind, self._rtc = manifest.sampler.kind, manifest.sampler.rtc
        count = threads or max(1, (os.cpu_count() or 1) // 2)
        first = bundle.path(manifest.first_graph)
        self._first = open_session(first, provider, count)
        wanted: dict[str, tuple[Any, Sequence[int]]] = {
            name: (np.dtype(kind).type, shape) for name, (kind, shape) in manifest.inputs.tensors.items()
        }
        check_ends(first, "input", self._first.get_inputs(), wanted)
        self._outputs = [output.name for output in self._first.get_outputs()]
        self._flow: FlowSampler | None = None
        if isinstance(manifest.sampler, FlowMatching):
            self._flow = FlowSampler(bundle, manifest.sampler, self._outputs, provider, count)
        else:
            name, kind = CHUNK[self._kind]
            check_ends(first, "output", self._first.get_outputs(), {name: (kind, self._shape)})

    @property
    def rtc(self) -> Literal["none", "guided", "prefix"]:
        """The kind of real-time chunking that `infer` can do."""
        return self._rtc

    @property
    def providers(self) -> list[str]:
        """What onnxruntime says the network runs on, first choice first."""
        return list(self._first.get_providers())

    def reset(self) -> None:
        """Start the noise anew from the manifest's seed, so that a run can be repeated (flow matching)."""
        if self._flow is not None:
            self._flow.reset()

    def noise(self) -> NDArray[np.float32] | None:
        """The next chunk's noise, float32 [H, K], standard normal; None but for flow matching."""
        return None if self._flow is None else self._flow.noise()

    def infer(
        self,
        inputs: Mapping[str, NDArray[Any]],
        noise: NDArray[np.float32] | None = None,
        guidance: Guidance | None = None,
    ) -> RawChunk:
        """One chunk. inputs: the first graph's. noise: float32 [H, K]; the next of the seed if None.

        guidance: what the chunk has to agree with (`vla_ros.policy.rtc.make_guidance`).
        Raises Refused: "shape" or "nan" when the network returns what cannot be a chunk (whether tokens are
        actions is seen when they are decoded), and ValueError for guidance where the bundle has no real-time
        chunking or noise where the sampler is not flow matching.
        """
        if guidance is not None and self.rtc == "none":
            raise ValueError("guidance for a policy without real-time chunking (manifest: sampler.rtc: none)")
        if noise is not None and self._flow is None:
            raise ValueError(f"noise for a policy that starts from none (sampler.kind: {self._kind})")
        outputs = dict(zip(self._outputs, self._first.run(None, dict(inputs)), strict=True))
        if self._flow is not None:
            return RawChunk(self._flow.sample(outputs, noise, guidance))
        (chunk,) = outputs.values()
        if chunk.shape != self._shape:
            raise Refused("shape", f"the network returned {chunk.shape}, expected {self._shape}")
        if not np.isfinite(chunk).all():
            raise Refused("nan", f"the network returned {int((~np.isfinite(chunk)).sum())} values not finite")
        return RawChunk(chunk[0].astype(np.float32))

    def warm_up(self) -> None:
        """Run once on blank input, so that the first real chunk is as fast as the others.

        The seeded noise is left untouched. What comes out is not looked at.
        """
        inputs: dict[str, NDArray[Any]] = {
            item.name: np.zeros([int(size) for size in item.shape], TYPES[item.type])
            for item in self._first.get_inputs()
        }
        # A blank input may well give nonsense; a real one is judged when it comes.
        blank = np.zeros(self._shape[1:], np.float32)
        with contextlib.suppress(Refused):
            self.infer(inputs, None if self._flow is None else blank)
        if self.rtc != "none":
            with contextlib.suppress(Refused):
                self.infer(inputs, blank, Guidance(blank, np.ones(len(blank), np.float32), 1))
