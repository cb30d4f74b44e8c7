"""The twin of any robot's arms, without ROS."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import ConfigError
from vla_ros.resources import robot_config
from vla_ros.robot.config import Robot
from vla_ros.robot.load import load_robot
from vla_ros.robot.urdf import parse_urdf
from vla_ros.sim.arms_world import ArmsWorld
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.pick_twin import PickTwin
from vla_ros.sim.twin import ArmsTwin
from vla_ros.sim.worlds import make_camera_world, make_twin

OTHERS = ("franka_dual", "aloha", "mobile_aloha", "widowx", "agilex_piper", "agilex_cobot", "kinova_gen3")
MS = 1_000_000


def twin(name: str) -> ArmsTwin:
    file = robot_config(name)
    made = make_twin(load_robot(file), file, 0)
    assert isinstance(made, ArmsTwin)
    return made


def step(subject: ArmsTwin, begin_ns: int, milliseconds: int) -> int:
    for _ in range(milliseconds * MS // subject.step_ns):
        begin_ns += subject.step_ns
        subject.step(begin_ns)
    return begin_ns


def test_the_single_fr3_keeps_its_tabletop() -> None:
    file = robot_config("franka")
    assert isinstance(make_twin(load_robot(file), file, 0), PickTwin)


@pytest.mark.parametrize("name", OTHERS)
def test_every_arm_has_its_urdfs_kinematics_where_its_base_stands(name: str) -> None:
    subject, rng = twin(name), np.random.default_rng(0)
    for arm in subject.arms:
        for _ in range(20):
            q = rng.uniform(*np.array(arm.config.limits.position).T)
            subject.world.place_arm(arm.name, q)
            np.testing.assert_allclose(
                subject.world.tool_pose(arm.name), arm.kinematics.forward(q), atol=1e-9
            )
        base = subject.world.base_pose(arm.name)
        np.testing.assert_allclose(base[:3, 3], arm.config.base_pose.position, atol=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_servos_lag_follow_and_hold(name: str) -> None:
    subject = twin(name)
    now = step(subject, 0, 20)
    for arm in subject.arms:
        np.testing.assert_allclose(arm.body.positions(), arm.config.home, atol=1e-6)
        low, high = np.array(arm.config.limits.position).T
        away = np.where(np.array(arm.config.home) < (low + high) / 2, 0.1, -0.1)
        arm.controllers.joint_position(np.array(arm.config.home) + away)
    now = step(subject, now, 40)
    for arm in subject.arms:
        share = np.abs(arm.body.positions() - arm.config.home) / 0.1
        assert (share > 0.02).all() and (share < 0.9).all()
    step(subject, now, 500)
    for arm in subject.arms:
        assert np.abs(np.abs(arm.body.positions() - arm.config.home) - 0.1).max() < 1e-3
        assert np.abs(arm.body.velocities()).max() < 1e-2


def test_a_servo_stops_at_its_joints_limit() -> None:
    subject = twin("widowx")
    (arm,) = subject.arms
    elbow = arm.config.joints.index("elbow")
    upper = parse_urdf((robot_config("widowx").parent / arm.config.urdf).read_text()).joints["elbow"].upper
    target = np.array(arm.config.home)
    target[elbow] = upper + 0.5
    arm.controllers.joint_position(target)
    step(subject, 0, 2000)
    assert arm.body.positions()[elbow] == pytest.approx(upper, abs=5e-3)


def test_a_gripper_goes_at_its_own_speed_and_says_how_it_ended() -> None:
    subject = twin("agilex_piper")
    (arm,) = subject.arms
    gripper = arm.gripper
    assert gripper is not None
    low, high = gripper.config.width
    assert gripper.width == high
    gripper.command(low, 1.0)
    now = step(subject, 0, 100)
    assert gripper.width == pytest.approx(high - 0.1 * gripper.config.speed, abs=1e-3)
    ended = None
    for _ in range(100):
        now = step(subject, now, 20)
        ended = ended or gripper.outcome(now, 20 * MS)
    assert ended is not None and ended.reached and not ended.stalled
    assert gripper.width == low
    subject.reset(0)
    assert gripper.width == high


def test_cameras_show_what_the_snapshot_says_at_the_yamls_size() -> None:
    file = robot_config("aloha")
    robot = load_robot(file)
    subject = twin("aloha")
    other = make_camera_world(robot, file)
    shown = SnapshotFormat(other)
    before = other.render("cam_left_wrist")
    camera = robot.cameras["cam_left_wrist"]
    assert before.shape == (camera.height, camera.width, 3) and before.std() > 5
    left = subject.arms[0]
    left.controllers.joint_position(np.array(left.config.home) + 0.3)
    now = step(subject, 0, 600)
    snapshot = subject.snapshot(now)
    assert len(snapshot) == shown.size <= 4096, "a pipe takes more than that in pieces"
    assert shown.show(snapshot) == now
    after = other.render("cam_left_wrist")
    assert np.abs(after.astype(int) - before).mean() > 2, "the wrist's camera moves with the arm"
    info = other.camera_info("cam_left_wrist")
    assert (info.width, info.height) == (camera.width, camera.height)
    other.close()


def test_a_urdf_that_mujoco_cannot_use_is_named() -> None:
    file = robot_config("widowx")
    robot: Robot = load_robot(file)
    with pytest.raises(ConfigError, match=r"arms\.arm\.urdf: urdf/wx250s\.urdf"):
        ArmsWorld(robot, {"arm": "<robot name='x'><link name='a'/></robot>"}, 0.002)
