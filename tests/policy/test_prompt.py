from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.mobile_base import MOBILE
from tests.tiny_bundle import franka_fields, manifest_fields
from vla_ros.errors import ContractError, Refused
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import Prompt
from vla_ros.policy.prompt import body, checked_instruction, fill, fixed_words, longest_state_text, state_text
from vla_ros.robot.config import Robot

# Qwen-VLA's paper, section 2.3, its [, waist][, and mobile base] and arms as {body}.
QWEN = (
    "The robot is {robot_tag} with {body}. The control frequency is {fps} Hz. Please predict the next "
    "{chunk_size} control actions to execute the following task: {instruction}."
)


def manifest(template: str, robot_tag: str | None = None, **outputs: Any) -> Manifest:
    fields = manifest_fields()
    fields["inputs"]["prompt"] |= {"template": template, "robot_tag": robot_tag}
    fields["outputs"] |= outputs
    return Manifest.model_validate({**fields, "sha256": {}})


def robot(*arms: str) -> Robot:
    fields = franka_fields()
    arm = fields["arms"]["arm"]
    poses = [{"position": [0.0, float(index), 0.0]} for index in range(len(arms))]
    fields["arms"] = {name: {**arm, "base_pose": pose} for name, pose in zip(arms, poses, strict=True)}
    return Robot.model_validate(fields)


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        (
            ("arm",),
            "The robot is Franka FR3 with single arm. The control frequency is 10 Hz. Please predict the "
            "next 16 control actions to execute the following task: pick up the cube.",
        ),
        (
            ("left", "right"),
            "The robot is Franka FR3 with dual arms. The control frequency is 10 Hz. Please predict the next "
            "16 control actions to execute the following task: pick up the cube.",
        ),
    ],
)
def test_qwen_vla_s_embodiment_prompt(arms: tuple[str, ...], expected: str) -> None:
    words = fixed_words(manifest(QWEN, "Franka FR3"), robot(*arms))
    assert fill(QWEN, {**words, "instruction": "pick up the cube"}) == expected


def test_a_base_in_the_robot_s_yaml_is_said() -> None:
    words = fixed_words(manifest(QWEN, "Franka FR3"), MOBILE)
    assert words["body"] == "single arm, and mobile base"


@pytest.mark.parametrize(
    ("arms", "waist", "base", "expected"),
    [
        (1, False, False, "single arm"),
        (2, False, False, "dual arms"),
        (2, True, False, "dual arms, waist"),
        (1, False, True, "single arm, and mobile base"),
        (2, True, True, "dual arms, waist, and mobile base"),
    ],
)
def test_what_a_robot_consists_of(arms: int, waist: bool, base: bool, expected: str) -> None:
    assert body(arms, waist, base) == expected


def test_there_are_no_words_for_three_arms() -> None:
    with pytest.raises(ContractError, match="the robot has 3"):
        fixed_words(manifest("{body}: {instruction}"), robot("a", "b", "c"))


@pytest.mark.parametrize(("dt_s", "fps"), [(0.02, "50"), (1 / 15, "15"), (0.2, "5"), (1 / 30, "30")])
def test_the_control_frequency_is_that_of_the_rows(dt_s: float, fps: str) -> None:
    assert fixed_words(manifest("{fps} {instruction}", dt_s=dt_s), robot("arm")) == {"fps": fps}


def test_the_views_tags_stand_in_their_declared_order() -> None:
    fields = manifest_fields(("wrist", "front"))
    for image, tag in zip(fields["inputs"]["images"], ("Wrist: <image>\n", "Front: <image>\n"), strict=True):
        image["tag"] = tag
    fields["inputs"]["prompt"]["template"] = "{views}{instruction}"
    said = Manifest.model_validate({**fields, "sha256": {}})
    words = fixed_words(said, robot("arm"))
    assert fill(said.inputs.prompt.template, {**words, "instruction": "go"}) == (
        "Wrist: <image>\nFront: <image>\ngo"
    )


def test_the_state_in_bins_by_hand() -> None:
    """Bins of 1/128: -1 is in bin 0, 0 begins bin 128, 1 - 1/256 lies in 255; openpi says -1 below -1."""
    state = [-1.0, -0.9922, 0.0, -1 / 256, 1 - 1 / 256, 1.0, 7.0, -1.001]
    assert state_text(state) == "0 0 128 127 255 255 255 -1"


@given(st.lists(st.floats(-1.5, 1.5), max_size=20))
def test_the_state_s_text_is_openpi_s_and_never_longer_than_thought(state: list[float]) -> None:
    bins = np.digitize(np.array(state), bins=np.linspace(-1, 1, 256 + 1)[:-1]) - 1
    assert state_text(state) == " ".join(map(str, bins))
    assert len(state_text(state)) <= len(longest_state_text(len(state)))


@given(st.text(max_size=40))
def test_an_instruction_is_put_in_as_it_is(instruction: str) -> None:
    """Also where it holds what looks like a place of the template."""
    words = {"state": "1 2", "instruction": instruction}
    assert fill("Task: {instruction}, State: {state};\nAction: ", words) == (
        f"Task: {instruction}, State: 1 2;\nAction: "
    )
    assert fill("{instruction}", {"instruction": "{state} {instruction}"}) == "{state} {instruction}"


@pytest.mark.parametrize("instruction", ["", "  ", "\n"])
def test_nothing_asked_for_is_refused(instruction: str) -> None:
    with pytest.raises(Refused) as caught:
        checked_instruction(instruction)
    assert caught.value.reason == "prompt_empty"


def test_an_instruction_of_a_book_s_length_is_refused() -> None:
    assert checked_instruction("x" * 2000) == "x" * 2000
    with pytest.raises(Refused) as caught:
        checked_instruction("x" * 2001)
    assert caught.value.reason == "prompt_too_long"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"template": "pick"}, "holds {instruction} exactly once"),
        ({"template": "{instruction} {instruction}"}, "exactly once"),
        ({"template": "{instruction} {robot}"}, "not robot"),
        ({"template": "{robot_tag}: {instruction}"}, "robot_tag is needed"),
        ({"robot_tag": "Franka"}, "only there"),
    ],
)
def test_a_template_that_cannot_be_filled_is_refused(change: dict[str, Any], says: str) -> None:
    fields = {**manifest_fields()["inputs"]["prompt"], **change}
    with pytest.raises(ValidationError, match=says):
        Prompt.model_validate(fields)
