"""`vla robot check` on a file that loads: meshes, roles, and names that say the other side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vla_ros.robot.file_check import file_lines
from vla_ros.robot.graph_check import Line
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return tmp_path / "configs"


def wrong(file: Path, **environment: str) -> list[Line]:
    return [line for line in file_lines(load_robot(file), file, environment) if line.ok is False]


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_nothing_is_wrong_with_what_is_shipped(file: Path) -> None:
    assert wrong(file) == []
    robot = load_robot(file)
    lines = file_lines(robot, file)
    assert len(lines) >= len(robot.arms) + len(robot.cameras)
    base = [line.found for line in lines if line.what == "base"]
    assert len(base) == (robot.base is not None)
    assert all(robot.base.twist.topic in found and robot.base.odometry.topic in found for found in base)


def test_meshes(folder: Path) -> None:
    urdf = folder / "urdf" / "fr3.urdf"
    mesh = '<mesh filename="{}"/>'
    text = urdf.read_text(encoding="utf-8")
    names = ["meshes/link0.stl", "package://franka_description/meshes/link1.stl", "file:///nowhere/link2.stl"]
    extra = "".join(
        f"<visual><geometry>{mesh.format(name)}</geometry></visual>" for name in [*names, names[0]]
    )
    urdf.write_text(
        text.replace('<link name="fr3_link0">', f'<link name="fr3_link0">{extra}', 1), encoding="utf-8"
    )
    lines = wrong(folder / "franka.yaml")
    assert [line.found for line in lines] == [f"no file {name}" for name in names]
    assert lines[0].fix.startswith("put it there, or correct its path in the URDF (")
    assert lines[1].fix.startswith("source the workspace that holds the package 'franka_description', or")
    share = folder / "install" / "share" / "franka_description" / "meshes"
    share.mkdir(parents=True)
    (share / "link1.stl").touch()
    (folder / "urdf" / "meshes").mkdir()
    (folder / "urdf" / "meshes" / "link0.stl").touch()
    (line,) = wrong(folder / "franka.yaml", AMENT_PREFIX_PATH=f"/opt/ros/none:{folder / 'install'}")
    assert line.found == "no file file:///nowhere/link2.stl"


def test_a_camera_that_no_policy_sees_is_no_mistake(folder: Path) -> None:
    file = folder / "franka.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("{front: front, wrist: wrist}", "{front: front}"), encoding="utf-8")
    lines = file_lines(load_robot(file), file)
    (line,) = (line for line in lines if line.what == "cameras.wrist")
    assert (
        line.ok is None and line.fix == "add it under policy.cameras for policies that need it: {ROLE: wrist}"
    )
    assert wrong(file) == []


def test_names_that_say_the_other_side(folder: Path) -> None:
    file = folder / "franka_dual.yaml"
    text = file.read_text(encoding="utf-8")
    swapped = text.replace("/left/", "/LEFT/").replace("/right/", "/left/").replace("/LEFT/", "/right/")
    file.write_text(swapped, encoding="utf-8")
    lines = wrong(file)
    assert "arms.left.states.topic" in [line.what for line in lines]
    assert lines[0].found == "/right/robot_description for 'left'"
    assert lines[0].fix == "name the topics of the left one here, or call it something else than 'left'"
