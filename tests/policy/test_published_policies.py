"""What published policies are shown, on the robots that ship: declared, fitting, and of the right numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.declared_bundle import write_declared_bundle
from tests.tiny_bundle import ROOT, image_input, manifest_fields
from vla_ros.observation.history import Window
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract_inputs import input_lines
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.robot.config import PolicyMap, Robot
from vla_ros.robot.load import load_robot
from vla_ros.types import Observation

QUARTER = [0.0, 0.0, math.sqrt(0.5), math.sqrt(0.5)]
SIGNS = [1, -1, -1, 1, 1, 1]
HORN = {"travel": [0.01844, 0.058], "horn_m": 0.022, "rod_m": 0.036, "angle": [0.5476, 1.6296]}
SQUARE = {"width": 224, "height": 224, "fit": "pad_centre", "kernel": "linear"}
OPEN = {"unit": "open_fraction"}


def robot(name: str) -> Robot:
    return load_robot(ROOT / "robot_configs" / f"{name}.yaml")


def tool(arm: str, rotation: str, size: int) -> list[dict[str, Any]]:
    return [
        {"arm": arm, "signal": "tcp_position", "size": 3},
        {"arm": arm, "signal": "tcp_rotation", "rotation": rotation, "size": size},
        {"arm": arm, "signal": "gripper", "gripper": OPEN, "size": 1},
    ]


def write(
    directory: Path,
    arms: list[str],
    roles: list[str],
    prompt: dict[str, Any],
    inputs: dict[str, Any],
    **more: Any,
) -> Bundle:
    """Its outputs are tool poses and grippers of all arms."""
    fields = {**manifest_fields(), **more, "arms": arms}
    fields["inputs"] |= {"images": [image_input(role, **SQUARE) for role in roles], **inputs}
    fields["inputs"]["prompt"] |= {"max_tokens": 64, "lowercase": False, **prompt}
    fields["outputs"]["action"] = [
        {
            **part,
            **({"gripper": {**OPEN, "binary": {"threshold": 0.5}}} if part["signal"] == "gripper" else {}),
            **({} if part["signal"] == "gripper" else {"reference": "absolute"}),
        }
        for arm in arms
        for part in tool(arm, "rot6d_columns_interleaved", 6)
    ]
    fields["normalisation"] = {"action": {"kind": "none"}, "proprio": {"kind": "none"}}
    return write_declared_bundle(directory, fields)


def seen_by(body: Robot) -> Observation:
    """Arm n has its joints at n + 0.1, n + 0.2, ..., its tool a quarter turn about z, its gripper open."""
    state: dict[str, np.ndarray] = {}
    for index, (name, arm) in enumerate(body.arms.items()):
        state[f"{name}/joint_position"] = index + np.arange(1, len(arm.joints) + 1) / 10
        state[f"{name}/tcp_pose"] = np.array([index + 0.1, 0.2, 0.3, *QUARTER])
        assert arm.gripper is not None
        state[f"{name}/gripper"] = np.array([arm.gripper.width[1]])
    images = {
        name: np.zeros((camera.height, camera.width, 3), np.uint8) for name, camera in body.cameras.items()
    }
    return Observation(images, state, "pick up the red block", {}, 1)


def shown(bundle: Bundle, body: Robot) -> dict[str, np.ndarray]:
    """The graph's inputs, which have the declared shapes; the contract holds."""
    assert [line.fix for line in input_lines(bundle, body) if not line.ok] == []
    history, seen = bundle.manifest.inputs.window, seen_by(body)
    window = Window((seen,) * history.frames, np.ones(history.frames, bool)) if history else None
    inputs = Preprocessor(bundle, body)(seen, window=window)
    tensors = bundle.manifest.inputs.tensors
    assert {name: (str(array.dtype), array.shape) for name, array in inputs.items()} == tensors
    return inputs


def prompt_of(bundle: Bundle, body: Robot, monkeypatch: pytest.MonkeyPatch) -> str:
    """The text that is tokenised."""
    texts: list[str] = []

    class Spy:
        def encode(self, text: str) -> Any:
            texts.append(text)
            return type("Encoding", (), {"ids": [1]})

    monkeypatch.setattr("vla_ros.policy.preprocess.read_tokenizer", lambda _: Spy())
    shown(bundle, body)
    return texts[-1]


def test_pi0_on_aloha(tmp_path: Path) -> None:
    """openpi, aloha_policy.py: 14 of 32, joints flipped, grippers through the horn; no cam_low."""
    state: list[dict[str, Any]] = []
    for arm in ("left", "right"):
        state.append({"arm": arm, "signal": "joint_position", "size": 6, "signs": SIGNS})
        state.append({"arm": arm, "signal": "gripper", "horn": HORN, "size": 1})
    bundle = write(
        tmp_path,
        ["left", "right"],
        ["cam_high", "cam_left_wrist", "cam_right_wrist"],
        {"template": "{instruction}\n"},
        {"state": state, "state_width": 32},
    )
    found = shown(bundle, robot("aloha"))["state"][0]
    opened = (math.pi / 2 - 0.5476) / 1.082
    left = [0.1, -0.2, -0.3, 0.4, 0.5, 0.6, opened]
    right = [1.1, -1.2, -1.3, 1.4, 1.5, 1.6, opened]
    assert found == pytest.approx([*left, *right, *[0] * 18], abs=1e-6)


def test_pi05_on_a_franka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DROID: seven joints and the gripper with 1 for closed, said in the prompt (openpi, tokenizer.py)."""
    state = [
        {"arm": "arm", "signal": "joint_position", "size": 7},
        {"arm": "arm", "signal": "gripper", "gripper": {"unit": "closed_fraction"}, "size": 1},
    ]
    template = "Task: {instruction}, State: {state};\nAction: "
    bundle = write(tmp_path, ["arm"], ["front", "wrist"], {"template": template}, {"state": state})
    assert "state" not in bundle.manifest.inputs.tensors
    # (x + 1) * 128 of 0.1, 0.2, ... is 140.8, 153.6, 166.4, 179.2, 192, 204.8, 217.6; open is 0, in bin 128.
    assert prompt_of(bundle, robot("franka"), monkeypatch) == (
        "Task: pick up the red block, State: 140 153 166 179 192 204 217 128;\nAction: "
    )


def test_x_vla_on_a_cobot_magic(tmp_path: Path) -> None:
    """EE6D: two times position, interleaved rot6d and gripper; a domain; its last prediction as the state."""
    state = [part for arm in ("left", "right") for part in tool(arm, "rot6d_columns_interleaved", 6)]
    bundle = write(
        tmp_path,
        ["left", "right"],
        ["cam_high", "cam_left_wrist", "cam_right_wrist"],
        {},
        {"state": state, "domain_id": 8, "proprioception": "last_prediction"},
    )
    inputs = shown(bundle, robot("agilex_cobot"))
    turn = [0, -1, 1, 0, 0, 0]
    expected = [0.1, 0.2, 0.3, *turn, 1, 1.1, 0.2, 0.3, *turn, 1]
    assert inputs["state"][0] == pytest.approx(expected, abs=1e-6)
    assert inputs["domain_id"].tolist() == [8]


def test_x_vla_on_one_arm(tmp_path: Path) -> None:
    """The right half is zeros, and two of its three views are missing."""
    bundle = write(
        tmp_path,
        ["arm"],
        ["over_shoulder", "left_wrist", "right_wrist"],
        {},
        {"state": tool("arm", "rot6d_columns_interleaved", 6), "state_width": 20, "domain_id": 0},
    )
    fields = bundle.manifest.model_dump(exclude={"sha256"}, exclude_none=True, exclude_unset=True)
    for image in fields["inputs"]["images"][1:]:
        image["optional"] = True
    inputs = shown(write_declared_bundle(tmp_path, fields), robot("widowx"))
    assert inputs["state"][0] == pytest.approx([0.1, 0.2, 0.3, 0, -1, 1, 0, 0, 0, 1, *[0] * 10], abs=1e-6)
    assert inputs["image_mask"].tolist() == [[True, False, False]]


def test_robovlms_on_a_widowx(tmp_path: Path) -> None:
    """BridgeData V2 at 5 Hz: eight frames, and the state turned from Bridge's default rotation D.

    The tool is a quarter turn about z, Rz D^T = [[0, -1, 0], [1, 0, 0], [0, 0, 1]] [[0, 0, -1], [0, 1, 0],
    [1, 0, 0]] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]: pitch asin(-1) = -pi/2, where roll and yaw are one.
    """
    bundle = write(
        tmp_path,
        ["arm"],
        ["over_shoulder"],
        {},
        {
            "state": tool("arm", "euler_xyz", 3),
            "history": {"frames": 8, "stride_s": 0.2, "of": ["images"], "before": "repeat_first"},
        },
        tool_rotations={"arm": [[0.0, 0.0, -1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]},
    )
    inputs = shown(bundle, robot("widowx"))
    assert inputs["image.over_shoulder"].shape == (1, 8, 224, 224, 3)
    assert inputs["state"][0, [0, 1, 2, 4, 6]] == pytest.approx([0.1, 0.2, 0.3, -math.pi / 2, 1], abs=1e-6)


def test_qwen_vla_on_two_frankas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = (
        "The robot is {robot_tag} with {body}. The control frequency is {fps} Hz. Please predict the next "
        "{chunk_size} control actions to execute the following task: {instruction}."
    )
    body = robot("franka_dual")
    cameras = {"front": next(iter(body.cameras))}
    body = body.model_copy(update={"policy": PolicyMap(cameras=cameras)})
    prompt = {"template": template, "robot_tag": "Dual Franka"}
    bundle = write(
        tmp_path,
        ["left", "right"],
        ["front"],
        prompt,
        {"state": []},
    )
    assert prompt_of(bundle, body, monkeypatch) == (
        "The robot is Dual Franka with dual arms. The control frequency is 10 Hz. Please predict the next 16 "
        "control actions to execute the following task: pick up the red block."
    )
