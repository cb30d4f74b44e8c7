"""The manifest's inputs: what the network is shown, and in which form."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from vla_ros.policy.manifest_model import (
    GripperUnit,
    Model,
    PositiveInt,
    Rotation,
    check_arm,
    check_part,
)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
PLACEHOLDERS = ("instruction", "robot_tag", "body", "fps", "chunk_size", "views", "state")


class ImageInput(Model):
    """One camera view. The graph's input `image.<role>` is uint8 [1, height, width, 3] when
    dtype is uint8 (pixel normalisation is then inside the graph), or float32 normalised by
    (x / 255 - mean) / std on the host. `fit`: stretch, or keep the aspect ratio and pad with zeros.

    tag: what the prompt says of this view, in place of `{views}`. optional: trained with the view missing at
    times; where the robot has none it is black, and false in the graph's input `image_mask`, bool [1, V] for
    all V views in order, which exists when any is optional. A view that is not optional is never missing:
    without it there is no observation."""

    role: str
    height: PositiveInt
    width: PositiveInt
    kernel: Literal["nearest", "linear", "cubic", "area"]
    fit: Literal["stretch", "pad_centre", "pad_left_top"]
    colour: Literal["rgb", "bgr"]
    dtype: Literal["uint8", "float32"]
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    tag: str | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _scaled(self) -> ImageInput:
        if (self.dtype == "float32") != (self.mean is not None and self.std is not None):
            raise ValueError("mean and std are needed for float32 images, and only there")
        return self


class Horn(Model):
    """A gripper's linkage: a horn of length `horn_m` turns and pushes the finger by a rod of length `rod_m`.

    The finger's travel l lies between `travel` [closed, open] in m and makes the horn's angle
    asin((horn^2 + l^2 - rod^2) / (2 horn l)); the value is that angle on the straight line that is 0 and 1 at
    `angle`, rad. So openpi's `adapt_to_pi` shows ALOHA's gripper to pi0 (src/openpi/policies/aloha_policy.py,
    `_gripper_to_angular`): travel 0.01844 to 0.05800, horn 0.022, rod 0.036, angle 0.5476 to 1.6296.
    """

    travel: tuple[Positive, Positive]
    horn_m: Positive
    rod_m: Positive
    angle: tuple[float, float]

    @model_validator(mode="after")
    def _turns(self) -> Horn:
        for travel in self.travel:
            sine = (self.horn_m**2 + travel**2 - self.rod_m**2) / (2 * self.horn_m * travel)
            if abs(sine) > 1 + 1e-9:  # openpi's open gripper is where the horn reaches furthest, at 1
                raise ValueError(
                    f"travel: a horn of {self.horn_m} m and a rod of {self.rod_m} m never reach {travel}"
                )
        if self.travel[0] >= self.travel[1] or self.angle[0] == self.angle[1]:
            raise ValueError(
                f"travel {self.travel} or angle {self.angle}: expected [closed, open], further apart"
            )
        return self


class StateSlice(Model):
    """A part of the state vector, in order. `signal` of arm slot `arm` (a role: the robot's arms are
    matched in order).

    joint_position  rad, times `signs` (1 or -1 for each joint) where the policy counts joints the other way
    tcp_position    of the tool frame in the arm's base frame, m
    tcp_rotation    likewise, in the form `rotation`, with the axes of the manifest's `tool_rotations`
    gripper         as the unit `gripper` says, or through a linkage, `horn`
    base_velocity   forward m/s and turning rad/s, as measured; belongs to no arm
    padding         zeros after normalisation; belongs to no arm
    """

    arm: str | None = None
    signal: Literal[
        "joint_position", "tcp_position", "tcp_rotation", "gripper", "base_velocity", "padding"
    ]  # fmt: skip
    size: PositiveInt
    signs: list[Literal[-1, 1]] | None = None
    rotation: Rotation | None = None
    gripper: GripperUnit | None = None
    horn: Horn | None = None

    @property
    def form(self) -> list[str]:
        """In which form the values are, in words."""
        found = [f"{self.rotation}"] if self.rotation else []
        found += [self.gripper.unit] if self.gripper else []
        found += ["through a horn"] if self.horn else []
        found += [f"signs {self.signs}"] if self.signs else []
        return found

    @model_validator(mode="after")
    def _fits(self) -> StateSlice:
        check_part(self.signal, self.size, self.rotation)
        check_arm(self.signal, self.arm)
        units = sum(unit is not None for unit in (self.gripper, self.horn))
        if units != (self.signal == "gripper"):
            raise ValueError(
                "gripper (the unit) or horn is needed for a gripper, one of them, and only there"
            )
        if self.signs is not None and (self.signal != "joint_position" or len(self.signs) != self.size):
            raise ValueError("signs are for joint_position, one for each joint")
        return self


class History(Model):
    """A window of the last `frames` observations, `stride_s` seconds apart, the last being the present.

    of: what the graph gets for all of them, oldest first: `images` makes each image's input
    [1, H, height, width, 3], `state` makes the state's [1, H, S]. The graph then has an input `history_mask`
    too, bool [1, H], true where an observation is real.
    before: what is done until there are H of them: `repeat_first` repeats the first one, not real in the
    mask; `refuse` makes no observation until then.
    """

    # Neither is a limit of the runtime: a stride in milliseconds, or a window that needs gigabytes of images.
    frames: Annotated[int, Field(ge=2, le=64)]
    stride_s: Annotated[float, Field(gt=0, le=5, allow_inf_nan=False)]
    of: Annotated[list[Literal["images", "state"]], Field(min_length=1)]
    before: Literal["repeat_first", "refuse"]

    @property
    def past_s(self) -> float:
        """How far back the window reaches."""
        return (self.frames - 1) * self.stride_s


class Prompt(Model):
    """`template` holds `{instruction}`; the text is lower-cased if `lowercase`, tokenised by
    `tokenizer` (a file of the bundle, Hugging Face tokenizers JSON) and padded with `pad_id` to
    `max_tokens` on the right. A longer prompt is refused.

    The template may also hold (see `vla_ros.policy.prompt`) `{robot_tag}` (`robot_tag` here: the name that
    the training data gave this robot), `{body}` (single arm or dual arms, and a mobile base if there is one,
    from the robot's YAML), `{fps}` and `{chunk_size}` (from outputs), `{views}` (the images' tags in order)
    and `{state}` (the normalised state in 256 bins; the graph then has no input `state`)."""

    template: str
    robot_tag: str | None = None
    tokenizer: str
    max_tokens: PositiveInt
    pad_id: int
    lowercase: bool

    @property
    def holds(self) -> frozenset[str]:
        """Names of the placeholders in the template."""
        return frozenset(PLACEHOLDER.findall(self.template))

    @model_validator(mode="after")
    def _has_place(self) -> Prompt:
        if self.template.count("{instruction}") != 1:
            raise ValueError("template: holds {instruction} exactly once")
        unknown = sorted(self.holds - set(PLACEHOLDERS))
        if unknown:
            raise ValueError(f"template: knows {', '.join(PLACEHOLDERS)}, not {', '.join(unknown)}")
        if ("robot_tag" in self.holds) != (self.robot_tag is not None):
            raise ValueError("robot_tag is needed where the template holds {robot_tag}, and only there")
        return self


class Inputs(Model):
    """What the first graph takes; `tensors` lists it.

    state: its slices in order; a policy without has `state: []`. state_width: the state is zero-padded to
    this width after it was normalised; state_mask: the graph has an input `state_mask`, bool [1, width],
    true where the state is no padding. proprioception: `measured`, or `last_prediction` for a policy that was
    run with its own last target in place of the measured state; the first chunk gets the measured one.
    prompt: left out for a policy without language, such as ACT; the graph then has no input `tokens`.
    history: 1 is the present alone. domain_id: X-VLA's embodiment id (arXiv 2510.10274), the graph's input
    `domain_id`, int64 [1].
    """

    images: list[ImageInput]
    state: list[StateSlice]
    state_width: PositiveInt | None = None
    state_mask: bool = False
    proprioception: Literal["measured", "last_prediction"] = "measured"
    prompt: Prompt | None = None
    history: Literal[1] | History
    domain_id: Annotated[int, Field(ge=0)] | None = None

    @property
    def state_size(self) -> int:
        """Width of the state vector, before it is padded to `state_width`."""
        return sum(part.size for part in self.state)

    @property
    def state_is_real(self) -> NDArray[np.bool_]:
        """bool [width the graph gets]: False where the state is padding."""
        real = [part.signal != "padding" for part in self.state for _ in range(part.size)]
        return np.array([*real, *[False] * ((self.state_width or 0) - len(real))], dtype=bool)

    @property
    def tells_base_velocity(self) -> bool:
        """Whether the state holds how fast the base moves."""
        return any(part.signal == "base_velocity" for part in self.state)

    @property
    def window(self) -> History | None:
        """The history, where the policy sees more than the present."""
        return None if self.history == 1 else self.history

    @property
    def state_in_prompt(self) -> bool:
        """Whether the state is a part of the prompt's text, and no input of the graph."""
        return "state" in self.prompt_holds

    @property
    def prompt_holds(self) -> frozenset[str]:
        """Names of the placeholders in the prompt's template; none where there is no prompt."""
        return frozenset() if self.prompt is None else self.prompt.holds

    @property
    def any_optional(self) -> bool:
        """Whether the graph has an input `image_mask`."""
        return any(image.optional for image in self.images)

    @property
    def tensors(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """{input of the first graph: (numpy dtype, shape)}."""
        window = self.window
        frames = {what: (window.frames,) for what in window.of} if window else {}
        found: dict[str, tuple[str, tuple[int, ...]]] = {
            f"image.{image.role}": (
                image.dtype,
                (1, *frames.get("images", ()), image.height, image.width, 3),
            )
            for image in self.images
        }
        if self.prompt is not None:
            found["tokens"] = ("int64", (1, self.prompt.max_tokens))
        width = self.state_width or self.state_size
        if self.state and not self.state_in_prompt:
            found["state"] = ("float32", (1, *frames.get("state", ()), width))
        if self.state_mask:
            found["state_mask"] = ("bool", (1, width))
        if self.any_optional:
            found["image_mask"] = ("bool", (1, len(self.images)))
        if window:
            found["history_mask"] = ("bool", (1, window.frames))
        if self.domain_id is not None:
            found["domain_id"] = ("int64", (1,))
        return found

    @model_validator(mode="after")
    def _distinct(self) -> Inputs:
        roles = [image.role for image in self.images]
        if len(set(roles)) != len(roles):
            raise ValueError(f"images: a role appears twice in {roles}")
        return self

    @model_validator(mode="after")
    def _views_named(self) -> Inputs:
        tagged = [image.role for image in self.images if image.tag is not None]
        if "views" in self.prompt_holds:
            untagged = [image.role for image in self.images if image.tag is None]
            if untagged:
                raise ValueError(f"images: {untagged} need a tag, as prompt.template holds {{views}}")
            if self.any_optional:
                raise ValueError(
                    "images: what {views} says of a missing view is not defined; none may be optional"
                )
        elif tagged:
            raise ValueError(f"images: {tagged} have a tag, but prompt.template holds no {{views}}")
        return self

    @model_validator(mode="after")
    def _some_view_is_always_there(self) -> Inputs:
        if self.images and all(image.optional for image in self.images):
            raise ValueError(
                "images: an observation's time is that of its images, so one must not be optional"
            )
        return self

    @model_validator(mode="after")
    def _state_fits(self) -> Inputs:
        if self.state_width is not None and self.state_width < self.state_size:
            raise ValueError(
                f"state_width: {self.state_width} is less than the {self.state_size} of the slices"
            )
        window = self.window
        of_state = window is not None and "state" in window.of
        for key, said in {
            "state_width": self.state_width is not None,
            "state_mask": self.state_mask,
            "history.of: state": of_state,
        }.items():
            if said and (self.state_in_prompt or not self.state):
                raise ValueError(f"{key}: the graph has no input state")
        if self.state_in_prompt and not self.state:
            raise ValueError("prompt.template holds {state}, but there is none: state is empty")
        if self.proprioception == "last_prediction" and (of_state or not self.state):
            raise ValueError(
                "proprioception: the last prediction stands for one state, not for none or for several"
            )
        return self
