"""Forbidden boxes, several arms, gripper speed and effort in a robot YAML: each mistake with line and fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"


def refusal(tmp_path: Path, robot: str, *changes: tuple[str, str]) -> list[str]:
    """The lines of the ConfigError for a shipped YAML with pieces replaced, without the folder's name."""
    text = (CONFIGS / f"{robot}.yaml").read_text(encoding="utf-8")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    file = tmp_path / f"{robot}.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    return [line.replace(f"{tmp_path}/", "") for line in str(caught.value).split("\n")]


def one(lines: list[str], robot: str) -> str:
    """The only line, without file and line number, which must be there."""
    assert len(lines) == 1, lines
    file, number, rest = lines[0].split(":", 2)
    assert file == f"{robot}.yaml"
    assert int(number) > 1
    return rest.strip()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (
            "min: [0.15, -1.0, -0.5], max: [1.2, 1.0, -0.02]",
            "min: [0.15, -1.0, -0.5], max: [1.2, 1.0, -0.6]",
            "safety.forbidden[0].min[2]: found -0.5 m; expected less than max[2] = -0.6 m; swap the two",
        ),
        (
            "min: [0.15, -1.0, -0.5], max: [1.2, 1.0, -0.02]",
            "min: [0.15, -1.0, -0.5], max: [1.2, 1.0, 0.5]",
            "safety.forbidden: found a box that reaches 0.013 m into the links of arm 'arm' at home; "
            "expected boxes that the links are outside of; make the box smaller, move home or lower "
            "link_radius",
        ),
        (
            "    link_radius: 0.08\n",
            "",
            "arms.arm.link_radius: found nothing, though safety.forbidden has boxes; expected how thick the "
            "links are, in m; add link_radius: the radius of capsules around the lines from joint to joint",
        ),
        (
            "link_radius: 0.08",
            "link_radius: 80",
            "arms.arm.link_radius: found 80; expected a number from 0.005 to 1 in m; write metres, not "
            "millimetres: 80 mm is 0.08 m",
        ),
        (
            "speed: 0.1  ",
            "speed: 0.5  ",
            "arms.arm.gripper.speed: found 0.5 m/s; expected at most 0.4 m/s, the sum of the URDF's "
            "velocities of 'fr3_finger_joint1', 'fr3_finger_joint2'; lower it",
        ),
        (
            "max_effort: 30.0",
            "max_effort: 130.0",
            "arms.arm.gripper.action.max_effort: found 130.0 N; expected at most the URDF's effort of "
            "'fr3_finger_joint1', 'fr3_finger_joint2', 100 N; lower it",
        ),
        (
            "soft_start_s: 0.5",
            "soft_start_s: -1",
            "safety.soft_start_s: found -1; expected a number from 0 to 10 in s; write a value in that range",
        ),
        (
            "rate_hz: 100\n",
            "rate_hz: 100\n  jerk_limited_targets: 1\n",
            "control.jerk_limited_targets: found 1; expected true or false; write true or false",
        ),
    ],
)
def test_mistakes_of_one_arm(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert one(refusal(tmp_path, "franka", (old, new)), "franka") == says


LEFT = "    base_pose: {position: [0.0, 0.35, 0.0], rpy: [0.0, 0.0, 0.0]}\n"
RIGHT = LEFT.replace("0.35", "-0.35")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            [(LEFT, "")],
            "arms.left.base_pose: found nothing, though there are several arms; expected where its "
            "base_frame lies in the frame that all arms share; add base_pose: {position: [x, y, z], rpy: "
            "[roll, pitch, yaw]}",
        ),
        (
            [(RIGHT, LEFT)],
            "arms.right.base_pose: found arm 'right' standing where arm 'left' stands; expected where its "
            "base_frame lies in the frame that all arms share; correct one of the two",
        ),
        (
            [
                ("joint_states_timeout_ms: 100", "joint_states_timeout_ms: 2"),
                ("rate_hz: 1000", "rate_hz: 200"),
            ],
            "safety.joint_states_timeout_ms: found 2 ms; expected at least the period of the joint states of "
            "arm 'left', 5 ms; write some periods",
        ),
        (
            [(LEFT, LEFT.replace("0.35", "-0.17"))],
            "arms.right.home: found 0.020 m from arm 'left' at its home; expected at least "
            "safety.arm_distance = 0.05 m; correct base_pose, home or link_radius",
        ),
        (
            [(LEFT, LEFT.replace("[0.0, 0.0, 0.0]}", "[90, 0.0, 0.0]}"))],
            "arms.left.base_pose.rpy[0]: found 90; expected a number from -6.2832 to 6.2832 in rad; write "
            "radians, not degrees: 90 deg is 1.571 rad",
        ),
        (
            [("arm_distance: 0.05", "arm_distance: 50")],
            "safety.arm_distance: found 50; expected a number from 0.005 to 1 in m; write metres, not "
            "millimetres: 50 mm is 0.05 m",
        ),
        (
            [("    link_radius: 0.08\n", "")],
            "arms.left.link_radius: found nothing, though another arm is to be kept at a distance; expected "
            "how thick the links are, in m; add link_radius: the radius of capsules around the lines from "
            "joint to joint",
        ),
    ],
)
def test_mistakes_of_two_arms(tmp_path: Path, changes: list[tuple[str, str]], says: str) -> None:
    assert one(refusal(tmp_path, "franka_dual", *changes), "franka_dual") == says


def test_what_may_be_left_out(tmp_path: Path) -> None:
    """Without boxes one arm needs no link radius, and the latency's starting value is zero."""
    text = (CONFIGS / "franka.yaml").read_text(encoding="utf-8")
    begin = text.index("  forbidden:")
    end = text.index("  soft_start_s: 0.5\n") + len("  soft_start_s: 0.5\n")
    text = text[:begin] + text[end:]
    for line in (
        "    link_radius: 0.08\n",
        "    actuation_latency_ms: 40                # until it has been measured\n",
    ):
        assert line in text
        text = text.replace(line, "")
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    (tmp_path / "franka.yaml").write_text(text, encoding="utf-8")
    robot = load_robot(tmp_path / "franka.yaml")
    assert robot.arms["arm"].actuation_latency_ms == 0.0
    assert robot.safety.forbidden == []
    assert robot.safety.soft_start_s == 0.5
    assert robot.control.jerk_limited_targets is False
