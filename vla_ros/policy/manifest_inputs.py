"""The manifest's inputs: what the network is shown, and in which form."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from vla_ros.policy.manifest_model import Model, PositiveInt, Rot6d, check_slice


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
        check_slice(self.signal, self.size, self.rot6d)
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
