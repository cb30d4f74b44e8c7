"""docs/cameras.md: each YAML on the page is part of a file that loads."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from vla_ros.robot.load import load_robot

ROOT = Path(__file__).parents[2]
TOPIC, V4L2, REALSENSE, SHOWN, ROLES, WEBCAM = re.findall(
    r"```yaml\n(.*?)```", (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8"), re.DOTALL
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "robot_configs", tmp_path / "robot_configs")
    return tmp_path / "lab.yaml"


@pytest.mark.parametrize("source", [V4L2, REALSENSE])
def test_a_source_and_a_view(file: Path, source: str) -> None:
    file.write_text(f"extends: robot_configs/franka.yaml\nname: lab\n{TOPIC}{source}{SHOWN}")
    assert load_robot(file).cameras["front"].source is not None


def test_roles(file: Path) -> None:
    file.write_text(f"extends: robot_configs/aloha.yaml\nname: lab\n{ROLES.replace('front: front, ', '')}")
    assert load_robot(file).policy.cameras["wrist"] == "cam_right_wrist"


def test_the_webcam(file: Path) -> None:
    file.write_text(WEBCAM)
    assert load_robot(file).cameras["front"].source is not None
