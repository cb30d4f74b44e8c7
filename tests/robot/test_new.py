"""`vla robot new`: a file whose only mistakes are its TODOs, for each URDF that is shipped."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot
from vla_ros.robot.new import starting_yaml
from vla_ros.robot.schema import robot_schema

URDF = Path(__file__).parents[2] / "robot_configs" / "urdf"
TOOLS = {
    "fr3": "fr3_hand_tcp",
    "kinova_gen3": "tool_frame",
    "piper": "gripper_tcp",
    "vx300s": "ee_gripper_link",
    "wx250s": "ee_gripper_link",
}
ARM = "<robot name='a'><link name='floor'/><link name='on'/>{}</robot>"
JOINT = (
    "<joint name='{}' type='{}'><parent link='{}'/><child link='{}'/><axis xyz='0 1 0'/>{}"
    "<limit lower='-1' upper='9' velocity='0' effort='1'/></joint>"
)
# What a person would look up.
ANSWERS = {
    "acceleration: TODO": "acceleration: {n}",
    "jerk: TODO": "jerk: {n}",
    "{topic: TODO, rate_hz: TODO, max_age_ms: TODO}": "{topic: /js, rate_hz: 100, max_age_ms: 50}",
    "driver: TODO": "driver: joint_trajectory",
    "drivers: {}": "drivers: {joint_trajectory: {topic: /jt}}",
    "topic: TODO, camera_info: TODO": "topic: /image, camera_info: /info",
    "width: TODO, height: TODO": "width: 640, height: 480",
    "rate_hz: TODO, max_age_ms: TODO": "rate_hz: 30, max_age_ms: 90",
}


def begin(folder: Path, urdf: Path, tool: str | None = None, base: str | None = None) -> Path:
    file = folder / "mine.yaml"
    text = starting_yaml("mine", urdf, str(urdf), "schema/robot.schema.json", base, tool)
    file.write_text(text, encoding="utf-8")
    return file


def todo(file: Path) -> list[str]:
    """The keys that are refused, all of them for being TODO."""
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    lines = str(caught.value).split("\n")
    assert all(": found TODO; expected " in line and line.endswith("; fill it in") for line in lines), lines
    return [line.split(": ")[1] for line in lines]


@pytest.mark.parametrize("name", sorted(TOOLS))
def test_what_the_urdf_tells_is_filled_in_and_the_rest_is_refused(tmp_path: Path, name: str) -> None:
    file = begin(tmp_path, URDF / f"{name}.urdf", TOOLS[name])
    fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    unknown = [key for key in todo(file) if not key.startswith("arms.arm.limits.velocity")]
    assert unknown == [
        "arms.arm.limits.acceleration",
        "arms.arm.limits.jerk",
        "arms.arm.states.topic",
        "arms.arm.states.rate_hz",
        "arms.arm.states.max_age_ms",
        "arms.arm.driver",
        *[f"cameras.front.{key}" for key in fields["cameras"]["front"]],
    ]
    text = file.read_text(encoding="utf-8")
    count = len(fields["arms"]["arm"]["joints"])
    for old, new in ANSWERS.items():
        assert old in text, old
        text = text.replace(old, new.replace("{n}", str([10.0] * count)))
    file.write_text(text, encoding="utf-8")
    robot = load_robot(file)
    arm = robot.arms["arm"]
    assert len(arm.joints) == count == len(arm.home) == len(arm.limits.velocity)
    assert not list(Draft7Validator(robot_schema()).iter_errors(yaml.safe_load(text)))
    # The gripper's lines are right, too, once they are uncommented.
    uncommented = text.replace("    # gripper:", "    gripper:").replace("    #   ", "      ")
    assert set(yaml.safe_load(uncommented)["arms"]["arm"]["gripper"]) == {
        "joints", "width", "speed", "states", "action"
    }  # fmt: skip


def test_the_only_end_is_the_tool_and_odd_names_are_quoted(tmp_path: Path) -> None:
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(ARM.format(JOINT.format("no", "revolute", "floor", "on", "")), encoding="utf-8")
    file = begin(tmp_path, urdf)
    arm = yaml.safe_load(file.read_text(encoding="utf-8"))["arms"]["arm"]
    assert (arm["base_frame"], arm["tool_frame"], arm["joints"]) == ("floor", "on", ["no"])
    # One turn either way at most, and no velocity where the URDF has none.
    assert arm["limits"]["position"] == [[-1.0, 6.2831]] and arm["limits"]["velocity"] == ["TODO"]
    assert arm["home"] == [0.0] and -math.tau < arm["limits"]["position"][0][1] < math.tau
    assert "arms.arm.limits.velocity[0]" in todo(file)


@pytest.mark.parametrize(
    ("inside", "tool", "base", "says"),
    [
        ("", None, None, "found 2 links that hang on none ('floor', 'on'); expected one; give --base"),
        ("", None, "floor", "found 0 ends below 'floor' (none that moves); expected one; give --tool"),
        ("", "on", "floor", "found no joint that moves between 'floor' and 'on'"),
        ("", None, "flor", "--base: found 'flor', which is no link of"),
        (
            JOINT.format("a", "revolute", "floor", "on", ""),
            "no",
            None,
            "expected one of 'floor', 'on'; choose one",
        ),
        (
            JOINT.format("a", "revolute", "floor", "on", "<mimic joint='b'/>"),
            None,
            None,
            "found 'a' on the way to 'on', which mimics 'b'",
        ),
        (
            JOINT.format("a", "revolute", "floor", "on", "") * 2,
            None,
            None,
            "found a chain that cannot be used",
        ),
        ("<joint/>", None, None, "found no URDF (joint '' lacks"),
        (
            "<!-- xmlns:xacro='http://www.ros.org/wiki/xacro' -->",
            None,
            None,
            "found a xacro file; expected a URDF",
        ),
    ],
)
def test_urdfs_that_do_not_tell(
    tmp_path: Path, inside: str, tool: str | None, base: str | None, says: str
) -> None:
    urdf = tmp_path / "arm.urdf"
    urdf.write_text(ARM.format(inside), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        begin(tmp_path, urdf, tool, base)
    assert says in str(caught.value)


def test_a_urdf_with_several_ends_names_them() -> None:
    with pytest.raises(
        ConfigError, match=r"3 ends below 'base' \('fr3_hand_tcp' \(7 joints\), 'fr3_leftfinger'"
    ):
        begin(Path("/nowhere"), URDF / "fr3.urdf")
    with pytest.raises(ConfigError, match="found a file that cannot be read"):
        begin(Path("/nowhere"), URDF / "none.urdf")
