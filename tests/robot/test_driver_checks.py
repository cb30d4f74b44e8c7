"""Mistakes in how an arm and its gripper are driven: each has a message that tells the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"


def refusal(folder: Path, robot: str, change: Any) -> str:
    """What `load_robot` says of a shipped YAML after change(its content, its first arm)."""
    content = yaml.safe_load((CONFIGS / f"{robot}.yaml").read_text())
    change(content, next(iter(content["arms"].values())))
    (folder / "urdf").symlink_to(CONFIGS / "urdf")
    file = folder / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    return str(caught.value)


def put(*keys: str, value: Any) -> Any:
    def change(_: dict, arm: dict) -> None:
        for key in keys[:-1]:
            arm = arm[key]
        arm[keys[-1]] = value

    return change


def take(*keys: str) -> Any:
    def change(_: dict, arm: dict) -> None:
        for key in keys[:-1]:
            arm = arm[key]
        del arm[keys[-1]]

    return change


def on(content: dict, arm: dict) -> None:
    content["cameras"]["wrist"]["mount"] = {"arm": "left", "position": [0.0, 0.0, 0.1]}


def pose_of(frame: str) -> Any:
    """piper_pose, with this tool frame."""

    def change(_: dict, arm: dict) -> None:
        arm.update(driver="piper_pose", tool_frame=frame)
        arm.pop("tip_frame")

    return change


@pytest.mark.parametrize(
    ("robot", "change", "words"),
    [
        (
            "franka",
            put("driver", value="interbotix"),
            ["'interbotix', which has no entry", "'joint_trajectory'"],
        ),
        ("franka", take("gripper", "action"), ["none of action, interbotix, with_arm", "exactly one of"]),
        (
            "franka",
            put("gripper", "with_arm", value={"joint": "x"}),
            [
                "action and with_arm together",
                "with_arm, though the messages of 'joint_trajectory' hold no gripper",
            ],
        ),
        ("franka", put("gripper", "commands", value=[0.04, 0.04]), ["gripper.commands", "that differ"]),
        ("franka", put("gripper", "reads", value=[1, 1]), ["gripper.reads", "when closed and when open"]),
        ("franka", on, ["cameras.wrist.mount.arm", "'left', which is no arm", "'arm'"]),
        (
            "agilex_piper",
            put("joints", value=[f"joint{i}" for i in (2, 1, 3, 4, 5, 6)]),
            ["drives a joint to 0 rad"],
        ),
        ("agilex_piper", take("gripper"), ["arms.arm.gripper", "one that is left out is closed"]),
        (
            "agilex_piper",
            put("gripper", "with_arm", "joint", value="joint7"),
            ["with_arm.joint: found 'joint7'", "'gripper'"],
        ),
        (
            "agilex_piper",
            put("drivers", "piper_joint", "enable", "topic", value="/enable_flag"),
            ["piper_joint.enable: found both", "which says whether it worked"],
        ),
        (
            "agilex_piper",
            pose_of("gripper_tcp"),
            [
                "arms.arm.tool_frame: found 'gripper_tcp', 0.136 m and 0.000 rad away from 'link6'",
                "expected 'link6': the arm takes the poses of piper_pose for those of its last joint's link",
                "write tool_frame: link6 and tip_frame: gripper_tcp, or choose piper_joint",
            ],
        ),
        ("agilex_piper", put("drivers", "piper_joint", "enable", value={}), ["enable: found neither"]),
        ("agilex_piper", put("drivers", "piper_joint", "speed_percent", value=0), ["from 1 to 100 in %"]),
        (
            "agilex_piper",
            put("states", "stamps", value="sdk"),
            ["stamps: found 'sdk'", "'header', 'arrival'"],
        ),
        (
            "widowx",
            take("drivers", "interbotix", "modes_service"),
            ["no service to set it by", "modes_service"],
        ),
        (
            "widowx",
            take("drivers", "interbotix", "torque_service"),
            [
                "shadows: found 'shoulder_shadow', 'elbow_shadow' without torque_service",
                "add torque_service, or leave shadows out",
            ],
        ),
        ("widowx", take("gripper", "reads"), ["at most 0.037 m, the sum of the URDF's upper limits"]),
    ],
)
def test_the_message_tells_the_fix(tmp_path: Path, robot: str, change: Any, words: list[str]) -> None:
    text = refusal(tmp_path, robot, change)
    for word in words:
        assert word in text


def test_a_gripper_with_readings_of_its_own_needs_no_joint_of_the_urdf(tmp_path: Path) -> None:
    """Piper's driver calls it `gripper`, older ones count the motor's way: the URDF knows neither."""
    content = yaml.safe_load((CONFIGS / "agilex_piper.yaml").read_text())
    content["arms"]["arm"]["gripper"].update(joints=["clamp"], reads=[0.0, 3.5], commands=[0.0, 3.5])
    (tmp_path / "urdf").symlink_to(CONFIGS / "urdf")
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    gripper = load_robot(file).arms["arm"].gripper
    assert gripper is not None and gripper.reads == (0.0, 3.5)


@pytest.mark.parametrize(("driver", "tool"), [("piper_pose", "link6"), ("piper_joint", "gripper_tcp")])
def test_a_pipers_poses_are_of_its_flange_and_joints_of_any_tool(
    tmp_path: Path, driver: str, tool: str
) -> None:
    content = yaml.safe_load((CONFIGS / "agilex_piper.yaml").read_text())
    content["arms"]["arm"].update(driver=driver, tool_frame=tool)
    (tmp_path / "urdf").symlink_to(CONFIGS / "urdf")
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    arm = load_robot(file).arms["arm"]
    assert (arm.driver, arm.tool_frame) == (driver, tool)
