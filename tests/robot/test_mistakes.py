"""What integrators get wrong about arms, joints and topics: each has a message that tells the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.robot.franka_file import CONFIGS, FRANKA
from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot

DUAL = (CONFIGS / "franka_dual.yaml").read_text(encoding="utf-8")


def refusal(folder: Path, text: str) -> list[str]:
    """The lines of the refusal, each from its key on."""
    file = folder / "robot.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    return [line.split(": ", 1)[1] for line in str(caught.value).replace(f"{folder}/", "").split("\n")]


def changed(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, old
        text = text.replace(old, new, 1)
    return text


def with_sides_swapped(topic: str) -> str:
    """franka_dual.yaml with the left and the right arm's topics that begin so in each other's place."""
    return changed(
        DUAL,
        (f"topic: /left/{topic}", f"topic: /RIGHT/{topic}"),
        (f"topic: /right/{topic}", f"topic: /left/{topic}"),
        ("topic: /RIGHT/", "topic: /right/"),
    )


def test_joints_in_another_order_than_the_chains(folder: Path) -> None:
    text = changed(FRANKA, ("[fr3_joint1, fr3_joint2, fr3_joint3", "[fr3_joint1, fr3_joint3, fr3_joint2"))
    assert refusal(folder, text) == [
        "arms.arm.joints: found the order 'fr3_joint1', 'fr3_joint3', 'fr3_joint2', 'fr3_joint4', "
        "'fr3_joint5', 'fr3_joint6', 'fr3_joint7'; expected the order of the chain from 'fr3_link0' to "
        "'fr3_hand_tcp': 'fr3_joint1', 'fr3_joint2', 'fr3_joint3', 'fr3_joint4', 'fr3_joint5', 'fr3_joint6', "
        "'fr3_joint7'; list them so, and home and the limits with them (joint states are read by name, in "
        "any "
        "order)"
    ]


def test_a_urdf_with_another_number_of_joints(folder: Path) -> None:
    urdf = folder / "urdf" / "fr3.urdf"
    text = urdf.read_text(encoding="utf-8")
    begin = text.index('<joint name="fr3_joint5"')
    kind = text.index('type="revolute"', begin)
    urdf.write_text(text[:kind] + 'type="fixed"' + text[kind + len('type="revolute"') :], encoding="utf-8")
    (line,) = refusal(folder, FRANKA)
    assert line == (
        "arms.arm.joints[4]: found 'fr3_joint5', a fixed joint in the URDF urdf/fr3.urdf; expected a "
        "revolute, "
        "continuous or prismatic joint; name only joints that move"
    )


def test_a_mimic_joint_in_the_arm(folder: Path) -> None:
    urdf = folder / "urdf" / "fr3.urdf"
    text = urdf.read_text(encoding="utf-8")
    end = text.index("</joint>", text.index('<joint name="fr3_joint3"'))
    urdf.write_text(f'{text[:end]}<mimic joint="fr3_joint2"/>{text[end:]}', encoding="utf-8")
    assert refusal(folder, FRANKA) == [
        "arms.arm.joints: found 'fr3_joint3' in the chain to 'fr3_hand_tcp', which mimics 'fr3_joint2' in "
        "the "
        "URDF urdf/fr3.urdf; expected joints that each move by themselves; choose frames with no mimic joint "
        "between them, or describe the linkage in the URDF by the joints that its motors move"
    ]


def test_gripper_range_reversed(folder: Path) -> None:
    assert refusal(folder, changed(FRANKA, ("width: [0.0, 0.08]", "width: [0.08, 0.0]"))) == [
        "arms.arm.gripper.width: found [0.08, 0.0]; expected closed before open; swap the two"
    ]


def test_commands_in_the_other_arms_namespace(folder: Path) -> None:
    lines = refusal(folder, with_sides_swapped("joint_trajectory_controller"))
    assert [line[: line.index(": found")] for line in lines] == [
        "arms.left.drivers.joint_trajectory.topic",
        "arms.right.drivers.joint_trajectory.topic",
    ]
    assert lines[0] == (
        "arms.left.drivers.joint_trajectory.topic: found "
        "/right/joint_trajectory_controller/joint_trajectory, "
        "beside the joint states of arm 'right' "
        "(/right/franka_robot_state_broadcaster/measured_joint_states); "
        "expected commands of this arm, whose joint states are on "
        "/left/franka_robot_state_broadcaster/measured_joint_states; the topics of 'left' and 'right' are "
        "swapped: write 'left' for 'right' here, or swap the topics of the joint states"
    )


def test_joint_states_of_the_other_arm(folder: Path) -> None:
    lines = refusal(folder, with_sides_swapped("franka_robot_state"))
    # Both arms' commands, gripper states and gripper commands, and where they recover.
    assert len(lines) == 10 and all("are swapped" in line for line in lines)


def test_services_in_the_other_arms_namespace(folder: Path) -> None:
    """The other arm's motors would be switched on, or its controllers off."""
    text = changed(DUAL, ("controller_manager: /left", "controller_manager: /right"))
    (line,) = refusal(folder, text)
    assert line.startswith(
        "arms.left.drivers.joint_trajectory.recovery.controller_manager: found /right/controller_manager, "
        "beside the joint states of arm 'right'"
    )
    aloha = (CONFIGS / "aloha.yaml").read_text(encoding="utf-8")
    text = changed(aloha, ("torque_service: /follower_left", "torque_service: /follower_right"))
    (line,) = refusal(folder, text)
    assert line.startswith("arms.left.drivers.interbotix.torque_service: found /follower_right/torque_enable")


def test_one_gripper_for_two_arms(folder: Path) -> None:
    text = changed(DUAL, ("action: /right/franka_gripper", "action: /left/franka_gripper"))
    lines = refusal(folder, text)
    assert (
        "arms.right.gripper.action.action: found /left/franka_gripper/gripper_action, on which arm 'left' is "
        "commanded too; expected a topic of this arm's own; name this arm's"
    ) in lines


def test_one_set_of_joint_states_for_two_arms(folder: Path) -> None:
    text = changed(DUAL, ("topic: /left/franka_gripper/joint", "topic: /right/franka_gripper/joint"))
    lines = refusal(folder, text)
    assert lines[-1] == (
        "arms.right.gripper.states.topic: found /right/franka_gripper/joint_states, where "
        "'fr3_finger_joint1' is a joint of arm 'left'; expected a topic of this arm's own, or joint names of "
        "its own; name this arm's"
    )


def test_a_topic_for_two_things(folder: Path) -> None:
    text = changed(FRANKA, ("camera_info: /wrist/color/camera_info", "camera_info: /wrist/color/image_raw"))
    assert refusal(folder, text) == [
        "cameras.wrist.camera_info: found /wrist/color/image_raw for camera info, which cameras.wrist.topic "
        "names for images; expected one topic for one thing; correct one of the two"
    ]
    states = "topic: /franka_robot_state_broadcaster/measured_joint_states"
    (line,) = refusal(
        folder, changed(FRANKA, (states, "topic: /joint_trajectory_controller/joint_trajectory"))
    )
    assert line.startswith("arms.arm.drivers.joint_trajectory.topic: found /joint_trajectory_controller")


def test_joint_states_slower_than_the_commands(folder: Path) -> None:
    """An aggregated /joint_states, with its rate written as it is."""
    text = changed(
        FRANKA,
        ("/franka_robot_state_broadcaster/measured_joint_states", "/joint_states"),
        ("rate_hz: 1000", "rate_hz: 30"),
    )
    (line,) = refusal(folder, text)
    assert line == (
        "arms.arm.states.rate_hz: found 30 Hz; expected at least control.rate_hz = 100: what each command is "
        "checked against has to be measured since the one before; name the topic of the arm's own "
        "broadcaster, not an aggregated /joint_states (franka_ros2's comes at 30 Hz; its "
        "franka_robot_state_broadcaster/measured_joint_states at 1000), or lower control.rate_hz"
    )


def test_what_was_left_to_be_filled_in(folder: Path) -> None:
    text = changed(FRANKA, ("rate_hz: 1000", "rate_hz: TODO"), ("embodiment: franka_fr3", "embodiment: TODO"))
    text = changed(text, ("jerk: [3000.0", "jerk: [TODO"), ("width: 640", "width: TODO"))
    assert refusal(folder, text) == [
        "embodiment: found TODO; expected text; fill it in",
        "arms.arm.limits.jerk[0]: found TODO; expected a number above 0 up to 100000 in rad/s^3; fill it in",
        "arms.arm.states.rate_hz: found TODO; expected a number above 0 up to 10000 in Hz; fill it in",
        "cameras.front.width: found TODO; expected a whole number from 16 to 16384 in pixels; fill it in",
    ]


def with_sources(front: str, wrist: str) -> str:
    begin, first, rest = FRANKA.replace("    max_age_ms: 200\n", "    max_age_ms: 200\n\0").split("\0")
    return f"{begin}    source: {front}\n{first}    source: {wrist}\n{rest}"


def test_one_device_for_two_cameras(folder: Path) -> None:
    one = "{v4l2: {device: /dev/video0}}"
    assert refusal(folder, with_sources(one, one)) == [
        "cameras.wrist.source.v4l2.device: found /dev/video0, the device of camera 'front' too; expected a "
        "device of its own for each camera; name this camera's; `ls -l /dev/v4l/by-path` shows which is "
        "plugged in where"
    ]
    # By another of its names.
    (folder / "by-id").symlink_to("/dev/null")
    lines = refusal(
        folder, with_sources("{v4l2: {device: /dev/null}}", f"{{v4l2: {{device: {folder}/by-id}}}}")
    )
    assert lines[0].startswith("cameras.wrist.source.v4l2.device: found by-id, the device of camera 'front'")


def test_one_serial_number_for_two_cameras(folder: Path) -> None:
    one = '{realsense: {serial: "123"}}'
    assert refusal(folder, with_sources(one, one)) == [
        "cameras.wrist.source.realsense.serial: found '123', the serial number of camera 'front' too; "
        "expected a camera of its own; correct one of the two; `rs-enumerate-devices -s` lists what is "
        "plugged in"
    ]


def test_a_realsense_without_a_serial_number_beside_another(folder: Path) -> None:
    assert refusal(folder, with_sources('{realsense: {serial: "123"}}', "{realsense: {}}")) == [
        "cameras.wrist.source.realsense: found no serial; expected one, as camera 'front' is a RealSense "
        'too; add serial: "..."; `rs-enumerate-devices -s` lists what is plugged in'
    ]
    lines = refusal(folder, with_sources("{realsense: {}}", "{realsense: {}}"))
    assert [line[: line.index(": found")] for line in lines] == [
        "cameras.front.source.realsense",
        "cameras.wrist.source.realsense",
    ]
    # One alone needs none, and a RealSense and a webcam are told apart.
    file = folder / "robot.yaml"
    file.write_text(with_sources("{realsense: {}}", "{v4l2: {device: /dev/video0}}"), encoding="utf-8")
    assert load_robot(file).cameras["wrist"].source is not None
