"""The prompt: from what a person asks for to the tokens that the policy was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from tokenizers import Tokenizer

from vla_ros.action.bins import to_bins
from vla_ros.errors import BundleError, ContractError, Refused
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import PLACEHOLDER, Prompt
from vla_ros.robot.config import Robot

# Characters. Beyond this no text is a robot's instruction, and it is not worth tokenising.
LONGEST_PROMPT = 2000
STATE_BINS = 256


def body(arms: int, waist: bool = False, mobile_base: bool = False) -> str:
    """What a robot consists of, as the embodiment prompt of Qwen-VLA says it.

    Its paper, section 2.3: "{single arm / dual arms}[, waist][, and mobile base]".
    Raises ContractError for another number of arms: the template has no words for it.
    """
    words = {1: "single arm", 2: "dual arms"}.get(arms)
    if words is None:
        raise ContractError(f"prompt.template: {{body}} is single arm or dual arms; the robot has {arms}")
    return words + (", waist" if waist else "") + (", and mobile base" if mobile_base else "")


def fixed_words(manifest: Manifest, robot: Robot) -> dict[str, str]:
    """{placeholder: text} of what no observation changes, for those that the template holds.

    `{fps}` is the rate of the outputs' rows in Hz, `{chunk_size}` their number: in Qwen-VLA's paper (section
    2.3) the data's control frequency and the prediction horizon.
    Raises ContractError where the robot is none that the template can speak of.
    """
    inputs, outputs = manifest.inputs, manifest.outputs
    prompt = inputs.prompt
    words: dict[str, str] = {}
    if prompt is None:
        return words
    if prompt.robot_tag is not None:
        words["robot_tag"] = prompt.robot_tag
    if "body" in prompt.holds:
        words["body"] = body(len(robot.arms), mobile_base=robot.base is not None)
    if "fps" in prompt.holds:
        words["fps"] = f"{1 / outputs.step_s:g}"
    if "chunk_size" in prompt.holds:
        words["chunk_size"] = str(outputs.horizon)
    if "views" in prompt.holds:
        words["views"] = "".join(image.tag or "" for image in inputs.images)
    return words


def fill(template: str, words: dict[str, str]) -> str:
    """The template with each placeholder replaced, once: braces in a replacement stay as they are.

    Raises KeyError for a placeholder that `words` lacks.
    """
    return PLACEHOLDER.sub(lambda found: words[found[1]], template)


def state_text(normalised: ArrayLike) -> str:
    """The normalised state [S] in 256 bins over [-1, 1], as decimals with a space between.

    As in openpi, src/openpi/models/tokenizer.py; see `to_bins` for what lies outside.
    """
    return " ".join(str(index) for index in to_bins(normalised, STATE_BINS))


def longest_state_text(size: int) -> str:
    """A state's text that no other one is longer than, to see whether a prompt leaves room for it."""
    return " ".join([str(STATE_BINS - 1)] * size)


def checked_instruction(instruction: str) -> str:
    """The instruction without blanks around it. Raises Refused: "prompt_empty", "prompt_too_long"."""
    text = instruction.strip()
    if not text:
        raise Refused(
            "prompt_empty", "the prompt is empty; publish one on vla/prompt or set parameter prompt"
        )
    if len(text) > LONGEST_PROMPT:
        raise Refused(
            "prompt_too_long", f"the prompt has {len(text)} characters, at most {LONGEST_PROMPT} are allowed"
        )
    return text


def refuse_prompt(manifest: Manifest, prompt: str) -> None:
    """For a policy without language. Raises Refused("prompt_not_taken") for any prompt but a blank one: it
    would not do what it was told."""
    if prompt.strip():
        raise Refused(
            "prompt_not_taken",
            f"policy '{manifest.name}' was trained without language and does the same whatever it is told: "
            f"{prompt[:100]!r}; leave the prompt out, or publish an empty one on vla/prompt",
        )


def declared_prompt(manifest: Manifest) -> Prompt:
    """The manifest's prompt. Raises ValueError for a policy without language."""
    prompt = manifest.inputs.prompt
    if prompt is None:
        raise ValueError(f"policy '{manifest.name}' has no prompt (manifest: inputs.prompt)")
    return prompt


def tokenise(tokenizer: Tokenizer, manifest: Manifest, text: str) -> NDArray[np.int64]:
    """int64 [1, max_tokens] of the filled template, padded on the right.

    Raises Refused: "prompt_too_long", "prompt_unreadable"; a prompt is never cut.
    """
    spec = declared_prompt(manifest)
    try:
        ids = tokenizer.encode(text.lower() if spec.lowercase else text).ids
    except Exception as error:  # tokenizers raises bare Exception: a word-level one without [UNK] does
        raise Refused("prompt_unreadable", f"the prompt cannot be tokenised ({error}): {text!r}") from error
    if len(ids) > spec.max_tokens:
        raise Refused(
            "prompt_too_long",
            f"the prompt has {len(ids)} tokens, policy '{manifest.name}' takes at most "
            f"{spec.max_tokens}; shorten it",
        )
    tokens = np.full((1, spec.max_tokens), spec.pad_id, np.int64)
    tokens[0, : len(ids)] = ids
    return tokens


def read_tokenizer(bundle: Bundle) -> Tokenizer:
    """The bundle's tokenizer, with any truncation and padding of its own switched off."""
    file = bundle.path(declared_prompt(bundle.manifest).tokenizer)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(f"{file}: not a tokenizers file ({error}); export the bundle again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
