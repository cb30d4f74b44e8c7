"""What `vla robot show` prints is the same robot, wherever it is put."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.robot.show import effective_yaml

CONFIGS = Path(__file__).parents[2] / "robot_configs"


def same_robot(file: Path, folder: Path) -> str:
    robot = load_robot(file)
    text = effective_yaml(robot, file)
    (folder / "shown.yaml").write_text(text, encoding="utf-8")
    shown = load_robot(folder / "shown.yaml")
    for name, arm in robot.arms.items():
        assert read_urdf(folder / "shown.yaml", shown.arms[name]) == read_urdf(file, arm)
    where = {name: arm.model_copy(update={"urdf": robot.arms[name].urdf}) for name, arm in shown.arms.items()}
    assert shown.model_copy(update={"arms": where}) == robot
    return text


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shown_robot_loads_as_the_same(file: Path, tmp_path: Path) -> None:
    same_robot(file, tmp_path)


def test_what_is_inherited_and_what_is_default_is_written_out(tmp_path: Path) -> None:
    lab = tmp_path / "mine" / "lab.yaml"
    lab.parent.mkdir()
    lab.write_text(
        f"extends: {CONFIGS / 'franka.yaml'}\nname: 'on'\ncontrol: {{rate_hz: 50}}\n", encoding="utf-8"
    )
    fields = yaml.safe_load(same_robot(lab, tmp_path))
    assert "extends" not in fields and fields["name"] == "on"
    assert fields["control"] == {"rate_hz": 50.0, "jerk_limited_targets": False}
    assert fields["arms"]["arm"]["limits"]["position"][0] == [-2.733, 2.733]
    assert fields["cameras"]["front"]["transport"] == "raw"
    assert "    joints: [fr3_joint1, fr3_joint2," in (tmp_path / "shown.yaml").read_text(encoding="utf-8")
