"""Robot YAMLs against their URDF, from the file or from the topic: each mistake named likewise."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robot.franka_file import CONFIGS, FRANKA, changed, line_of, refusal, refused_line
from vla_ros.errors import KinematicsError
from vla_ros.robot.load import check_description, load_robot, read_urdf


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


def test_missing_urdf(folder: Path) -> None:
    assert refused_line(folder, "urdf: urdf/fr3.urdf", "urdf: urdf/fr4.urdf") == (
        "arms.arm.urdf: found 'urdf/fr4.urdf', but there is no file urdf/fr4.urdf; "
        "expected a URDF file; correct the path"
    )


def test_urdf_that_is_none(folder: Path) -> None:
    (folder / "urdf" / "fr3.urdf").write_text("<robot", encoding="utf-8")
    assert "a URDF that cannot be used (not XML" in refusal(folder, FRANKA)[0]


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
