from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.tiny_bundle import franka_fields, image_input, manifest_fields, statistics, write_tiny_bundle
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.contract import ContractLine, match, require
from vla_ros.robot.config import Robot


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def broken(bundle: Bundle, fields: dict[str, Any]) -> list[ContractLine]:
    return [line for line in match(bundle, Robot.model_validate(fields)) if not line.ok]


def test_the_franka_fits(bundle: Bundle) -> None:
    robot = Robot.model_validate(franka_fields())
    lines = match(bundle, robot)
    assert all(line.ok and not line.fix for line in lines)
    assert [line.what for line in lines] == [
        "embodiment",
        "arms",
        "camera 'front'",
        "camera 'wrist'",
        "state arm.tcp_position",
        "state arm.tcp_rotation",
        "state arm.gripper",
        "action arm.tcp_position",
        "action arm.tcp_rotation",
        "action arm.gripper",
        "rate",
        "horizon",
    ]
    require(bundle, robot)


@pytest.mark.complaint("openpi 405")
def test_an_unmapped_camera_is_named_with_what_the_robot_has(bundle: Bundle) -> None:
    fields = franka_fields()
    fields["name"] = "aloha"
    fields["cameras"] = {
        name: fields["cameras"]["wrist"] for name in ("cam_left_wrist", "cam_right_wrist", "cam_high")
    }
    fields["policy"]["cameras"] = {"front": "cam_high"}
    (line,) = broken(bundle, fields)
    assert line.fix == (
        "policy expects camera 'wrist' 128×96; robot 'aloha' has cam_left_wrist, cam_right_wrist, cam_high: "
        "map one under policy.cameras"
    )
    with pytest.raises(ContractError, match="policy expects camera 'wrist' 128×96"):
        require(bundle, Robot.model_validate(fields))


def edited(change) -> dict[str, Any]:
    fields = franka_fields()
    change(fields)
    return fields


@pytest.mark.parametrize(
    ("change", "what", "expected"),
    [
        (lambda f: f.update(embodiment="aloha"), "embodiment", "trained for embodiment 'franka_fr3'"),
        (lambda f: f["arms"].update(second=f["arms"]["arm"]), "arms", "robot 'franka' has 2 (arm, second)"),
        (
            lambda f: f["policy"]["cameras"].update(wrist="front"),
            "camera 'wrist'",
            "maps both 'front' and 'wrist' to camera 'front'",
        ),
        (lambda f: f["cameras"]["wrist"].update(width=100), "camera 'wrist'", "has only 100×480"),
        (
            lambda f: f["cameras"]["wrist"].update(width=200, height=100, rotate=90),
            "camera 'wrist'",
            "has only 100×200 after rotate and crop: run it at a higher resolution",
        ),
        (
            lambda f: f["cameras"]["wrist"].update(crop={"x": 0, "y": 0, "width": 640, "height": 95}),
            "camera 'wrist'",
            "has only 640×95 after rotate and crop: run it at a higher resolution, or crop less",
        ),
        (
            lambda f: f["cameras"]["wrist"].update(crop={"x": 9, "y": 9, "width": 128, "height": 96}),
            None,
            None,
        ),
        (lambda f: f["cameras"]["wrist"].update(rate_hz=5), "camera 'wrist'", "gives 5 Hz"),
        (lambda f: f["arms"]["arm"].update(actuation_latency_ms=1000), None, None),
    ],
)
def test_each_mismatch_is_one_line_with_its_fix(bundle: Bundle, change, what, expected) -> None:
    lines = broken(bundle, edited(change))
    if what is None:
        assert lines == []
        return
    (line,) = lines
    assert line.what == what
    assert expected in line.fix


def test_a_robot_without_gripper(bundle: Bundle) -> None:
    lines = broken(bundle, edited(lambda fields: fields["arms"]["arm"].pop("gripper")))
    assert [line.what for line in lines] == ["state arm.gripper", "action arm.gripper"]
    assert all("add arms.arm.gripper" in line.fix for line in lines)


def joint_policy(tmp_path: Path, joints: int, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    fields = manifest_fields()
    joint = {"arm": "arm", "signal": "joint_position", "size": joints}
    fields["inputs"]["state"] = [joint]
    fields["outputs"]["action"] = [{**joint, "reference": "absolute"}]
    low, high = zip(*franka_fields()["arms"]["arm"]["limits"]["position"][:joints], strict=True)
    values = {"q01": low, "q99": high, "mask": [True] * joints}
    monkeypatch.setattr(
        "tests.tiny_bundle.statistics", lambda _: {"tiny": {"action": values, "proprio": values}}
    )
    return write_tiny_bundle(tmp_path, **fields)


def test_the_number_of_joints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert broken(joint_policy(tmp_path / "seven", 7, monkeypatch), franka_fields()) == []
    lines = broken(joint_policy(tmp_path / "six", 6, monkeypatch), franka_fields())
    assert [line.what for line in lines] == ["state arm.joint_position", "action arm.joint_position"]
    assert "has 6 joint positions for arm 'arm'; robot 'franka' arm 'arm' has 7 joints" in lines[0].fix


@pytest.mark.complaint("GR00T 364")
def test_a_chunk_that_ends_before_it_arrives(tmp_path: Path) -> None:
    fields = manifest_fields()
    fields["latency"] = {"device": "slow", "p50_ms": 1000, "p99_ms": 1600}
    (line,) = broken(write_tiny_bundle(tmp_path, **fields), franka_fields())
    assert line.what == "horizon"
    assert "every step would be past due" in line.fix


def test_half_a_tool_pose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = manifest_fields()
    del fields["outputs"]["action"][1]
    full = statistics(fields)["tiny"]
    action = {key: values[:3] + values[9:] for key, values in full["action"].items()}
    monkeypatch.setattr(
        "tests.tiny_bundle.statistics", lambda _: {"tiny": {"action": action, "proprio": full["proprio"]}}
    )
    (line,) = broken(write_tiny_bundle(tmp_path, **fields), franka_fields())
    assert "a tool pose needs tcp_position and tcp_rotation" in line.fix


def test_more_roles_than_cameras(tmp_path: Path) -> None:
    fields = manifest_fields()
    fields["inputs"]["images"].append(image_input("top"))
    (line,) = broken(write_tiny_bundle(tmp_path, **fields), franka_fields())
    assert "policy expects camera 'top'" in line.fix


def test_a_policy_without_eyes(tmp_path: Path) -> None:
    fields = manifest_fields()
    fields["inputs"]["images"] = []
    (line,) = broken(write_tiny_bundle(tmp_path, **fields), franka_fields())
    assert "looks at no camera" in line.fix
