"""The manifest of a policy bundle, `policy.yaml`: everything a runtime must know, declared.

Nothing here is inferred from the weights. `vla_ros.policy.bundle` reads, verifies and writes bundles.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

SCHEMA_VERSION = 2
PositiveInt = Annotated[int, Field(gt=0)]
Rot6d = Literal["columns", "columns_interleaved", "rows"]

# Values per signal; joint positions have as many as the arm has joints.
SIGNAL_SIZES = {"tcp_position": 3, "tcp_rot6d": 6, "gripper": 1, "gripper_width": 1}


def _check_slice(signal: str, size: int, rot6d: str | None) -> None:
    """Raise ValueError when a slice's size or rotation layout does not fit its signal."""
    expected = SIGNAL_SIZES.get(signal, size)
    if size != expected:
        raise ValueError(f"{signal} has {expected} values, not {size}")
    if (signal == "tcp_rot6d") != (rot6d is not None):
        raise ValueError("rot6d (the layout) is needed for tcp_rot6d, and only there")


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ImageInput(Model):
    """One camera view. The graph's input `image.<role>` is uint8 [1, height, width, 3] when
    dtype is uint8 (pixel normalisation is then inside the graph), or float32 normalised by
    (x / 255 - mean) / std on the host. `fit`: stretch, or keep the aspect ratio and pad with zeros."""

    role: str
    height: PositiveInt
    width: PositiveInt
    kernel: Literal["nearest", "linear", "cubic", "area"]
    fit: Literal["stretch", "pad_centre", "pad_left_top"]
    colour: Literal["rgb", "bgr"]
    dtype: Literal["uint8", "float32"]
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None

    @model_validator(mode="after")
    def _scaled(self) -> ImageInput:
        if (self.dtype == "float32") != (self.mean is not None and self.std is not None):
            raise ValueError("mean and std are needed for float32 images, and only there")
        return self


class StateSlice(Model):
    """A part of the state vector, in order. `signal` of arm slot `arm` (a role: the robot's arms are
    matched in order)."""

    arm: str
    signal: Literal["joint_position", "tcp_position", "tcp_rot6d", "gripper_width"]
    rot6d: Rot6d | None = None
    size: PositiveInt

    @model_validator(mode="after")
    def _fits(self) -> StateSlice:
        _check_slice(self.signal, self.size, self.rot6d)
        return self


class Prompt(Model):
    """`template` holds `{instruction}`; the text is lower-cased if `lowercase`, tokenised by
    `tokenizer` (a file of the bundle, Hugging Face tokenizers JSON) and padded with `pad_id` to
    `max_tokens` on the right. A longer prompt is refused."""

    template: str
    tokenizer: str
    max_tokens: PositiveInt
    pad_id: int
    lowercase: bool

    @model_validator(mode="after")
    def _has_place(self) -> Prompt:
        if self.template.count("{instruction}") != 1:
            raise ValueError("template: holds {instruction} exactly once")
        return self


class Inputs(Model):
    images: list[ImageInput]
    state: list[StateSlice]
    prompt: Prompt
    history: Literal[1]

    @property
    def state_size(self) -> int:
        """Width of the state vector."""
        return sum(part.size for part in self.state)

    @model_validator(mode="after")
    def _distinct(self) -> Inputs:
        roles = [image.role for image in self.images]
        if len(set(roles)) != len(roles):
            raise ValueError(f"images: a role appears twice in {roles}")
        return self


class ActionSlice(Model):
    """A part of an action row. `reference` for tool poses: `eef_relative` is T0^-1 * Tk with T0 the
    measured pose at the observation's time; `absolute` is in the arm's base frame."""

    arm: str
    signal: Literal["tcp_position", "tcp_rot6d", "gripper", "joint_position"]
    size: PositiveInt
    reference: Literal["eef_relative", "absolute"]
    rot6d: Rot6d | None = None

    @model_validator(mode="after")
    def _fits(self) -> ActionSlice:
        _check_slice(self.signal, self.size, self.rot6d)
        if self.reference == "eef_relative" and not self.signal.startswith("tcp_"):
            raise ValueError(f"{self.signal} cannot be eef_relative")
        return self


class GripperRule(Model):
    """A gripper value v in [0, 1] with 1 = open when `open_is` is 1. It switches to open above
    `threshold + hysteresis` and to closed below `threshold - hysteresis`, else it stays."""

    open_is: Literal[0, 1]
    threshold: float
    hysteresis: Annotated[float, Field(ge=0)]


class Outputs(Model):
    """horizon rows, dt_s apart; row k (from 0) is due at stamp + (k + first_step) * dt_s."""

    horizon: PositiveInt
    dt_s: Annotated[float, Field(gt=0)]
    first_step: Literal[0, 1]
    action: list[ActionSlice]
    gripper: GripperRule

    @property
    def size(self) -> int:
        """K, the width of one action row."""
        return sum(part.size for part in self.action)


class Normalisation(Model):
    """q01/q99 to [-1, 1] where the statistics' `mask` is true; `clip_state`, `clip_action`: clip the
    normalised value to [-1, 1] before use. `key`: the unnorm_key in `file`."""

    kind: Literal["q01_q99"]
    file: str
    key: str
    clip_state: bool
    clip_action: bool


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


class Graphs(Model):
    """prefix: observation -> context tensors; step: (context tensors, x, t) -> velocity; step_guided:
    (context tensors, x, t, target, weights) -> velocity, correction (see `vla_ros.policy.onnx_backend`)."""

    prefix: str
    step: str
    step_guided: str | None = None


class LatencyMeasured(Model):
    """Inference time measured at export, in ms, on `device`."""

    device: str
    p50_ms: float
    p99_ms: float


class Manifest(Model):
    schema_version: Literal[2]
    name: str
    embodiment: str
    arms: Annotated[list[str], Field(min_length=1)]
    inputs: Inputs
    outputs: Outputs
    normalisation: Normalisation
    sampler: FlowMatching
    graphs: Graphs
    parity: str
    latency: LatencyMeasured
    sha256: dict[str, str]

    @property
    def files(self) -> dict[str, str]:
        """{manifest key: name of the file it needs}."""
        guided = {"graphs.step_guided": self.graphs.step_guided} if self.graphs.step_guided else {}
        return {
            "graphs.prefix": self.graphs.prefix,
            "graphs.step": self.graphs.step,
            **guided,
            "normalisation.file": self.normalisation.file,
            "inputs.prompt.tokenizer": self.inputs.prompt.tokenizer,
            "parity": self.parity,
        }

    @model_validator(mode="after")
    def _rtc_possible(self) -> Manifest:
        if (self.sampler.rtc == "guided") != (self.graphs.step_guided is not None):
            raise ValueError("graphs.step_guided is needed for sampler.rtc: guided, and only there")
        rows, horizon = self.sampler.prefix_rows, self.outputs.horizon
        if rows is not None and rows >= horizon:
            raise ValueError(f"sampler.prefix_rows: {rows} leaves none of the {horizon} rows to be inferred")
        return self

    @model_validator(mode="after")
    def _arms_declared(self) -> Manifest:
        used = {part.arm for part in self.inputs.state} | {part.arm for part in self.outputs.action}
        if not used <= set(self.arms):
            raise ValueError(f"arms: {self.arms} lacks {sorted(used - set(self.arms))}, which slices use")
        return self
