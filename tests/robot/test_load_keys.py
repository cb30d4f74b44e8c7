"""Mistakes in keys and values: named with file, line, key, what was found, what was expected, what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robot.franka_file import FRANKA, changed, line_of, refusal, refused_line
from vla_ros.robot.config import Arm


def test_unknown_key(folder: Path) -> None:
    text = changed("max_age_ms: 50\n", "max_age_ms: 50\n      max_age: 50\n")
    assert refusal(folder, text) == [
        f"franka.yaml:{line_of(text, 'max_age: 50')}: arms.arm.states.max_age: found the unknown key "
        "'max_age'; expected one of topic, rate_hz, max_age_ms, reliability, stamps; did you mean "
        "'max_age_ms'?"
    ]


def test_misspelled_key_is_named_with_the_missing_one(folder: Path) -> None:
    text = changed("base_frame:", "base_fram:")
    arm = line_of(text, "  arm:")
    assert refusal(folder, text) == [
        f"franka.yaml:{arm}: arms.arm.base_frame: found nothing; expected text; add base_frame: to arms.arm",
        f"franka.yaml:{line_of(text, 'base_fram:')}: arms.arm.base_fram: found the unknown key 'base_fram'; "
        f"expected one of {', '.join(Arm.model_fields)}; did you mean 'base_frame'?",
    ]


def test_repeated_key(folder: Path) -> None:
    text = changed(
        "    tool_frame: fr3_hand_tcp\n", "    tool_frame: fr3_hand_tcp\n    tool_frame: fr3_link8\n"
    )
    first = line_of(text, "tool_frame: fr3_hand_tcp")
    assert refusal(folder, text) == [
        f"franka.yaml:{first + 1}: arms.arm.tool_frame: found the key 'tool_frame' again "
        f"(first on line {first}); expected it once; remove one"
    ]


@pytest.mark.parametrize(
    ("new", "found", "do"),
    [
        ("rate_hz: fast", "'fast'", "write a number"),
        ("rate_hz: 1e3", "'1e3'", "write the number plainly: 1000.0"),
        ("rate_hz: 1.0e999", "'1.0e999'", "write a number"),
        ("rate_hz: '1000'", "'1000'", "write the number plainly: 1000.0"),
        ("rate_hz: yes", "yes (true or false)", "write a number"),
        ("rate_hz: [1000]", "a list of 1", "write a number"),
        ("rate_hz: {a: 1}", "a block of keys", "write a number"),
        ("rate_hz:", "nothing", "write a number"),
        ("rate_hz: 0", "0", "write a value in that range"),
        ("rate_hz: 20000", "20000", "write a value in that range"),
    ],
)
def test_wrong_type(folder: Path, new: str, found: str, do: str) -> None:
    assert refused_line(folder, "rate_hz: 1000", new) == (
        f"arms.arm.states.rate_hz: found {found}; expected a number above 0 up to 10000 in Hz; {do}"
    )


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf", "0x10", "010", "1:30", "1_000", "1.0e+999"])
def test_surprising_numbers(folder: Path, number: str) -> None:
    assert refused_line(folder, "rate_hz: 1000", f"rate_hz: {number}").startswith(
        f"arms.arm.states.rate_hz: found the number {number}; expected a finite "
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[-2.733, 2.733]",
            "[-2.733, 157.2]",
            "arms.arm.limits.position[0][1]: found 157.2; expected a number from -6.2832 to 6.2832 in rad; "
            "write radians, not degrees: 157.2 deg is 2.744 rad",
        ),
        (
            "home: [0.0,",
            "home: [45,",
            "arms.arm.home[0]: found 45; expected a number from -6.2832 to 6.2832 in rad; "
            "write radians, not degrees: 45 deg is 0.7854 rad",
        ),
        (
            "velocity: [1.5,",
            "velocity: [90,",
            "arms.arm.limits.velocity[0]: found 90; expected a number above 0 up to 50 in rad/s; "
            "write rad/s, not degrees/s: 90 deg/s is 1.571 rad/s",
        ),
        (
            "width: [0.0, 0.08]",
            "width: [0.0, 80]",
            "arms.arm.gripper.width[1]: found 80; expected a number from 0 to 0.5 in m; "
            "write metres, not millimetres: 80 mm is 0.08 m",
        ),
        (
            "min: [0.15,",
            "min: [150,",
            "safety.workspace.min[0]: found 150; expected a number from -5 to 5 in m; "
            "write metres, not millimetres: 150 mm is 0.15 m",
        ),
        (
            "tool_speed: 0.6",
            "tool_speed: 600",
            "safety.tool_speed: found 600; expected a number above 0 up to 5 in m/s; "
            "write m/s, not mm/s: 600 mm/s is 0.6 m/s",
        ),
        (
            "max_age_ms: 50",
            "max_age_ms: 0.05",
            "arms.arm.states.max_age_ms: found 0.05; expected a number from 1 to 5000 in ms; "
            "write milliseconds, not seconds: 0.05 s is 50 ms",
        ),
        (
            "rate_hz: 15, max_age_ms: 250",
            "rate_hz: 15, max_age_ms: 25",
            "arms.arm.gripper.states.max_age_ms: found 25 ms; "
            "expected at least the period of rate_hz = 15, 66.67 ms; write more than one period",
        ),
        (
            "link_radius: 0.08",
            "link_radius: 0.0008",
            "arms.arm.link_radius: found 0.0008; expected a number from 0.005 to 1 in m; "
            "write a value in that range",
        ),
        (
            "velocity: [1.5,",
            "velocity: [2.7,",
            "arms.arm.limits.velocity[0]: found 2.7 for fr3_joint1; "
            "expected at most the URDF's 2.62; lower it",
        ),
        (
            "[-2.733, 2.733]",
            "[-2.733, 2.85]",
            "arms.arm.limits.position[0]: found [-2.733, 2.85] for fr3_joint1; "
            "expected limits inside the URDF's [-2.7501, 2.7501]; tighten them",
        ),
        (
            "width: [0.0, 0.08]",
            "width: [0.0, 0.085]",
            "arms.arm.gripper.width[1]: found 0.085 m; expected at most 0.08 m, the sum of the URDF's upper "
            "limits of 'fr3_finger_joint1', 'fr3_finger_joint2'; lower it",
        ),
    ],
)
def test_wrong_unit_or_range(folder: Path, old: str, new: str, message: str) -> None:
    assert refused_line(folder, old, new) == message


def test_home_outside_the_workspace(folder: Path) -> None:
    assert refused_line(folder, "workspace: {min: [0.15,", "workspace: {min: [0.35,") == (
        "safety.workspace: found [0.35, 0.75] m along x; "
        "expected a box around the tool at home of arm 'arm', x = 0.307 m; widen the box or move home"
    )


def test_missing_camera(folder: Path) -> None:
    assert refused_line(folder, "wrist: wrist}", "wrist: wirst}") == (
        "policy.cameras.wrist: found 'wirst', which is no camera of this robot; "
        "expected one of 'front', 'wrist'; did you mean 'wrist'?"
    )


def test_one_topic_for_two_cameras(folder: Path) -> None:
    assert refused_line(folder, "topic: /wrist/color/image_raw", "topic:  /front/color/image_raw") == (
        "cameras.wrist.topic: found /front/color/image_raw, the topic of camera 'front' too; "
        "expected one topic per camera; name this camera's own topic"
    )


def test_driver_without_an_entry(folder: Path) -> None:
    entry = FRANKA[FRANKA.index("      joint_trajectory:\n") : FRANKA.index("      joint_position:")]
    text = changed(entry, "")
    assert refusal(folder, text) == [
        f"franka.yaml:{line_of(text, 'driver: joint')}: arms.arm.driver: found 'joint_trajectory', "
        "which has no entry under drivers; expected one of 'joint_position', 'cartesian_pose'; "
        "add joint_trajectory: under drivers or choose another"
    ]


@pytest.mark.parametrize(
    ("old", "new", "starts"),
    [
        (
            "tool_frame: fr3_hand_tcp",
            "tool_frame: fr3_tcp",
            "arms.arm.tool_frame: found 'fr3_tcp', which is not",
        ),
        ("base_frame: fr3_link0", "base_frame: link0", "arms.arm.base_frame: found 'link0', which is not"),
        (
            "tool_frame: fr3_hand_tcp",
            "tool_frame: base",
            "arms.arm.tool_frame: found 'base', which does not hang",
        ),
        (
            "frame: base}",
            "frame: fr3_link8}",
            "arms.arm.drivers.cartesian_pose.frame: found 'fr3_link8', which lies",
        ),
        (
            "driver: joint_trajectory",
            "driver: joint_positio",
            "arms.arm.driver: found 'joint_positio'; expected one",
        ),
        (
            "        topic: /joint_trajectory_controller/joint_trajectory\n",
            "",
            None,
        ),
        ("min: [0.15,", "min: [0.35,", None),
        (
            "min: [0.15,",
            "min: [0.76,",
            "safety.workspace.min[0]: found 0.76 m; expected less than max[0] = 0.75 m",
        ),
        (
            "[-2.733, 2.733]",
            "[2.733, -2.733]",
            "arms.arm.limits.position[0]: found [2.733, -2.733]; expected",
        ),
        (
            "home: [0.0,",
            "home: [3.0,",
            "arms.arm.home[0]: found 3.0 rad; expected a value within limits.position[0]",
        ),
        ("home: [0.0,", "home: [0.0, 0.0,", "arms.arm.home: found 8 values; expected 7, one per joint"),
        (
            "width: [0.0, 0.08]",
            "width: [0.08]",
            "arms.arm.gripper.width: found 1 values; expected a list of 2",
        ),
        (
            "width: [0.0, 0.08]",
            "width: [0.0, 0.08, 1]",
            "arms.arm.gripper.width: found a list of 3; expected a list",
        ),
        (
            "width: [0.0, 0.08]",
            "width: [0.08, 0.0]",
            "arms.arm.gripper.width: found [0.08, 0.0]; expected closed",
        ),
        (
            "[fr3_finger_joint1, fr3_finger_joint2]",
            "[]",
            "arms.arm.gripper.joints: found an empty list; expected",
        ),
        ("topic: /wrist/color/image_raw", "topic: /front/color/image_raw", None),
        (
            "topic: /wrist/color/image_raw",
            "topic: wrist image",
            "cameras.wrist.topic: found 'wrist image'; expected a",
        ),
        (
            "topic: /wrist/color/image_raw",
            "topic: /wrist//image",
            "cameras.wrist.topic: found '/wrist//image'; exp",
        ),
        ("name: franka", "name: on", "name: found on (true or false); expected a name of letters"),
        ("name: franka", "name: !!python/name:os.system a", "name: found 'a' of YAML type"),
        ("schema_version: 1", "schema_version: 2", "schema_version: found 2; expected 1; write 1"),
        (
            "commands: [0.0, 0.04]",
            "commands: [0.0, wide]",
            "arms.arm.gripper.commands[1]: found 'wide'; expected a number from -100000 to 100000 in the",
        ),
    ],
)
def test_other_mistakes(folder: Path, old: str, new: str, starts: str | None) -> None:
    text = changed(old, new)
    lines = refusal(folder, text)
    if starts is not None:
        assert any(starts in line for line in lines), lines
        assert all(line.startswith("franka.yaml:") for line in lines)


def test_all_mistakes_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = changed("rate_hz: 1000", "rate_hz: .nan").replace("tool_speed: 0.6", "tool_speed: 600")
    text = text.replace("embodiment: franka_fr3\n", "").replace("width: 640", "width: 640.5")
    lines = refusal(folder, text)
    assert len(lines) == 5
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)
