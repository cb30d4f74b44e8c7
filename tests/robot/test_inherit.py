"""`extends`: what is merged, and that every mistake is found where it was written."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot, read_urdf

CONFIGS = Path(__file__).parents[2] / "robot_configs"
FRANKA = (CONFIGS / "franka.yaml").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    (tmp_path / "franka.yaml").write_text(FRANKA, encoding="utf-8")
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "lab.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_robot(write(folder, text))
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1


def test_only_what_is_written_differs(folder: Path) -> None:
    text = """extends: franka.yaml
name: franka_lab
arms:
  arm:
    states: {rate_hz: 500}
    limits: {velocity: [1, 1, 1, 1, 1, 1, 1]}
cameras:
  top: {topic: /top, camera_info: /info, width: 640, height: 480, rate_hz: 30, max_age_ms: 90}
"""
    robot, base = load_robot(write(folder, text)), load_robot(folder / "franka.yaml")
    assert robot.name == "franka_lab" and robot.embodiment == base.embodiment
    assert list(robot.cameras) == ["front", "wrist", "top"]
    arm, before = robot.arms["arm"], base.arms["arm"]
    assert arm.states == before.states.model_copy(update={"rate_hz": 500})
    # A list replaces a list as a whole; its neighbours stay.
    assert arm.limits == before.limits.model_copy(update={"velocity": [1.0] * 7})
    assert arm.gripper == before.gripper and robot.safety == base.safety


def test_null_takes_out_what_the_extended_file_has(folder: Path) -> None:
    text = """extends: franka.yaml
name: franka_lab
arms: {arm: {gripper: null, states: {reliability: ~}}}
cameras: {wrist: null}
policy: {cameras: {wrist: null}}
"""
    robot = load_robot(write(folder, text))
    assert robot.arms["arm"].gripper is None
    assert robot.arms["arm"].states.reliability == "reliable"
    assert list(robot.cameras) == ["front"] and robot.policy.cameras == {"front": "front"}


def test_a_key_that_was_taken_out_is_missed_where_that_was_done(folder: Path) -> None:
    text = "extends: franka.yaml\nname: franka_lab\ncontrol:\n  rate_hz: null\n"
    (line,) = refusal(folder, text)
    assert line.startswith(
        "lab.yaml:4: control.rate_hz: found nothing; expected a number from 10 to 1000 in Hz"
    )


def test_each_mistake_names_the_file_it_is_in(folder: Path) -> None:
    base = FRANKA.replace("tool_speed: 0.6", "tool_speed: 600").replace("height: 480", "height: tall", 1)
    base = base.replace("rate_hz: 100\n", "rate_hz: .nan\n").replace(
        "soft_start_s: 0.5", "soft_start_s: .inf"
    )
    (folder / "franka.yaml").write_text(base, encoding="utf-8")
    text = """extends: franka.yaml
name: franka_lab
control:
  rate_hz: 100
safety:
  soft_start_s: 60
cameras: {front: {width: 0}}
"""
    lines = refusal(folder, text)
    assert [line[: line.index(": found")] for line in lines] == [
        "lab.yaml:6: safety.soft_start_s",
        "lab.yaml:7: cameras.front.width",
        f"franka.yaml:{line_of(base, 'height: tall')}: cameras.front.height",
        f"franka.yaml:{line_of(base, 'tool_speed')}: safety.tool_speed",
    ]


def test_a_mistake_between_two_files_names_the_value_that_is_wrong(folder: Path) -> None:
    text = "extends: franka.yaml\nname: franka_lab\npolicy:\n  cameras:\n    wrist: wirst\n"
    (line,) = refusal(folder, text)
    assert line.startswith("lab.yaml:5: policy.cameras.wrist: found 'wirst', which is no camera")
    text = "extends: franka.yaml\nname: franka_lab\ncameras: {wrist: null}\n"
    (line,) = refusal(folder, text)
    assert line.startswith(
        f"franka.yaml:{line_of(FRANKA, 'cameras: {front')}: policy.cameras.wrist: found 'wr"
    )


def test_line_of_a_list_is_that_of_the_file_it_now_comes_from(folder: Path) -> None:
    text = "extends: franka.yaml\nname: franka_lab\narms:\n  arm:\n    home: [0, 0, 0,\n      0, 0, 9, 0]\n"
    (line,) = refusal(folder, text)
    assert line.startswith("lab.yaml:6: arms.arm.home[5]: found 9")
    # Shorter than the extended file's: nothing of that one is left over.
    (line,) = refusal(folder, text.replace("9, 0]", "1]"))
    assert line.startswith("lab.yaml:5: arms.arm.home: found 6 values")


def test_what_the_extended_file_leaves_open_may_be_filled_in(folder: Path) -> None:
    jerk = "jerk: [3000.0, 3000.0, 3000.0, 3000.0, 4000.0, 4000.0, 4000.0]"
    todo = FRANKA.replace(jerk, "jerk: [1, 1, 1, 1, 1, 1, 1, TODO]").replace("rate_hz: 1000", "rate_hz: TODO")
    (folder / "franka.yaml").write_text(todo, encoding="utf-8")
    text = f"extends: franka.yaml\nname: franka_lab\narms: {{arm: {{limits: {{{jerk}}}}}}}\n"
    (line,) = refusal(folder, text)
    at = line_of(todo, "rate_hz: TODO")
    assert line.startswith(f"franka.yaml:{at}: arms.arm.states.rate_hz: found TODO; expected a number")


def test_urdf_path_is_relative_to_the_file_that_says_it(folder: Path) -> None:
    mine = folder / "mine"
    mine.mkdir()
    file = write(mine, "extends: ../franka.yaml\nname: franka_lab\n")
    robot = load_robot(file)
    assert robot.arms["arm"].urdf == "../urdf/fr3.urdf"
    assert read_urdf(file, robot.arms["arm"]).startswith("<?xml")
    lines = refusal(mine, "extends: ../franka.yaml\nname: franka_lab\narms: {arm: {urdf: urdf/fr3.urdf}}\n")
    assert lines[0].startswith("lab.yaml:3: arms.arm.urdf: found 'urdf/fr3.urdf', but there is no file")


def test_a_part_of_a_robot_may_be_extended(folder: Path) -> None:
    cut = FRANKA.index("cameras:")
    (folder / "part.yaml").write_text(FRANKA[:cut], encoding="utf-8")
    rest = "extends: part.yaml\nname: franka_lab\n" + FRANKA[cut:]
    assert load_robot(write(folder, rest)).embodiment == "franka_fr3"


@pytest.mark.parametrize(
    ("text", "starts"),
    [
        (
            "extends: frank.yaml",
            "lab.yaml:1: extends: found 'frank.yaml', but there is no such file; expected the",
        ),
        ("extends: lab.yaml", "lab.yaml:1: extends: found this file itself; expected the path of another"),
        ("\nextends:", "lab.yaml:2: extends: found nothing; expected the path of another robot YAML"),
        ("extends: [franka.yaml]", "lab.yaml:1: extends: found something else than text; expected the path"),
        ("extends: .nan", "lab.yaml:1: extends: found the number .nan; expected a finite"),
        ("extends: 'a\\0b'", "lab.yaml:1: extends: found 'a"),
        ("extends: urdf", "lab.yaml:1: extends: found 'urdf', but there is no such file"),
        (
            "extends: franka.yaml",
            "lab.yaml:1: name: found none beside extends, and 'franka' in franka.yaml; exp",
        ),
        (
            "extends: list.yaml",
            "list.yaml:1: (file): found no block of keys; expected a robot YAML, for lab.yaml",
        ),
        ("extends: broken.yaml", "broken.yaml:1: (file): found broken YAML"),
        (
            "extends: second.yaml",
            "lab.yaml:1: extends: found 'second.yaml', which extends another file itself (line 2); "
            "expected a file without extends: robots inherit one level deep; extend 'franka.yaml' or write "
            "the keys out",
        ),
    ],
)
def test_what_cannot_be_extended(folder: Path, text: str, starts: str) -> None:
    (folder / "second.yaml").write_text("name: second\nextends: franka.yaml\n", encoding="utf-8")
    (folder / "list.yaml").write_text("[1]", encoding="utf-8")
    (folder / "broken.yaml").write_text("{", encoding="utf-8")
    (line,) = refusal(folder, text)
    assert line.startswith(starts), line
