"""What Interbotix and AgileX drivers are sent, as their own sources read it; each trap there has a test."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.errors import Refused
from vla_ros.robot.config import Arm
from vla_ros.robot.config_drivers import Enable
from vla_ros.robot.drivers import Call, InterbotixGripper, Send, driver_class, driver_for
from vla_ros.robot.load import load_robot
from vla_ros.types import Motion

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
pytest.importorskip("piper_msgs.msg", reason="needs the vendors' message packages")

CONFIGS = Path(__file__).parents[2] / "robot_configs"
ALOHA = load_robot(CONFIGS / "aloha.yaml").arms["left"]
WIDOWX = load_robot(CONFIGS / "widowx.yaml").arms["arm"]
PIPER = load_robot(CONFIGS / "agilex_piper.yaml").arms["arm"]
COBOT = load_robot(CONFIGS / "agilex_cobot.yaml").arms["right"]
PIPER_POSE = PIPER.model_copy(update={"driver": "piper_pose"})
Q = np.array([0.1, 0.7, -0.6, 0.2, 0.3, -0.4])
STAMP = 1_700_000_000_123_456_789
MOTION = Motion(np.array([0.01, 0.02]), np.stack([Q, Q + 0.1]), np.zeros((2, 6)), np.zeros((2, 6)))
ALL = {"interbotix": ALOHA, "piper_joint": PIPER, "piper_pose": PIPER_POSE, "cobot_magic": COBOT}


def pose(rotation: Rotation | None = None) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, 3] = [0.4, -0.1, 0.3]
    if rotation is not None:
        matrix[:3, :3] = rotation.as_matrix()
    return matrix


def said(arm: Arm, width: float | None = 0.03, at: np.ndarray | None = None) -> Any:
    return driver_for(arm).message(MOTION, pose() if at is None else at, width, STAMP)


def piper_node(message: Any) -> tuple[list[float], float, int, float]:
    """What Piper_ros makes of a JointState (joint_callback): the six joints by name, 0 where one is missing;
    the gripper's m from the seventh position; the speed in % and the gripper's force in N."""
    named = dict(zip(message.name, message.position, strict=True))
    joints = [named.get(f"joint{index}", 0.0) for index in range(1, 7)]
    gripper = message.position[6] if len(message.position) >= 7 else 0.0
    speed = 100
    if any(message.velocity) and len(message.velocity) == 7:
        speed = int(np.clip(round(message.velocity[6]), 1, 100))
    effort = float(np.clip(message.effort[6], 0.5, 3)) if len(message.effort) >= 7 else 1.0
    return joints, gripper, speed, effort


def test_interbotix_group_holds_the_joints_in_order() -> None:
    message = said(ALOHA, None)
    assert type(message).__name__ == "JointGroupCommand"
    assert message.name == "arm"
    np.testing.assert_array_equal(message.cmd, Q.astype(np.float32))


def test_interbotix_gripper_is_sent_radians_and_only_a_change() -> None:
    assert ALOHA.gripper is not None
    gripper = InterbotixGripper(ALOHA.gripper)
    assert gripper.topic == "/follower_left/commands/joint_single"
    first = gripper.message(0.07)
    assert type(first).__name__ == "JointSingleCommand"
    assert (first.name, first.cmd) == ("gripper", pytest.approx(1.6214))
    assert gripper.message(0.07) is None
    assert gripper.message(0.0).cmd == pytest.approx(0.6197)
    assert gripper.message(-1.0) is None, "no further than closed, and it is"
    gripper.forget()
    assert gripper.message(0.0) is not None


def test_widowx_loses_its_profile_while_its_motors_hold() -> None:
    """Its own mode file has the arm go by a profile of 2 s, and the gripper by PWM, where an angle in rad is
    next to nothing. Setting the arm's mode would let go of it."""
    steps = driver_for(WIDOWX).start_steps()
    calls = [step for step in steps if isinstance(step, Call)]
    assert [(call.service, call.request.name) for call in calls] == [
        ("/wx250s/get_motor_registers", "arm"),
        ("/wx250s/set_motor_registers", "arm"),
        ("/wx250s/get_motor_registers", "arm"),
        ("/wx250s/set_operating_modes", "gripper"),
        ("/wx250s/torque_enable", "arm"),
        ("/wx250s/torque_enable", "gripper"),
    ]
    look, write, again, of_gripper, *torque = calls
    assert (look.request.cmd_type, look.request.reg) == ("group", "Operating_Mode")
    assert (write.request.cmd_type, write.request.reg, write.request.value) == (
        "group",
        "Profile_Velocity",
        0,
    )
    assert (again.request.cmd_type, again.request.reg) == ("group", "Profile_Velocity")
    request = of_gripper.request
    assert (request.cmd_type, request.mode, request.profile_type) == ("single", "position", "velocity")
    assert (request.profile_velocity, request.profile_acceleration) == (0, 0)
    assert [(call.request.cmd_type, call.request.enable) for call in torque] == [
        ("group", True),
        ("single", True),
    ]


def test_what_xs_sdk_reads_back_decides() -> None:
    look, _, profile, *_ = driver_for(WIDOWX).start_steps()
    assert isinstance(look, Call) and isinstance(profile, Call)
    answer = look.service_type.Response
    for mode in (3, 4, 5):
        assert look.wrong(answer(values=[mode] * 6)) == "" and look.then(answer(values=[mode] * 6)) == ()
    wrong = look.wrong(answer(values=[3, 3, 16, 3, 0, 3]))
    assert wrong.startswith(
        "it is current and pwm, in which the arm takes no positions, and not changed here"
    )
    assert "support the arm and `vla recover`, or write operating_mode: position for 'arm'" in wrong
    assert "it is 77" in look.wrong(answer(values=[77] * 6))
    # Reading ends at the first motor that is silent, whatever those before it say.
    for found in (0, 1, 5, 7):
        words = f"Operating_Mode came from {found} of the motors of group 'arm', expected 6"
        assert words in look.wrong(answer(values=[3] * found))
    assert "Profile_Velocity came from 2 of" in profile.wrong(answer(values=[0, 0]))
    assert profile.wrong(answer(values=[0] * 6)) == ""
    assert "a profile of 2000 is left" in profile.wrong(answer(values=[0, 0, 2000, 0, 0, 0]))


def test_widowx_recovers_by_a_reboot_of_what_reports_an_error() -> None:
    recovery = driver_for(WIDOWX).recovery()
    assert recovery is not None and "the arm falls" in recovery.warning
    reboot, _, _, errors, mode, *rest = recovery.steps
    assert isinstance(reboot, Call) and isinstance(errors, Call) and isinstance(mode, Call)
    assert reboot.service == "/wx250s/reboot_motors"
    request = reboot.request
    assert (request.cmd_type, request.name) == ("group", "all")
    assert request.smart_reboot and request.enable
    answer = errors.service_type.Response
    assert errors.request.reg == "Hardware_Error_Status" and errors.wrong(answer(values=[0] * 7)) == ""
    assert "still is [0, 32, 0, 0, 0, 0, 0]" in errors.wrong(answer(values=[0, 32, 0, 0, 0, 0, 0]))
    assert errors.wrong(answer(values=[0] * 8)) == "", "xs_sdk may know of more motors than the YAML"
    assert "came from 6 of the motors of group 'all', expected 7" in errors.wrong(answer(values=[0] * 6))
    # Only what is in another mode is let go of for that.
    assert mode.wrong(answer(values=[16] * 6)) == "" and mode.then(answer(values=[3] * 6)) == ()
    assert "came from 5 of" in mode.wrong(answer(values=[16] * 5))
    step, again = mode.then(answer(values=[16] * 6))
    assert (again.request.name, again.request.reg) == ("arm", "Operating_Mode")
    assert again.wrong(answer(values=[3] * 6)) == ""
    assert "it still is pwm" in again.wrong(answer(values=[3, 3, 16, 3, 3, 3])), "it refused"
    assert (step.service, step.request.name, step.request.mode) == (
        "/wx250s/set_operating_modes",
        "arm",
        "position",
    )
    start = driver_for(WIDOWX).start_steps()
    assert [step.what for step in rest] == [step.what for step in start[1:]]


def test_a_shadow_is_rebooted_and_switched_on_by_its_own_name() -> None:
    """No group holds it, and a reboot of xs_sdk's switches on the motor's sisters: a shadow has none."""
    for arm in (WIDOWX, ALOHA):
        recovery = driver_for(arm).recovery()
        assert recovery is not None
        names = ["shoulder_shadow", "elbow_shadow"]
        shadows = recovery.steps[1:3]
        for look, name in zip(shadows, names, strict=True):
            assert isinstance(look, Call)
            request, answer = look.request, look.service_type.Response
            assert (request.cmd_type, request.name, request.reg) == ("single", name, "Hardware_Error_Status")
            assert look.wrong(answer(values=[32])) == "" and look.then(answer(values=[0])) == ()
            assert f"came from 0 of motor '{name}', expected 1" in look.wrong(answer())
            reboot, again, torque = look.then(answer(values=[32]))
            for step in (reboot, again, torque):
                assert (step.request.cmd_type, step.request.name) == ("single", name)
            assert reboot.service.endswith("/reboot_motors") and torque.service.endswith("/torque_enable")
            assert torque.request.enable
            assert "still is [32]" in again.wrong(answer(values=[32]))


def test_who_has_no_recovery() -> None:
    for arm in (PIPER, PIPER_POSE, COBOT):
        assert driver_for(arm).recovery() is None


def test_aloha_keeps_the_modes_it_was_brought_up_with() -> None:
    services = {step.service for step in driver_for(ALOHA).start_steps() if isinstance(step, Call)}
    names = ("get_motor_registers", "set_motor_registers", "torque_enable")
    assert services == {f"/follower_left/{name}" for name in names}, (
        "read, and rid of profiles; no mode is set"
    )


def test_piper_finds_every_joint_the_gripper_the_speed_and_the_force() -> None:
    """A joint it does not find by name it drives to 0 rad; seven velocities or it takes its own speed."""
    entry, gripping = PIPER.drivers.piper_joint, PIPER.gripper
    assert entry is not None and gripping is not None and gripping.with_arm is not None
    slow = PIPER.drivers.model_copy(update={"piper_joint": entry.model_copy(update={"speed_percent": 40})})
    firm = gripping.model_copy(update={"with_arm": gripping.with_arm.model_copy(update={"effort": 2.5})})
    message = said(PIPER.model_copy(update={"drivers": slow, "gripper": firm}))
    joints, gripper, speed, effort = piper_node(message)
    assert joints == Q.tolist()
    assert gripper == pytest.approx(0.03)
    assert (speed, effort) == (40, 2.5)
    assert list(message.name) == [f"joint{index}" for index in range(1, 7)] + ["gripper"]
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP


def test_piper_pose_is_metres_and_angles_about_fixed_axes() -> None:
    rotation = Rotation.from_euler("xyz", [0.3, -0.4, 2.0])
    message = said(PIPER_POSE, 0.05, pose(rotation))
    assert type(message).__name__ == "PosCmd"
    assert [message.x, message.y, message.z] == [0.4, -0.1, 0.3]
    assert [message.roll, message.pitch, message.yaw] == pytest.approx([0.3, -0.4, 2.0])
    assert message.gripper == pytest.approx(0.05)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_piper_pose_means_the_rotation_however_it_lies(quaternion: list[float]) -> None:
    rotation = Rotation.from_quat(quaternion)
    message = said(PIPER_POSE, 0.0, pose(rotation))
    # As its node publishes its own end pose: scipy's lower-case xyz.
    again = Rotation.from_euler("xyz", [message.roll, message.pitch, message.yaw])
    assert (again * rotation.inv()).magnitude() < 1e-6


def test_cobot_magic_holds_seven_joints_by_index_and_name() -> None:
    driver = driver_for(COBOT)
    assert driver.topic == "/master/joint_right"
    message = said(COBOT, 0.02)
    assert list(message.name) == [f"joint{index}" for index in range(7)]
    assert list(message.position) == [*Q.tolist(), pytest.approx(0.02)]


def test_a_gripper_in_motor_units_is_sent_motor_units() -> None:
    assert COBOT.gripper is not None
    counting = COBOT.gripper.model_copy(update={"commands": (0.0, 3.5)})
    message = said(COBOT.model_copy(update={"gripper": counting}), 0.07)
    assert message.position[6] == 3.5


@pytest.mark.parametrize("name", ["piper_joint", "piper_pose", "cobot_magic"])
def test_no_message_without_the_gripper(name: str) -> None:
    """Left out, it would be closed; filled in, it would be guessed."""
    assert driver_class(ALL[name]).with_gripper
    with pytest.raises(Refused) as caught:
        said(ALL[name], None)
    assert caught.value.reason == "incomplete"
    for bad in (math.nan, math.inf):
        with pytest.raises(Refused) as caught:
            said(ALL[name], bad)
        assert caught.value.reason == "nan"


@pytest.mark.parametrize("name", ALL)
def test_no_message_with_a_joint_missing_or_not_a_number(name: str) -> None:
    driver = driver_for(ALL[name])
    for rows, reason in ((np.zeros((2, 5)), "incomplete"), (np.full((2, 6), math.nan), "nan")):
        broken = dataclasses.replace(MOTION, q=rows, v=np.zeros_like(rows), a=np.zeros_like(rows))
        with pytest.raises(Refused) as caught:
            driver.message(broken, pose(), 0.03, STAMP)
        assert caught.value.reason == reason


@pytest.mark.parametrize("name", ALL)
def test_messages_survive_serialisation(name: str) -> None:
    from rclpy.serialization import deserialize_message, serialize_message

    message = said(ALL[name])
    assert deserialize_message(serialize_message(message), driver_for(ALL[name]).message_type) == message


def enabled_by(**enable: str) -> Arm:
    entry = PIPER.drivers.piper_joint
    assert entry is not None
    changed = entry.model_copy(update={"enable": Enable(**enable)})
    return PIPER.model_copy(update={"drivers": PIPER.drivers.model_copy(update={"piper_joint": changed})})


def test_piper_is_enabled_by_the_service_that_says_whether_it_worked() -> None:
    (step,) = driver_for(PIPER).start_steps()
    assert isinstance(step, Call) and step.service == "/enable_srv"
    assert step.request.enable_request is True
    assert step.wrong(step.service_type.Response(enable_response=True)) == ""
    assert "did not come on" in step.wrong(step.service_type.Response(enable_response=False))
    assert "closes the gripper" in step.what


def test_piper_is_enabled_by_a_message_where_the_yaml_says_so() -> None:
    (step,) = driver_for(enabled_by(topic="/enable_flag")).start_steps()
    assert isinstance(step, Send) and step.topic == "/enable_flag" and step.message.data is True


@pytest.mark.parametrize("name", ALL)
def test_none_of_them_goes_on_by_itself(name: str) -> None:
    """They know one position: where messages stop, they stand."""
    assert not driver_class(ALL[name]).goes_on and driver_class(ALL[name]).settle_ns == 0
