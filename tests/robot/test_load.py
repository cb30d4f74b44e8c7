"""Robot YAMLs: every mistake named with file, line, key, what was found, what was expected, what to do."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from vla_ros.errors import ConfigError, KinematicsError
from vla_ros.robot.config import Arm
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import check_description, load_robot, read_urdf

CONFIGS = Path(__file__).parents[2] / "robot_configs"
FRANKA = (CONFIGS / "franka.yaml").read_text(encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    return tmp_path


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1


def refusal(folder: Path, text: str) -> list[str]:
    """The lines of the ConfigError for a YAML text, without the folder's name."""
    (folder / "franka.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_robot(folder / "franka.yaml")
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def changed(old: str, new: str) -> str:
    assert old in FRANKA, old
    return FRANKA.replace(old, new, 1)


def refused_line(folder: Path, old: str, new: str) -> str:
    """The one mistake of franka.yaml with `old` replaced, with its line checked and cut off."""
    text = changed(old, new)
    lines = refusal(folder, text)
    assert len(lines) == 1, lines
    prefix = f"franka.yaml:{line_of(text, new)}: "
    assert lines[0].startswith(prefix), lines[0]
    return lines[0][len(prefix) :]


def test_franka_loads() -> None:
    robot = load_robot(CONFIGS / "franka.yaml")
    assert list(robot.arms) == ["arm"]
    assert robot.arms["arm"].joints[6] == "fr3_joint7"
    assert robot.arms["arm"].limits.position[5] == (0.566, 4.495)
    assert robot.arms["arm"].states.reliability == "best_effort"
    gripper = robot.arms["arm"].gripper
    assert gripper is not None and gripper.action is not None
    assert gripper.action.min_change_m == 0.002


def test_every_shipped_robot_loads() -> None:
    files = sorted(CONFIGS.glob("*.yaml"))
    assert files
    for file in files:
        assert load_robot(file).name == file.stem


# The mistakes of bad input, one by one.


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


def test_missing_camera(folder: Path) -> None:
    assert refused_line(folder, "wrist: wrist}", "wrist: wirst}") == (
        "policy.cameras.wrist: found 'wirst', which is no camera of this robot; "
        "expected one of 'front', 'wrist'; did you mean 'wrist'?"
    )


def test_joint_not_in_the_urdf(folder: Path) -> None:
    assert refused_line(folder, "fr3_joint6, fr3_joint7]", "fr3_joint6, fr3_jont7]") == (
        "arms.arm.joints[6]: found 'fr3_jont7', which is not in the URDF urdf/fr3.urdf; expected one of "
        "'fr3_joint1', 'fr3_joint2', 'fr3_joint3', 'fr3_joint4', 'fr3_joint5', 'fr3_joint6', 'fr3_joint7', "
        "'fr3_finger_joint1', 'fr3_finger_joint2'; did you mean 'fr3_joint7'?"
    )


def test_gripper_joint_not_in_the_urdf(folder: Path) -> None:
    message = refused_line(folder, "fr3_finger_joint2]", "left_finger]")
    assert message.startswith("arms.arm.gripper.joints[1]: found 'left_finger', which is not in the URDF")


def test_fixed_joint(folder: Path) -> None:
    assert refused_line(folder, "fr3_joint6, fr3_joint7]", "fr3_joint6, fr3_joint8]") == (
        "arms.arm.joints[6]: found 'fr3_joint8', a fixed joint in the URDF urdf/fr3.urdf; "
        "expected a revolute, continuous or prismatic joint; name only joints that move"
    )


def test_missing_urdf(folder: Path) -> None:
    assert refused_line(folder, "urdf: urdf/fr3.urdf", "urdf: urdf/fr4.urdf") == (
        "arms.arm.urdf: found 'urdf/fr4.urdf', but there is no file urdf/fr4.urdf; "
        "expected a URDF file; correct the path"
    )


def test_urdf_that_is_none(folder: Path) -> None:
    (folder / "urdf" / "fr3.urdf").write_text("<robot", encoding="utf-8")
    assert "a URDF that cannot be used (not XML" in refusal(folder, FRANKA)[0]


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


def test_home_outside_the_workspace(folder: Path) -> None:
    assert refused_line(folder, "workspace: {min: [0.15,", "workspace: {min: [0.35,") == (
        "safety.workspace: found [0.35, 0.75] m along x; "
        "expected a box around the tool at home of arm 'arm', x = 0.307 m; widen the box or move home"
    )


def test_driver_without_an_entry(folder: Path) -> None:
    entry = FRANKA[FRANKA.index("      joint_trajectory:\n") : FRANKA.index("      joint_position:")]
    text = changed(entry, "")
    assert refusal(folder, text) == [
        f"franka.yaml:{line_of(text, 'driver: joint')}: arms.arm.driver: found 'joint_trajectory', "
        "which has no entry under drivers; expected one of 'joint_position', 'cartesian_pose'; "
        "add joint_trajectory: under drivers or choose another"
    ]


def test_one_topic_for_two_cameras(folder: Path) -> None:
    assert refused_line(folder, "topic: /wrist/color/image_raw", "topic:  /front/color/image_raw") == (
        "cameras.wrist.topic: found /front/color/image_raw, the topic of camera 'front' too; "
        "expected one topic per camera; name this camera's own topic"
    )


def test_repeated_key(folder: Path) -> None:
    text = changed(
        "    tool_frame: fr3_hand_tcp\n", "    tool_frame: fr3_hand_tcp\n    tool_frame: fr3_link8\n"
    )
    first = line_of(text, "tool_frame: fr3_hand_tcp")
    assert refusal(folder, text) == [
        f"franka.yaml:{first + 1}: arms.arm.tool_frame: found the key 'tool_frame' again "
        f"(first on line {first}); expected it once; remove one"
    ]


def test_a_joint_left_out_is_not_held_at_zero_silently(folder: Path) -> None:
    text = changed(", fr3_joint7]", "]")
    text = text.replace("1.570796, 0.785398]", "1.570796]").replace("        - [-3.011, 3.011]\n", "")
    text = text.replace("2.0, 2.0, 2.0]", "2.0, 2.0]").replace("9.0, 9.0, 9.0]", "9.0, 9.0]")
    text = text.replace("4000.0, 4000.0, 4000.0]", "4000.0, 4000.0]").replace("2.75, 8.5]", "2.75]")
    assert refusal(folder, text) == [
        f"franka.yaml:{line_of(text, 'joints:')}: arms.arm.joints: found 6 joints "
        "('fr3_joint1', 'fr3_joint2', 'fr3_joint3', 'fr3_joint4', 'fr3_joint5', 'fr3_joint6'); "
        "expected the 7 that move between 'fr3_link0' and 'fr3_hand_tcp': "
        "'fr3_joint1', 'fr3_joint2', 'fr3_joint3', 'fr3_joint4', 'fr3_joint5', "
        "'fr3_joint6', 'fr3_joint7'; name exactly those"
    ]


def test_all_mistakes_at_once_in_the_order_of_the_file(folder: Path) -> None:
    text = changed("rate_hz: 1000", "rate_hz: .nan").replace("tool_speed: 0.6", "tool_speed: 600")
    text = text.replace("embodiment: franka_fr3\n", "").replace("width: 640", "width: 640.5")
    lines = refusal(folder, text)
    assert len(lines) == 5
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "franka.yaml:1: (file): found nothing"),
        ("# only a comment\n", "found nothing"),
        ("[1, 2]", "franka.yaml:1: (file): found a list of 2; expected the keys schema_version"),
        ("a: [1,\nb: 2", "found broken YAML"),
        ("a: 1\n---\nb: 2", "found broken YAML"),
        ("a: \x07", "found broken YAML"),
        ("\ta: 1", "found broken YAML"),
        ("a: *nobody", "found broken YAML"),
        ("a: &a [*a]", "found an alias (*name) that unfolds without end"),
        ("[" * 5000, "nested too deeply"),
        ("? [1, 2]\n: 3", "a key that is no plain word"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdef", "bcdefg", strict=True)
            ),
            "found an alias (*name) that unfolds without end",
        ),
    ],
)
def test_not_even_a_robot(folder: Path, text: str, says: str) -> None:
    assert says in "\n".join(refusal(folder, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: found no such file"):
        load_robot(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="found a file that cannot be read"):
        load_robot(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe\xe9")
    with pytest.raises(ConfigError, match="found a file that cannot be read"):
        load_robot(tmp_path / "latin.yaml")


def test_description_from_the_topic_is_checked_too() -> None:
    robot = load_robot(CONFIGS / "franka.yaml")
    xml = read_urdf(CONFIGS / "franka.yaml", robot.arms["arm"])
    check_description(robot, "arm", xml)
    with pytest.raises(
        KinematicsError, match=r"^/robot_description: arms\.arm\.joints\[0\]: found 'fr3_joint1'"
    ):
        check_description(robot, "arm", xml.replace("fr3_joint", "panda_joint"))
    tighter = xml.replace('upper="2.7501"', 'upper="2.0"')
    with pytest.raises(
        KinematicsError, match=r"expected limits inside the URDF's \[-2\.7501, 2\]; tighten them$"
    ):
        check_description(robot, "arm", tighter)
    with pytest.raises(KinematicsError, match="not XML"):
        check_description(robot, "arm", "hello")


SIX_AXES = """
<robot name="sixer"><link name="floor"/><link name="tool"/>
<joint name="mount" type="fixed"><parent link="floor"/><child link="link0"/><origin xyz="0 0 0.1"/></joint>
<link name="link0"/><link name="link1"/><link name="link2"/><link name="link3"/><link name="link4"/>
<link name="link5"/><link name="link6"/>
<joint name="yaw" type="continuous"><parent link="link0"/><child link="link1"/><axis xyz="0 0 1"/></joint>
<joint name="lift" type="prismatic"><parent link="link1"/><child link="link2"/><axis xyz="0 0 1"/>
  <limit lower="0" upper="0.5" velocity="0.2" effort="100"/></joint>
<joint name="reach" type="prismatic"><parent link="link2"/><child link="link3"/><axis xyz="1 0 0"/>
  <limit lower="0" upper="0.4" velocity="0.2" effort="100"/></joint>
<joint name="roll" type="continuous"><parent link="link3"/><child link="link4"/><axis xyz="1 0 0"/>
  <limit velocity="3" effort="10"/></joint>
<joint name="pitch" type="revolute"><parent link="link4"/><child link="link5"/><axis xyz="0 1 0"/>
  <limit lower="-2" upper="2" velocity="3" effort="10"/></joint>
<joint name="twist" type="revolute"><parent link="link5"/><child link="link6"/><axis xyz="0 0 1"/>
  <limit lower="-3" upper="3" velocity="3" effort="10"/></joint>
<joint name="flange" type="fixed"><parent link="link6"/><child link="tool"/><origin xyz="0.1 0 0"/></joint>
</robot>
"""

SIX_AXES_YAML = """
schema_version: 1
name: sixer
embodiment: sixer
arms:
  left:
    urdf: sixer.urdf
    base_frame: link0
    tool_frame: tool
    joints: [yaw, lift, reach, roll, pitch, twist]
    home: [0, 0.3, 0.2, 0, 0.1, 0]
    limits: &limits
      position: [[-6, 6], [0, 0.5], [0, 0.4], [-3, 3], [-2, 2], [-3, 3]]
      velocity: [1, 0.1, 0.1, 1, 1, 1]
      acceleration: [5, 1, 1, 5, 5, 5]
      jerk: [100, 10, 10, 100, 100, 100]
    states: {topic: left/joint_states, rate_hz: 200, max_age_ms: 50}
    driver: joint_trajectory
    drivers:
      joint_trajectory: {topic: left/joint_trajectory}
    actuation_latency_ms: 0
cameras:
  top: {topic: top/compressed, camera_info: top/info, transport: compressed, width: 1280, height: 720,
        rate_hz: 30, max_age_ms: 100}
observation: {max_skew_ms: 40}
control: {rate_hz: 50}
safety:
  workspace: {min: [0, -1, 0], max: [1, 1, 1]}
  first_command_joint: 0.2
  first_command_position: 0.05
  first_command_rotation: 0.2
  tool_speed: 0.3
  tool_rotation_speed: 1
  chunk_timeout_ms: 500
  joint_states_timeout_ms: 100
"""


def test_another_robot_is_a_file_and_no_code(tmp_path: Path) -> None:
    """Other axes, prismatic and continuous joints, no gripper, an alias."""
    (tmp_path / "sixer.urdf").write_text(SIX_AXES, encoding="utf-8")
    file = tmp_path / "sixer.yaml"
    file.write_text(SIX_AXES_YAML, encoding="utf-8")
    arm = load_robot(file).arms["left"]
    assert arm.gripper is None
    kinematics = Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
    home = kinematics.forward(arm.home)
    assert home[:3, 3] == pytest.approx([0.2 + 0.1 * math.cos(0.1), 0, 0.3 - 0.1 * math.sin(0.1)])
    home[:3, 3] += [0.05, 0.05, -0.05]
    solution = kinematics.inverse(home, arm.home, kinematics.lower, kinematics.upper)
    assert solution.reached


def test_aliases_serve_a_second_arm_but_merge_keys_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "sixer.urdf").write_text(SIX_AXES, encoding="utf-8")
    file = tmp_path / "sixer.yaml"
    left = SIX_AXES_YAML[SIX_AXES_YAML.index("  left:\n") : SIX_AXES_YAML.index("cameras:")]
    limits = left[left.index("&limits") : left.index("    states:")]
    right = left.replace("  left:", "  right:").replace(limits, "*limits\n").replace("left/", "right/")
    place = "    link_radius: 0.05\n    base_pose: {position: [0, %s, 0]}\n    urdf:"
    left, right = (arm.replace("    urdf:", place % y, 1) for arm, y in ((left, "0"), (right, "-1.2")))
    begin, end = SIX_AXES_YAML.index("  left:\n"), SIX_AXES_YAML.index("cameras:")
    file.write_text(SIX_AXES_YAML[:begin] + left + right + SIX_AXES_YAML[end:], encoding="utf-8")
    robot = load_robot(file)
    assert robot.arms["right"].limits == robot.arms["left"].limits
    assert robot.arms["right"].states.topic == "right/joint_states"
    file.write_text(
        SIX_AXES_YAML.replace("cameras:", "  right:\n    <<: *limits\ncameras:"), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"arms\.right\.<<: found the unknown key '<<'"):
        load_robot(file)
