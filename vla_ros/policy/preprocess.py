"""Observation -> the first graph's inputs, by the bundle's rules and nothing else.

Parity with training wins over speed: which resize kernel, fit, colour order, rotation layout and clipping
are all the manifest's. OpenCV does the resizing; kernels of the same name in PIL or torch differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.action.normalise import normalise
from vla_ros.errors import ContractError, Refused
from vla_ros.observation.history import Window
from vla_ros.observation.proprioception import state_vector
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.manifest_inputs import ImageInput
from vla_ros.policy.prompt import (
    checked_instruction,
    declared_prompt,
    fill,
    fixed_words,
    longest_state_text,
    read_tokenizer,
    refuse_prompt,
    state_text,
    tokenise,
)
from vla_ros.robot.config import Robot
from vla_ros.types import ImageArray, Observation

KERNELS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
Job = Callable[[], None]
Each = Callable[[Callable[[Job], None], Iterable[Job]], Iterable[None]]


def fitted_size(width: int, height: int, spec: ImageInput) -> tuple[int, int, int, int]:
    """(left, top, width, height) of the resized image inside the network's spec.width x spec.height.

    Padding keeps the aspect ratio and rounds down, as openpi's client and lerobot's SmolVLA do.
    """
    if spec.fit == "stretch":
        return 0, 0, spec.width, spec.height
    scale = min(spec.width / width, spec.height / height)
    # A product that is whole but for rounding (480 * 224 / 640) is not cut to the pixel below.
    new_width = max(1, int(width * scale + 1e-6))
    new_height = max(1, int(height * scale + 1e-6))
    left, top = spec.width - new_width, spec.height - new_height
    if spec.fit == "pad_centre":
        left, top = left // 2, top // 2
    return left, top, new_width, new_height


def resize_jobs(rgb: ImageArray, spec: ImageInput, out: ImageArray) -> list[Job]:
    """Calls that together put the resized `rgb` into `out`, uint8 [height, width, 3] of zeros.

    They may run in any order and at once. A picture is cut in two where that changes no pixel: averaging
    (area) a whole number of rows.
    """
    left, top, width, height = fitted_size(rgb.shape[1], rgb.shape[0], spec)
    inside = out[top : top + height, left : left + width]
    cuts = [0, height]
    rows = rgb.shape[0] // height
    if spec.kernel == "area" and rows * height == rgb.shape[0] and height > 1:
        cuts = [0, height // 2, height]
    jobs: list[Job] = []
    for begin, end in itertools.pairwise(cuts):
        part = rgb[begin * rgb.shape[0] // height : end * rgb.shape[0] // height]
        jobs.append(partial(_resize, part, spec, inside[begin:end]))
    return jobs


def _resize(rgb: ImageArray, spec: ImageInput, out: ImageArray) -> None:
    # A BGR message arrives as a view with its channels reversed. OpenCV would copy that whole, so
    # the original is resized and the small result turned round.
    reverse = rgb.strides[2] < 0
    source = rgb[:, :, ::-1] if reverse else rgb
    size, kernel = (out.shape[1], out.shape[0]), KERNELS[spec.kernel]
    if reverse == (spec.colour == "bgr"):
        cv2.resize(source, size, dst=out, interpolation=kernel)
    else:
        out[...] = cv2.resize(source, size, interpolation=kernel)[:, :, ::-1]


def finished(image: ImageArray, spec: ImageInput) -> NDArray[Any]:
    """uint8 [H, height, width, 3] as the graph wants it: the same, or float32 (x / 255 - mean) / std.

    Padding is black in the picture, so it is normalised with it.
    """
    if spec.dtype == "uint8":
        return image
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return (image * (1.0 / (255.0 * std)).astype(np.float32) - mean / std).astype(np.float32, copy=False)


class Preprocessor:
    """`preprocessor(observation)` -> {graph input: array}, as the manifest's `inputs.tensors` lists them.

    Raises ContractError on construction when a role has no camera, an arm role no arm, or the prompt no words
    for this robot.
    """

    def __init__(self, bundle: Bundle, robot: Robot) -> None:
        manifest = bundle.manifest
        self._inputs = inputs = manifest.inputs
        self._tensors = inputs.tensors
        self._real = inputs.state_is_real
        unmapped = [
            image.role
            for image in inputs.images
            if image.role not in robot.policy.cameras and not image.optional
        ]
        if unmapped or len(manifest.arms) > len(robot.arms):
            raise ContractError(
                f"policy '{manifest.name}' does not fit robot '{robot.name}': cameras {unmapped} are not "
                f"mapped under policy.cameras, arms {manifest.arms} against {list(robot.arms)}"
            )
        self._bundle = bundle
        self._cameras = robot.policy.cameras
        self._arms = dict(zip(manifest.arms, robot.arms.items(), strict=False))
        self._tokenizer = None if inputs.prompt is None else read_tokenizer(bundle)
        self._words = fixed_words(manifest, robot)
        self._tokens: tuple[tuple[str, str], NDArray[np.int64]] | None = None

    @property
    def cameras(self) -> list[str]:
        """The robot's cameras that the policy looks at, each once."""
        roles = [spec.role for spec in self._inputs.images if spec.role in self._cameras]
        return list(dict.fromkeys(self._cameras[role] for role in roles))

    @property
    def optional_cameras(self) -> list[str]:
        """Those of them without which the policy can do."""
        roles = [spec.role for spec in self._inputs.images if spec.optional and spec.role in self._cameras]
        return [self._cameras[role] for role in roles]

    def check_prompt(self, prompt: str) -> None:
        """Raise Refused as a call does when the policy could not take this prompt. From any thread."""
        inputs = self._inputs
        self._asked(prompt, longest_state_text(inputs.state_size) if inputs.state_in_prompt else "")

    def _asked(self, prompt: str, state: str) -> dict[str, NDArray[np.int64]]:
        """The input `tokens`; none for a policy without language, which refuses what it is told."""
        if self._tokenizer is None:
            refuse_prompt(self._bundle.manifest, prompt)
            return {}
        return {"tokens": self.tokens(prompt, state)}

    def tokens(self, prompt: str, state: str = "") -> NDArray[np.int64]:
        """int64 [1, T]; the last prompt's are kept. May be called from any thread.

        state: its text, for a template that holds it.
        Raises Refused: "prompt_empty", "prompt_too_long", "prompt_unreadable"; ValueError for a policy
        without language.
        """
        kept = self._tokens
        if kept is None or kept[0] != (prompt, state):
            words = {**self._words, "instruction": checked_instruction(prompt), "state": state}
            manifest = self._bundle.manifest
            text = fill(declared_prompt(manifest).template, words)
            assert self._tokenizer is not None  # as there is a prompt
            kept = ((prompt, state), tokenise(self._tokenizer, manifest, text))
            self._tokens = kept
        return kept[1]

    def state(self, observation: Observation) -> NDArray[np.float32]:
        """float32 [1, S], normalised, padded with zeros to the declared width (padding slices are never
        scaled, so these are zeros too)."""
        vector = state_vector(self._bundle.manifest, self._arms, observation)
        out = np.zeros((1, len(self._real)), np.float32)
        out[0, : len(vector)] = normalise(vector, self._bundle.proprio)
        return out

    def __call__(
        self, observation: Observation, each: Each = map, window: Window | None = None
    ) -> dict[str, NDArray[Any]]:
        """The graph's inputs. `each`: how to go through the jobs, `map` or a parallel one. window: with
        `observation` as its last, for a policy that declares a history.

        Raises Refused: "prompt_empty", "prompt_too_long", "prompt_unreadable", "prompt_not_taken",
        "incomplete"; ValueError where the window is not as declared.
        """
        past = self._past(observation, window)
        declared, seen = self._inputs, past["images"]
        images = [np.zeros((len(seen), spec.height, spec.width, 3), np.uint8) for spec in declared.images]
        there = [self._is_there(spec, seen) for spec in declared.images]
        inputs: dict[str, NDArray[Any]] = {}
        jobs: list[Job] = [lambda: inputs.update(self._told(past["state"], observation.prompt))]
        for spec, present, out in zip(declared.images, there, images, strict=True):
            for frame, before in zip(out, seen if present else (), strict=False):
                jobs += resize_jobs(before.images[self._cameras[spec.role]], spec, frame)
        list(each(_call, jobs))
        for spec, out in zip(declared.images, images, strict=True):
            name = f"image.{spec.role}"
            inputs[name] = finished(out, spec).reshape(self._tensors[name][1])
        if declared.any_optional:
            inputs["image_mask"] = np.array([there])
        if window is not None:
            inputs["history_mask"] = window.real[None]
        return inputs

    def _past(self, observation: Observation, window: Window | None) -> dict[str, Sequence[Observation]]:
        """{"images", "state": what the graph gets them of, oldest first}."""
        history = self._inputs.window
        declared, found = history and history.frames, window and len(window.observations)
        if declared != found:
            raise ValueError(
                f"policy '{self._bundle.manifest.name}' sees {declared} observations, not {found}"
            )
        present = [observation]
        if history is None or window is None:
            return {"images": present, "state": present}
        return {what: window.observations if what in history.of else present for what in ("images", "state")}

    def _is_there(self, spec: ImageInput, seen: Sequence[Observation]) -> bool:
        """Whether the observations hold this view. Raises Refused("incomplete") where it is not optional."""
        camera = self._cameras.get(spec.role)
        if all(camera in observation.images for observation in seen):
            return True
        if spec.optional:
            return False
        raise Refused("incomplete", f"the observation holds no image of '{spec.role}' (camera '{camera}')")

    def _told(self, seen: Sequence[Observation], prompt: str) -> dict[str, NDArray[Any]]:
        """All inputs that are no images."""
        inputs = self._inputs
        found: dict[str, NDArray[Any]] = {}
        text = ""
        if inputs.state:
            state = np.concatenate([self.state(observation) for observation in seen])
            if inputs.state_in_prompt:
                text = state_text(state[-1])
            else:
                found["state"] = state.reshape(self._tensors["state"][1])
        found |= self._asked(prompt, text)
        if inputs.state_mask:
            found["state_mask"] = self._real[None]
        if inputs.domain_id is not None:
            found["domain_id"] = np.array([inputs.domain_id], np.int64)
        return found


def _call(job: Job) -> None:
    job()
