"""What a manifest's inputs declare beyond images, tokens and state, from the declaration to the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.declared_bundle import HISTORY, fields_with, images_with, prompt_with, write_declared_bundle
from tests.tiny_bundle import franka_fields, manifest_fields
from vla_ros.errors import BundleError, ContractError, Refused
from vla_ros.observation.history import Window
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.contract import ContractLine, match
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import Inputs
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.robot.config import Robot
from vla_ros.types import Observation

FRANKA = Robot.model_validate(franka_fields())


def inputs_with(**changes: Any) -> Inputs:
    return Inputs.model_validate({**manifest_fields()["inputs"], **changes})


def observation(
    grey: int = 0, width: float = 0.04, cameras: tuple[str, ...] = ("front", "wrist")
) -> Observation:
    state = {
        "arm/joint_position": np.zeros(7),
        "arm/tcp_pose": np.array([0.4, 0.1, 0.3, 0.0, 0.0, 0.0, 1.0]),
        "arm/gripper": np.array([width]),
    }
    images = {name: np.full((480, 640, 3), grey + index, np.uint8) for index, name in enumerate(cameras)}
    return Observation(images, state, "pick up the red block", {}, 1)


def window(*observations: Observation, real: int = 3) -> Window:
    return Window(observations, np.arange(len(observations)) >= len(observations) - real)


# --- what the graph takes -------------------------------------------------------------------------


def test_todays_inputs_are_unchanged() -> None:
    assert inputs_with().tensors == {
        "image.front": ("uint8", (1, 96, 128, 3)),
        "image.wrist": ("uint8", (1, 96, 128, 3)),
        "tokens": ("int64", (1, 16)),
        "state": ("float32", (1, 10)),
    }


@pytest.mark.parametrize(
    ("changes", "tensors"),
    [
        ({"history": HISTORY}, {
            "image.front": ("uint8", (1, 3, 96, 128, 3)),
            "image.wrist": ("uint8", (1, 3, 96, 128, 3)),
            "state": ("float32", (1, 3, 10)),
            "history_mask": ("bool", (1, 3)),
        }),
        ({"history": {**HISTORY, "of": ["images"]}}, {
            "image.front": ("uint8", (1, 3, 96, 128, 3)),
            "image.wrist": ("uint8", (1, 3, 96, 128, 3)),
            "history_mask": ("bool", (1, 3)),
        }),
        ({"history": {**HISTORY, "of": ["state"]}, "state_width": 32}, {
            "state": ("float32", (1, 3, 32)),
            "history_mask": ("bool", (1, 3)),
        }),
        ({"images": images_with(optional=True)}, {"image_mask": ("bool", (1, 2))}),
        ({"domain_id": 5}, {"domain_id": ("int64", (1,))}),
        ({"state_width": 32, "state_mask": True}, {
            "state": ("float32", (1, 32)), "state_mask": ("bool", (1, 32)),
        }),
        ({"state": []}, {"state": None}),
        ({"prompt": prompt_with(template="{instruction}: {state}", max_tokens=16)}, {"state": None}),
    ],
)  # fmt: skip
def test_what_is_declared_is_fed_and_reaches_the_network(
    tmp_path: Path, changes: dict[str, Any], tensors: dict[str, Any]
) -> None:
    fields = fields_with(**changes)
    if not fields["inputs"]["state"]:
        fields["normalisation"]["proprio"] = {"kind": "none"}
    bundle = write_declared_bundle(tmp_path, fields)
    declared = bundle.manifest.inputs.tensors
    expected = {**inputs_with().tensors, **tensors}
    assert declared == {name: tensor for name, tensor in expected.items() if tensor is not None}
    past = window(observation(1, 0.01), observation(2, 0.02), observation(3, 0.03))
    seen = past.observations[-1]
    inputs = Preprocessor(bundle, FRANKA)(seen, window=past if "history" in changes else None)
    assert {name: (str(array.dtype), array.shape) for name, array in inputs.items()} == declared
    policy = OnnxPolicy(bundle)
    policy.warm_up()
    noise = policy.noise()
    plain = policy.infer(inputs, noise).values
    for name, values in inputs.items():
        other = ~values if values.dtype == bool else values + 1
        assert np.abs(policy.infer({**inputs, name: other}, noise).values - plain).max() > 1e-3, name


def test_a_graph_that_lacks_a_declared_input_is_refused(tmp_path: Path) -> None:
    bundle = write_declared_bundle(tmp_path, fields_with())
    files = {name: bundle.path(name) for name in bundle.manifest.sha256}
    other = write_bundle(tmp_path / "other", fields_with(domain_id=3), files)
    with pytest.raises(BundleError, match=r"the manifest implies .*domain_id"):
        OnnxPolicy(other)


# --- history --------------------------------------------------------------------------------------


def test_images_and_state_of_a_window_are_oldest_first(tmp_path: Path) -> None:
    preprocessor = Preprocessor(write_declared_bundle(tmp_path, fields_with(history=HISTORY)), FRANKA)
    past = window(observation(10, 0.01), observation(20, 0.02), observation(30, 0.03), real=2)
    inputs = preprocessor(past.observations[-1], window=past)
    assert inputs["image.front"][0, :, 5, 5, 0].tolist() == [10, 20, 30]
    assert inputs["image.wrist"][0, :, 5, 5, 0].tolist() == [11, 21, 31]
    assert inputs["state"][0, :, 9] == pytest.approx([0.01, 0.02, 0.03])
    assert inputs["history_mask"].tolist() == [[False, True, True]]


def test_what_is_not_of_the_history_is_of_the_present(tmp_path: Path) -> None:
    history = {**HISTORY, "of": ["images"]}
    preprocessor = Preprocessor(write_declared_bundle(tmp_path, fields_with(history=history)), FRANKA)
    past = window(observation(10, 0.01), observation(20, 0.02), observation(30, 0.03))
    assert preprocessor(past.observations[-1], window=past)["state"][0, 9] == pytest.approx(0.03)


def test_a_window_of_another_length_is_not_taken(tmp_path: Path) -> None:
    seen = observation()
    with_history = Preprocessor(write_declared_bundle(tmp_path / "a", fields_with(history=HISTORY)), FRANKA)
    for wrong in (None, window(seen, seen)):
        with pytest.raises(ValueError, match="sees 3 observations"):
            with_history(seen, window=wrong)
    with pytest.raises(ValueError, match="sees None observations, not 2"):
        Preprocessor(write_declared_bundle(tmp_path / "b", fields_with()), FRANKA)(
            seen, window=window(seen, seen)
        )


# --- views that may be missing --------------------------------------------------------------------


def robot_without(role: str) -> Robot:
    fields = franka_fields()
    del fields["policy"]["cameras"][role]
    return Robot.model_validate(fields)


def test_an_optional_view_that_the_robot_has_not_is_black_and_masked(tmp_path: Path) -> None:
    bundle = write_declared_bundle(tmp_path, fields_with(images=images_with(optional=True)))
    there = Preprocessor(bundle, FRANKA)(observation(90))
    assert there["image_mask"].tolist() == [[True, True]]
    assert there["image.wrist"].min() == 91
    poor = Preprocessor(bundle, robot_without("wrist"))
    assert poor.cameras == ["front"]
    missing = poor(observation(90, cameras=("front",)))
    assert missing["image_mask"].tolist() == [[True, False]]
    assert not missing["image.wrist"].any()
    assert missing["image.front"].min() == 90


def test_an_optional_view_that_fails_is_black_and_masked_in_all_of_a_window(tmp_path: Path) -> None:
    fields = fields_with(images=images_with(optional=True), history=HISTORY)
    preprocessor = Preprocessor(write_declared_bundle(tmp_path, fields), FRANKA)
    assert preprocessor.optional_cameras == ["wrist"]
    both, front = observation(90), observation(90, cameras=("front",))
    for past, there in ((window(both, both, both), True), (window(front, both, both), False)):
        inputs = preprocessor(both, window=past)
        assert inputs["image_mask"].tolist() == [[True, there]]
        assert bool(inputs["image.wrist"].any()) == there
        assert inputs["image.front"].min() == 90


def test_a_view_that_is_not_optional_is_never_missing(tmp_path: Path) -> None:
    bundle = write_declared_bundle(tmp_path, fields_with())
    with pytest.raises(ContractError, match=r"cameras \['wrist'\] are not mapped"):
        Preprocessor(bundle, robot_without("wrist"))
    with pytest.raises(Refused, match="no image of 'wrist'") as caught:
        Preprocessor(bundle, FRANKA)(observation(cameras=("front",)))
    assert caught.value.reason == "incomplete"


# --- state ----------------------------------------------------------------------------------------


def test_the_state_is_padded_after_it_was_normalised(tmp_path: Path) -> None:
    """Statistics from -1 to 1 leave the state as it is; a padding slice among the others is 0 whatever its
    statistics say, and not what they would make of 0."""
    state = [*manifest_fields()["inputs"]["state"], {"signal": "padding", "size": 2}]
    fields = fields_with(state=state, state_width=16, state_mask=True)
    bundle = write_declared_bundle(tmp_path / "a", fields)
    numbers = json.loads(bundle.path("dataset_statistics.json").read_text())
    numbers["tiny"]["proprio"]["q01"][10:12] = [5.0, 5.0]
    numbers["tiny"]["proprio"]["q99"][10:12] = [6.0, 6.0]
    files: dict[str, Any] = {name: bundle.path(name) for name in bundle.manifest.sha256}
    files["dataset_statistics.json"] = json.dumps(numbers).encode()
    bundle = write_bundle(tmp_path / "b", fields, files)
    inputs = Preprocessor(bundle, FRANKA)(observation(width=0.03))
    expected = [0.4, 0.1, 0.3, 1, 0, 0, 0, 1, 0, 0.03] + [0] * 6
    assert inputs["state"][0] == pytest.approx(expected)
    assert inputs["state_mask"].tolist() == [[True] * 10 + [False] * 6]


class Words:
    """A tokenizer of characters, to see the prompt's text."""

    def encode(self, text: str) -> Any:
        self.text = text
        return type("Encoding", (), {"ids": [ord(letter) for letter in text]})


def test_the_state_is_said_in_the_prompt_as_pi05_wants_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = prompt_with(
        template="Task: {instruction}, State: {state};\nAction: ", max_tokens=90, lowercase=False
    )
    preprocessor = Preprocessor(write_declared_bundle(tmp_path, fields_with(prompt=prompt)), FRANKA)
    words = Words()
    monkeypatch.setattr(preprocessor, "_tokenizer", words)
    inputs = preprocessor(observation(width=0.03))
    # (x + 1) * 128: 0.4 is 179.2, 0.1 is 140.8, 0.3 is 166.4, 0.03 is 131.84; 1 is above the last edge.
    assert words.text == (
        "Task: pick up the red block, State: 179 140 166 255 128 128 128 255 128 131;\nAction: "
    )
    assert inputs["tokens"][0, : len(words.text)].tolist() == [ord(letter) for letter in words.text]
    assert "state" not in inputs
    preprocessor(observation(width=-0.5))
    assert words.text.endswith(" 64;\nAction: ")


def test_a_prompt_is_only_taken_when_every_state_fits_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = "{instruction} {state}"
    prompt = prompt_with(template=template, max_tokens=len("go ") + 10 * 4 - 1, lowercase=False)
    preprocessor = Preprocessor(write_declared_bundle(tmp_path, fields_with(prompt=prompt)), FRANKA)
    monkeypatch.setattr(preprocessor, "_tokenizer", Words())
    preprocessor.check_prompt("go")
    with pytest.raises(Refused) as caught:
        preprocessor.check_prompt("run")
    assert caught.value.reason == "prompt_too_long"


# --- declarations that contradict themselves ------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"history": 2}, "history"),
        ({"history": {**HISTORY, "frames": 1}}, "greater than or equal to 2"),
        ({"history": {**HISTORY, "stride_s": 200.0}}, "less than or equal to 5"),
        ({"history": {**HISTORY, "of": []}}, "at least 1 item"),
        ({"history": {key: HISTORY[key] for key in ("frames", "stride_s", "of")}}, "before"),
        ({"state_width": 9}, "less than the 10"),
        ({"state": [], "state_width": 9}, "no input state"),
        ({"state": [], "state_mask": True}, "no input state"),
        ({"state": [], "history": HISTORY}, "no input state"),
        ({"state": [], "proprioception": "last_prediction"}, "one state"),
        ({"history": HISTORY, "proprioception": "last_prediction"}, "one state"),
        ({"state": [], "prompt": prompt_with(template="{instruction} {state}")}, "state is empty"),
        ({"history": HISTORY, "prompt": prompt_with(template="{instruction} {state}")}, "no input state"),
        ({"prompt": prompt_with(template="{views} {instruction}")}, "need a tag"),
        ({"images": images_with(tag="wrist")}, "holds no {views}"),
        ({"images": [{**image, "optional": True} for image in images_with()]}, "one must not be optional"),
        ({"domain_id": -1}, "greater than or equal to 0"),
    ],
)
def test_inputs_that_contradict_themselves_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        inputs_with(**changes)


def test_a_missing_view_has_no_words() -> None:
    images = [{**image, "tag": "a view"} for image in images_with(optional=True)]
    with pytest.raises(ValidationError, match="none may be optional"):
        inputs_with(images=images, prompt=prompt_with(template="{views} {instruction}"))


def test_only_what_is_predicted_can_be_fed_back() -> None:
    fields = fields_with(proprioception="last_prediction")
    Manifest.model_validate({**fields, "sha256": {}})
    fields["inputs"]["state"].append({"arm": "arm", "signal": "joint_position", "size": 7})
    with pytest.raises(ValidationError, match=r"arm\.joint_position is not predicted"):
        Manifest.model_validate({**fields, "sha256": {}})


# --- the contract ---------------------------------------------------------------------------------


def lines(bundle: Bundle, robot: Robot = FRANKA) -> dict[str, ContractLine]:
    return {line.what: line for line in match(bundle, robot)}


def test_the_contract_says_what_is_declared(tmp_path: Path) -> None:
    images = images_with(optional=True)
    prompt = prompt_with(template="{robot_tag} with {body}: {instruction}", robot_tag="FR3")
    bundle = write_declared_bundle(tmp_path, fields_with(history=HISTORY, images=images, prompt=prompt))
    found = lines(bundle, robot_without("wrist"))
    assert found["camera 'wrist'"].robot_says == "none: black, and masked"
    assert found["history"].policy_says == "3 of images and state, every 0.2 s"
    assert found["prompt"].robot_says == "robot_tag: FR3, body: single arm"
    assert all(found[what].ok for what in ("camera 'wrist'", "history", "prompt"))


def test_a_camera_too_slow_for_the_history_is_named(tmp_path: Path) -> None:
    bundle = write_declared_bundle(tmp_path, fields_with(history={**HISTORY, "stride_s": 0.02}))
    line = lines(bundle)["camera 'front'"]
    assert line.fix == (
        "policy 'tiny' sees a frame every 0.02 s; camera 'front' gives 30 Hz: run it at a higher rate"
    )


@pytest.mark.parametrize(
    ("part", "values", "says"),
    [
        ({"signal": "joint_position", "size": 7}, (-180.0, 180.0), "value 0 spans -180 to 180"),
        (
            {"signal": "gripper", "gripper": {"unit": "open_fraction"}, "size": 1},
            (0.0, 80.0),
            "spans 0 to 80",
        ),
        ({"signal": "gripper", "gripper": {"unit": "signed", "open_is": 1}, "size": 1}, (-1.0, 1.0), ""),
        (
            {"signal": "gripper", "gripper": {"unit": "open_fraction"}, "size": 1},
            (-1.0, 1.0),
            "spans -1 to 1",
        ),
        ({"signal": "tcp_rotation", "rotation": "euler_xyz", "size": 3}, (-180.0, 180.0), "spans -180"),
        ({"signal": "tcp_rotation", "rotation": "euler_xyz", "size": 3}, (-3.1, 3.1), ""),
        ({"signal": "tcp_rotation", "rotation": "quaternion_wxyz", "size": 4}, (-3.1, 3.1), "spans -3.1"),
    ],
)
def test_statistics_of_a_state_in_other_units_are_named(
    tmp_path: Path, part: dict[str, Any], values: tuple[float, float], says: str
) -> None:
    fields = fields_with(state=[{"arm": "arm", **part}])
    bundle = write_declared_bundle(tmp_path / "a", fields)
    numbers = json.loads(bundle.path("dataset_statistics.json").read_text())
    size = part["size"]
    numbers["tiny"]["proprio"] = {"q01": [values[0]] * size, "q99": [values[1]] * size, "mask": [True] * size}
    files: dict[str, Any] = {name: bundle.path(name) for name in bundle.manifest.sha256}
    files["dataset_statistics.json"] = json.dumps(numbers).encode()
    line = lines(write_bundle(tmp_path / "b", fields, files))[f"state arm.{part['signal']}"]
    assert line.ok == (not says)
    assert says in line.fix
