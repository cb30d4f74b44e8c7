"""The manifest of a policy bundle, `policy.yaml`: everything a runtime must know, declared.

Nothing here is inferred from the weights. `vla_ros.policy.bundle` reads, verifies and writes bundles.
"""

from __future__ import annotations

import itertools
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from vla_ros.policy.manifest_inputs import Inputs
from vla_ros.policy.manifest_model import Model, PositiveInt, RotationMatrix
from vla_ros.policy.manifest_normalisation import Normalisation
from vla_ros.policy.manifest_outputs import Outputs
from vla_ros.types import FloatArray

SCHEMA_VERSION = 3


class FlowMatching(Model):
    """x goes from noise at t = 0 to data at t = 1 (direction `noise_to_data`) in `steps` equal Euler
    steps: x += v(x, t) / steps, accumulated in float32 on the host.

    rtc: real-time chunking (`vla_ros.policy.rtc`): `none`; `guided`, with the graph `step_guided`; or
    `prefix`: trained with up to `prefix_rows` frozen rows, and the step graph takes a time per row."""

    kind: Literal["flow_matching"]
    direction: Literal["noise_to_data"]
    steps: PositiveInt
    noise_seed: int
    rtc: Literal["none", "guided", "prefix"]
    prefix_rows: PositiveInt | None = None

    @model_validator(mode="after")
    def _prefix_known(self) -> FlowMatching:
        if (self.rtc == "prefix") != (self.prefix_rows is not None):
            raise ValueError("prefix_rows is needed for rtc: prefix, and only there")
        return self


class OneGraph(Model):
    """One graph, run once, gives the whole chunk: there is no noise, and no real-time chunking."""

    rtc: Literal["none"] = "none"

    @field_validator("rtc", mode="before")
    @classmethod
    def _no_rtc(cls, rtc: object) -> object:
        if rtc != "none":
            raise ValueError(
                "the graph gives the chunk in one go, so there are no steps to guide towards the chunk "
                "before: real-time chunking needs kind: flow_matching; leave rtc out"
            )
        return rtc


class Tokens(OneGraph):
    """A language model's action tokens. The graph `tokens` chooses them, each by its largest logit; how it
    gets to all of them, one after the other or at once, is the exporter's work. What they stand for is
    `normalisation.action.bins`. A token that is no action is refused, not clipped (`vla_ros.action.bins`)."""

    kind: Literal["tokens"]


class Regression(OneGraph):
    """The graph `regression` gives the normalised chunk itself: ACT, the MLP, LSTM and GPT heads of RoboVLMs,
    OpenVLA-OFT. What it draws in training (ACT's latent) is fixed in the graph as in the project's own
    inference, such as zero."""

    kind: Literal["regression"]


# {sampler.kind: the graphs that it needs, and no other but step_guided}; the first runs once per observation.
GRAPHS = {"flow_matching": ("prefix", "step"), "tokens": ("tokens",), "regression": ("regression",)}


class Graphs(Model):
    """Which there are is said by sampler.kind; see `vla_ros.policy.onnx_backend`.

    flow_matching  prefix: observation -> context tensors; step: (context tensors, x, t) -> velocity;
                   step_guided: (context tensors, x, t, target, weights) -> velocity, correction
    tokens         tokens: observation -> action_tokens
    regression     regression: observation -> action
    """

    prefix: str | None = None
    step: str | None = None
    step_guided: str | None = None
    tokens: str | None = None
    regression: str | None = None


class LatencyMeasured(Model):
    """Inference time measured at export, in ms, on `device`."""

    device: str
    p50_ms: float
    p99_ms: float


class Manifest(Model):
    """tool_rotations: {arm role: the axes of the policy's tool frame as columns, in the robot's tool frame},
    for policies that were trained with other tool axes; both have the same origin. Every tool rotation that
    the policy sees or gives is R of the robot times this (and what refers to tool axes, to those). Bridge's
    state is R times its default_rot transposed."""

    schema_version: Literal[3]
    name: str
    embodiment: str
    arms: Annotated[list[str], Field(min_length=1)]
    tool_rotations: dict[str, RotationMatrix] = Field(default_factory=dict)
    inputs: Inputs
    outputs: Outputs
    normalisation: Normalisation
    sampler: Annotated[FlowMatching | Tokens | Regression, Field(discriminator="kind")]
    graphs: Graphs
    parity: str
    latency: LatencyMeasured
    sha256: dict[str, str]

    def tool_rotation(self, arm: str) -> FloatArray:
        """[3, 3], the identity where nothing is declared; see `tool_rotations`."""
        return np.array(self.tool_rotations.get(arm, np.eye(3)))

    @property
    def files(self) -> dict[str, str]:
        """{manifest key: name of the file it needs}."""
        prompt = self.inputs.prompt
        return {
            **{f"graphs.{key}": name for key, name in self.graphs.model_dump(exclude_none=True).items()},
            **self.normalisation.files,
            **({} if prompt is None else {"inputs.prompt.tokenizer": prompt.tokenizer}),
            "parity": self.parity,
        }

    @property
    def first_graph(self) -> str:
        """File of the graph that runs once per observation."""
        return str(getattr(self.graphs, GRAPHS[self.sampler.kind][0]))

    @model_validator(mode="after")
    def _graphs_fit(self) -> Manifest:
        kind = self.sampler.kind
        for name in itertools.chain(*GRAPHS.values()):
            needed = name in GRAPHS[kind]
            if needed != (getattr(self.graphs, name) is not None):
                raise ValueError(f"graphs.{name} is {'needed' if needed else 'not'} for sampler.kind: {kind}")
        if (kind == "tokens") != (self.normalisation.action.bins is not None):
            raise ValueError("normalisation.action.bins is needed for sampler.kind: tokens, and only there")
        if (self.sampler.rtc == "guided") != (self.graphs.step_guided is not None):
            raise ValueError("graphs.step_guided is needed for sampler.rtc: guided, and only there")
        return self

    @model_validator(mode="after")
    def _prefix_leaves_rows(self) -> Manifest:
        rows = self.sampler.prefix_rows if isinstance(self.sampler, FlowMatching) else None
        horizon = self.outputs.horizon
        if rows is not None and rows >= horizon:
            raise ValueError(f"sampler.prefix_rows: {rows} leaves none of the {horizon} rows to be inferred")
        return self

    @model_validator(mode="after")
    def _arms_declared(self) -> Manifest:
        used = {part.arm for part in self.inputs.state if part.arm is not None}
        used |= {part.arm for part in self.outputs.action if part.arm is not None}
        used |= set(self.tool_rotations)
        if not used <= set(self.arms):
            raise ValueError(
                f"arms: {self.arms} lacks {sorted(used - set(self.arms))}, which slices or tool_rotations use"
            )
        return self

    @model_validator(mode="after")
    def _fed_back_is_predicted(self) -> Manifest:
        if self.inputs.proprioception == "last_prediction":
            predicted = {(part.arm, part.signal) for part in self.outputs.action}
            for part in self.inputs.state:
                if part.signal != "padding" and (part.arm, part.signal) not in predicted:
                    name = f"{part.arm}.{part.signal}" if part.arm else part.signal
                    raise ValueError(
                        f"inputs.proprioception: {name} is not predicted, so the last prediction cannot "
                        f"stand for it"
                    )
        return self
