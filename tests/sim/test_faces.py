"""What the simulated drivers say and obey on their real topics and message types: the real ones' traps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from tests.sim.stage import BEGIN_NS, MS, Stage
from tests.support import ask, wait_for


def test_franka_aggregates_arm_and_fingers_at_30_hz(stage: Callable[[str], Stage]) -> None:
    """As franka_bringup's joint_state_publisher does: reliable, every joint, far slower than its own."""
    subject = stage("franka")
    config = subject.arm.config
    heard: list[JointState] = []
    subscription = subject.peer.create_subscription(JointState, "/joint_states", heard.append, 100)
    subject.until(lambda: heard, "aggregated joint states")
    begin_ns = subject.now_ns
    heard.clear()
    while subject.now_ns < begin_ns + 2000 * MS:
        subject.run()
    wait_for(lambda: len(heard) >= 58, 10.0, "60 of them", step=lambda: subject.executor.spin_once(0.01))
    assert len(heard) <= 62
    assert list(heard[-1].name) == [*config.joints, *config.gripper.joints]
    np.testing.assert_allclose(heard[-1].position[:7], subject.arm.body.positions(), atol=1e-3)
    assert sum(heard[-1].position[7:]) == pytest.approx(subject.arm.gripper.width, abs=1e-6)
    subject.peer.destroy_subscription(subscription)


def by_name(message: JointState) -> dict[str, float]:
    return dict(zip(message.name, message.position, strict=True))


def test_interbotix_lists_motor_and_fingers_after_the_arm(stage: Callable[[str], Stage]) -> None:
    subject = stage("aloha")
    message = subject.hear(JointState, "/follower_left/joint_states")
    assert list(message.name) == [*subject.arm.config.joints, "gripper", "left_finger", "right_finger"]
    found = by_name(message)
    assert found["left_finger"] == pytest.approx(0.0579) and found["right_finger"] == pytest.approx(-0.0579)
    assert found["gripper"] == pytest.approx(1.6214), "read in metres, taken in radians"


def test_interbotix_obeys_groups_and_single_joints_by_name(stage: Callable[[str], Stage]) -> None:
    from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand

    subject = stage("aloha")
    group, single = "/follower_left/commands/joint_group", "/follower_left/commands/joint_single"
    target = np.array(subject.arm.config.home) + 0.1
    subject.send(JointGroupCommand, group, JointGroupCommand(name="arm", cmd=target.tolist()))
    subject.send(JointSingleCommand, single, JointSingleCommand(name="gripper", cmd=0.6197))
    subject.run(1000)
    np.testing.assert_allclose(subject.arm.body.positions(), target, atol=2e-3)
    assert subject.arm.gripper.width == pytest.approx(subject.arm.config.gripper.width[0], abs=1e-6)
    assert not subject.rejected
    subject.send(JointGroupCommand, group, JointGroupCommand(name="all", cmd=target.tolist()))
    subject.send(JointGroupCommand, group, JointGroupCommand(name="arm", cmd=[0.0] * 5))
    subject.send(JointSingleCommand, single, JointSingleCommand(name="waist", cmd=0.0))
    assert [reason for _, reason in subject.rejected] == ["group", "shape", "joint"]


def test_interbotix_motors_without_torque_stay(stage: Callable[[str], Stage]) -> None:
    from interbotix_xs_msgs.msg import JointGroupCommand
    from interbotix_xs_msgs.srv import TorqueEnable

    subject = stage("aloha")
    client = subject.peer.create_client(TorqueEnable, "/follower_left/torque_enable")
    request = TorqueEnable.Request(cmd_type="group", name="arm", enable=False)
    ask(client, request, step=subject.run)
    message = JointGroupCommand(name="arm", cmd=subject.arm.config.home)
    subject.send(JointGroupCommand, "/follower_left/commands/joint_group", message)
    assert subject.rejected == [("joint_group", "torque")]


def enabled_piper(stage: Callable[[str], Stage]) -> Stage:
    from piper_msgs.srv import Enable

    subject = stage("agilex_piper")
    enable = subject.arm.config.drivers.piper_joint.enable
    home = JointState(name=["joint1"], position=[0.0])
    subject.send(JointState, subject.arm.config.drivers.piper_joint.topic, home)
    assert subject.rejected == [("piper_joint", "disabled")], "nothing is obeyed before"
    subject.rejected.clear()
    if enable.service is not None:
        client = subject.peer.create_client(Enable, enable.service)
        assert ask(client, Enable.Request(enable_request=True), step=subject.run).enable_response
    else:
        publisher = subject.peer.create_publisher(Bool, enable.topic, 10)
        subject.until(publisher.get_subscription_count, "the driver")
        publisher.publish(Bool(data=True))
    subject.run(1500)
    assert subject.arm.gripper.width == pytest.approx(0.0, abs=1e-6), "enabling closes the gripper"
    return subject


def test_piper_drives_a_joint_that_is_not_named_to_zero(stage: Callable[[str], Stage]) -> None:
    subject = enabled_piper(stage)
    low, high = np.array(subject.arm.config.limits.position).T
    target = np.clip(np.array(subject.arm.config.home) + 0.2, low, high)
    names = [name for name in subject.arm.config.joints if name != "joint2"]
    kept = [value for name, value in zip(subject.arm.config.joints, target, strict=True) if name != "joint2"]
    message = JointState(name=[*names, "gripper"], position=[*kept, 0.05])
    subject.send(JointState, subject.arm.config.drivers.piper_joint.topic, message)
    subject.run(1500)
    q = subject.arm.body.positions()
    assert q[1] == pytest.approx(0.0, abs=3e-3)
    np.testing.assert_allclose(np.delete(q, 1), kept, atol=3e-3)
    assert subject.arm.gripper.width == pytest.approx(0.05, abs=1e-6)


def test_pipers_stamps_are_not_on_the_ros_clock(stage: Callable[[str], Stage]) -> None:
    subject = stage("agilex_piper")
    message = subject.hear(JointState, subject.arm.config.states.topic)
    assert list(message.name) == [*subject.arm.config.joints, "gripper"]
    stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    assert 0 < stamp_ns < BEGIN_NS / 2


def test_cobot_magic_goes_by_index_and_carries_rpy_in_a_quaternion(stage: Callable[[str], Stage]) -> None:
    subject = stage("agilex_cobot")
    config = subject.arm.config
    low, high = np.array(config.limits.position).T
    target = np.clip(np.array(config.home) + 0.15, low + 0.01, high - 0.01)
    topic = config.drivers.cobot_magic.topic
    # Names in another order change nothing: the puppet does not read them.
    message = JointState(name=[f"joint{i}" for i in reversed(range(7))], position=[*target, 0.03])
    subject.send(JointState, topic, message)
    subject.run(1500)
    np.testing.assert_allclose(subject.arm.body.positions(), target, atol=3e-3)
    found = subject.hear(JointState, config.states.topic)
    assert list(found.name) == [f"joint{i}" for i in range(7)] and found.position[6] == pytest.approx(0.03)
    pose = subject.hear(PoseStamped, config.published_pose.topic).pose
    wanted = subject.arm.kinematics.forward(subject.arm.body.positions())
    rpy = [pose.orientation.x, pose.orientation.y, pose.orientation.z]
    np.testing.assert_allclose(Rotation.from_euler("xyz", rpy).as_matrix(), wanted[:3, :3], atol=5e-3)
    assert pose.orientation.w == pytest.approx(0.03)
    subject.send(JointState, topic, JointState(position=target.tolist()))
    assert subject.rejected == [("cobot_magic", "shape")], "six numbers are not enough"


@pytest.mark.parametrize("name", ["aloha", "widowx", "agilex_piper", "agilex_cobot", "kinova_gen3"])
def test_states_come_at_the_yamls_rate(stage: Callable[[str], Stage], name: str) -> None:
    subject = stage(name)
    heard: list[Any] = []
    states = subject.arm.config.states
    subscription = subject.peer.create_subscription(JointState, states.topic, heard.append, 1000)
    subject.until(lambda: heard, "joint states")
    begin_ns = subject.now_ns
    heard.clear()
    while subject.now_ns < begin_ns + 1000 * MS:
        subject.run()
    expected = states.rate_hz * (subject.now_ns - begin_ns) / 1e9

    def listen() -> None:
        subject.executor.spin_once(0.01)

    wait_for(lambda: len(heard) >= 0.95 * expected, 10.0, "a second's states", step=listen)
    assert len(heard) <= 1.05 * expected + 5
    subject.peer.destroy_subscription(subscription)
