"""Observation -> the prefix graph's inputs, by the bundle's rules and nothing else.

Parity with training wins over speed: which resize kernel, fit, colour order, rotation layout and clipping
are all the manifest's. OpenCV does the resizing; kernels of the same name in PIL or torch differ.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vla_ros.action.normalise import normalise
from vla_ros.action.rotations import matrix_to_rot6d, quaternion_to_matrix
from vla_ros.errors import BundleError, ContractError, Refused
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.manifest_inputs import ImageInput, StateSlice
from vla_ros.robot.config import Robot
from vla_ros.types import FloatArray, ImageArray, Observation

KERNELS = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}
Job = Callable[[], None]
Each = Callable[[Callable[[Job], None], Iterable[Job]], Iterable[None]]
# Characters. Beyond this no text is a robot's instruction, and it is not worth tokenising.
LONGEST_PROMPT = 2000


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


def image_to_input(rgb: ImageArray, spec: ImageInput) -> NDArray[Any]:
    """uint8 [H, W, 3] RGB (any strides) -> the graph's [1, height, width, 3], uint8 or float32."""
    out = np.zeros((1, spec.height, spec.width, 3), np.uint8)
    for job in resize_jobs(rgb, spec, out[0]):
        job()
    return finished(out, spec)


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
    """uint8 [1, height, width, 3] as the graph wants it: the same, or float32 (x / 255 - mean) / std.

    Padding is black in the picture, so it is normalised with it.
    """
    if spec.dtype == "uint8":
        return image
    mean, std = np.asarray(spec.mean, np.float32), np.asarray(spec.std, np.float32)
    return (image * (1.0 / (255.0 * std)).astype(np.float32) - mean / std).astype(np.float32, copy=False)


def tokenise(tokenizer: Tokenizer, bundle: Bundle, instruction: str) -> NDArray[np.int64]:
    """int64 [1, max_tokens], padded on the right.

    Raises Refused: "prompt_empty", "prompt_too_long", "prompt_unreadable"; a prompt is never cut.
    """
    spec = bundle.manifest.inputs.prompt
    text = instruction.strip()
    if not text:
        raise Refused(
            "prompt_empty", "the prompt is empty; publish one on vla/prompt or set parameter prompt"
        )
    if len(text) > LONGEST_PROMPT:
        raise Refused(
            "prompt_too_long", f"the prompt has {len(text)} characters, at most {LONGEST_PROMPT} are allowed"
        )
    text = spec.template.replace("{instruction}", text)
    try:
        ids = tokenizer.encode(text.lower() if spec.lowercase else text).ids
    except Exception as error:  # tokenizers raises bare Exception: a word-level one without [UNK] does
        raise Refused("prompt_unreadable", f"the prompt cannot be tokenised ({error}): {text!r}") from error
    if len(ids) > spec.max_tokens:
        raise Refused(
            "prompt_too_long",
            f"the prompt has {len(ids)} tokens, policy '{bundle.manifest.name}' takes at most "
            f"{spec.max_tokens}; shorten it",
        )
    tokens = np.full((1, spec.max_tokens), spec.pad_id, np.int64)
    tokens[0, : len(ids)] = ids
    return tokens


def read_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, with any truncation and padding of its own switched off."""
    file = bundle.path(bundle.manifest.inputs.prompt.tokenizer)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(f"{file}: not a tokenizers file ({error}); export the bundle again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def state_signal(part: StateSlice, arm: str, observation: Observation) -> FloatArray:
    """One slice of the state vector, SI. Raises Refused("incomplete") when the observation lacks it."""
    group = {"joint_position": "joint_position", "gripper_width": "gripper"}.get(part.signal, "tcp_pose")
    values = observation.state.get(f"{arm}/{group}")
    if values is None:
        raise Refused("incomplete", f"the observation holds no {arm}/{group}, which the policy needs")
    if part.signal == "tcp_position":
        return values[:3]
    if part.signal == "tcp_rot6d":
        return matrix_to_rot6d(quaternion_to_matrix(values[3:]), part.rot6d or "columns")
    return values


class Preprocessor:
    """`preprocessor(observation)` -> {graph input: array}: `image.<role>` [1, h, w, 3],
    `tokens` int64 [1, T], `state` float32 [1, S].

    Raises ContractError on construction when a role has no camera or an arm role no arm.
    """

    def __init__(self, bundle: Bundle, robot: Robot) -> None:
        manifest = bundle.manifest
        unmapped = [image.role for image in manifest.inputs.images if image.role not in robot.policy.cameras]
        if unmapped or len(manifest.arms) > len(robot.arms):
            raise ContractError(
                f"policy '{manifest.name}' does not fit robot '{robot.name}': cameras {unmapped} are not "
                f"mapped under policy.cameras, arms {manifest.arms} against {list(robot.arms)}"
            )
        self._bundle = bundle
        self._cameras = robot.policy.cameras
        self._arms = dict(zip(manifest.arms, robot.arms, strict=False))
        self._tokenizer = read_tokenizer(bundle)
        self._tokens: tuple[str, NDArray[np.int64]] | None = None

    @property
    def cameras(self) -> list[str]:
        """The robot's cameras that the policy looks at, each once."""
        return list(dict.fromkeys(self._cameras[spec.role] for spec in self._bundle.manifest.inputs.images))

    def tokens(self, prompt: str) -> NDArray[np.int64]:
        """int64 [1, T]; the last prompt's are kept. May be called from any thread. Raises Refused as
        `tokenise` does."""
        kept = self._tokens
        if kept is None or kept[0] != prompt:
            self._tokens = kept = (prompt, tokenise(self._tokenizer, self._bundle, prompt))
        return kept[1]

    def state(self, observation: Observation) -> NDArray[np.float32]:
        """float32 [1, S], normalised."""
        inputs = self._bundle.manifest.inputs
        parts = [state_signal(part, self._arms[part.arm], observation) for part in inputs.state]
        vector = np.concatenate(parts) if parts else np.zeros(0)
        return normalise(vector, self._bundle.proprio).astype(np.float32)[None]

    def __call__(self, observation: Observation, each: Each = map) -> dict[str, NDArray[Any]]:
        """The graph's inputs. `each`: how to go through the jobs, `map` or a parallel one.

        Raises Refused: "prompt_empty", "prompt_too_long", "prompt_unreadable", "incomplete".
        """
        inputs: dict[str, NDArray[Any]] = {"tokens": self.tokens(observation.prompt)}
        specs = self._bundle.manifest.inputs.images
        images = [np.zeros((1, spec.height, spec.width, 3), np.uint8) for spec in specs]
        jobs: list[Job] = [lambda: inputs.update(state=self.state(observation))]
        for spec, out in zip(specs, images, strict=True):
            jobs += resize_jobs(observation.images[self._cameras[spec.role]], spec, out[0])
        list(each(_call, jobs))
        for spec, out in zip(specs, images, strict=True):
            inputs[f"image.{spec.role}"] = finished(out, spec)
        return inputs


def _call(job: Job) -> None:
    job()
