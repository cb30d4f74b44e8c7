"""Robot YAMLs: those that load, and files that are none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.robot.franka_file import CONFIGS, refusal
from vla_ros.errors import ConfigError
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf


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
