"""`vla robot` as a user meets it: every call is a process of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[1] / "robot_configs"


def vla_robot(*argv: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", "robot", *argv],
        env={**os.environ, "PYTHONPATH": str(CONFIGS.parent), "COLUMNS": "200", **env},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_help() -> None:
    text = vla_robot("--help").stdout
    for command in ("show", "check", "new"):
        assert command in text and f"vla robot {command}" in vla_robot(command, "--help").stdout


def test_show_prints_a_file_that_loads(tmp_path: Path) -> None:
    done = vla_robot("show", "franka_dual")
    assert done.returncode == 0, done.stderr
    (tmp_path / "shown.yaml").write_text(done.stdout, encoding="utf-8")
    assert list(load_robot(tmp_path / "shown.yaml").arms) == ["left", "right"]


def test_check_needs_no_ros_and_says_what_to_do(tmp_path: Path) -> None:
    done = vla_robot("check", "franka", AMENT_PREFIX_PATH="/opt/ros/none")
    assert done.returncode == 0, done.stderr
    assert "nothing wrong in 3 lines" in done.stdout
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        f"extends: {CONFIGS / 'franka.yaml'}\nname: mine\ncontrol: {{rate_hz: 1}}\n", encoding="utf-8"
    )
    done = vla_robot("check", str(mine))
    assert done.returncode == 1
    assert done.stderr == (
        f"vla: {mine}:3: control.rate_hz: found 1; expected a number from 10 to 1000 in Hz; write a value in "
        "that "
        "range\n"
    )


def test_new_then_check(tmp_path: Path) -> None:
    urdf = tmp_path / "fr3.urdf"
    urdf.write_bytes((CONFIGS / "urdf" / "fr3.urdf").read_bytes())
    done = vla_robot("new", "mine", "--from-urdf", "fr3.urdf", "--tool", "fr3_hand_tcp", cwd=tmp_path)
    assert done.returncode == 0 and "fill in what is marked TODO" in done.stdout, done.stderr
    text = (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    assert "    urdf: fr3.urdf\n" in text
    schema = text.split("$schema=")[1].split("\n")[0]
    assert Path(schema).is_file()
    done = vla_robot("check", "./mine.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert all(": found TODO; expected " in line for line in done.stderr.strip().split("\n"))
    # What is there is not written over.
    done = vla_robot("new", "mine", "--from-urdf", "fr3.urdf", "--tool", "fr3_hand_tcp", cwd=tmp_path)
    assert done.returncode == 1 and "mine.yaml: found a file of that name" in done.stderr
    assert (tmp_path / "mine.yaml").read_text(encoding="utf-8") == text
    done = vla_robot("new", "my-arm", "--from-urdf", "fr3.urdf", cwd=tmp_path)
    assert done.returncode == 1 and "NAME: found 'my-arm'" in done.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["fr3.urdf", "mine.yaml"]


def test_the_guide(tmp_path: Path) -> None:
    """docs/robot_yaml.md, as it is typed in a checkout."""
    guide = (CONFIGS.parent / "docs" / "robot_yaml.md").read_text(encoding="utf-8")
    shutil.copytree(CONFIGS, tmp_path / "robot_configs")
    commands = [line.split() for line in re.findall(r"^    vla robot (.*)$", guide, re.MULTILINE)]
    assert [command[0] for command in commands] == ["new", "check", "check"]
    done = vla_robot(*commands[0], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ": found TODO; expected " in vla_robot(*commands[1], cwd=tmp_path).stderr
    (text,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "franka_lab.yaml").write_text(text, encoding="utf-8")
    done = vla_robot("show", "./franka_lab.yaml", cwd=tmp_path)
    assert done.returncode == 0 and "wrist" not in done.stdout and "rate_hz: 50.0" in done.stdout, done.stderr
    assert (tmp_path / text.split("$schema=")[1].split("\n")[0]).is_file()
