"""How the simulated base drives, and what drives with it, without ROS."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from vla_ros.resources import robot_config
from vla_ros.robot.load import load_robot
from vla_ros.sim.arms_world import ArmsWorld
from vla_ros.sim.base import ACCELERATION, LAG_S, SimBase
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.pick_twin import PickTwin
from vla_ros.sim.room import BASE_JOINTS
from vla_ros.sim.twin import ArmsTwin
from vla_ros.sim.worlds import make_camera_world, make_twin
from vla_ros.types import FloatArray

FILE = robot_config("mobile_aloha")
ROBOT = load_robot(FILE)
STEP_S = 0.002
VELOCITIES = st.tuples(st.floats(-1, 1), st.floats(-1, 1))


def base() -> SimBase:
    assert ROBOT.base is not None
    return SimBase(ROBOT.base)


def drive(subject: SimBase, velocity: tuple[float, float], seconds: float) -> None:
    subject.command(velocity)
    for _ in range(round(seconds / STEP_S)):
        subject.step(STEP_S)


def twin() -> ArmsTwin:
    made = make_twin(ROBOT, FILE, 0)
    assert isinstance(made, ArmsTwin)
    return made


def drive_twin(subject: ArmsTwin, velocity: tuple[float, float], seconds: float) -> None:
    assert subject.base is not None
    subject.base.command(velocity)
    for index in range(round(seconds * 1e9 / subject.step_ns)):
        subject.step((index + 1) * subject.step_ns)


@given(st.lists(VELOCITIES, min_size=1, max_size=4))
@settings(max_examples=30)
def test_the_way_is_the_integral_of_the_lagging_velocity(commands: list[tuple[float, float]]) -> None:
    subject = base()
    state = np.zeros(5)

    def rates(_: float, now: FloatArray) -> list[float]:
        change = np.clip((np.array(wanted) - now[3:]) / LAG_S, -ACCELERATION, ACCELERATION)
        return [now[3] * math.cos(now[2]), now[3] * math.sin(now[2]), now[4], *change]

    for wanted in commands:
        drive(subject, wanted, 0.7)
        state = solve_ivp(rates, (0.0, 0.7), state, rtol=1e-8, atol=1e-10, max_step=0.01).y[:, -1]
    np.testing.assert_allclose(subject.pose, state[:3], atol=2e-3)
    np.testing.assert_allclose(subject.velocity, state[3:], atol=2e-2)


@given(VELOCITIES)
def test_at_an_even_velocity_it_drives_an_arc(velocity: tuple[float, float]) -> None:
    subject = base()
    drive(subject, velocity, 3.0)
    np.testing.assert_allclose(subject.velocity, velocity, atol=1e-6)
    x, y, heading = subject.pose
    drive(subject, velocity, 2.0)
    forward, turning = velocity
    after = heading + 2.0 * turning
    if abs(turning) < 1e-6:
        way = 2.0 * forward * np.array([math.cos(heading), math.sin(heading)])
    else:
        # Probabilistic Robotics, Thrun et al., (5.9): about a centre forward / turning away.
        radius = forward / turning
        way = radius * np.array([math.sin(after) - math.sin(heading), math.cos(heading) - math.cos(after)])
    np.testing.assert_allclose(subject.pose, [x + way[0], y + way[1], after], atol=1e-5)


def test_it_lags_and_speeds_up_and_stops_no_faster_than_it_can() -> None:
    subject = base()
    speeds = [subject.velocity]
    for velocity in ((1.0, 1.0), (0.0, 0.0)):
        subject.command(velocity)
        for _ in range(800):
            subject.step(STEP_S)
            speeds.append(subject.velocity)
    most = np.abs(np.diff(speeds, axis=0) / STEP_S).max(axis=0)
    np.testing.assert_allclose(most, ACCELERATION, rtol=1e-9)
    assert speeds[100][0] < 0.35, "it takes its time"
    np.testing.assert_allclose(speeds[-1], 0.0, atol=1e-4)


def test_a_small_step_is_a_first_order_lag() -> None:
    subject = base()
    drive(subject, (0.1, 0.2), LAG_S)
    np.testing.assert_allclose(subject.velocity, np.array([0.1, 0.2]) * (1 - math.exp(-1)), rtol=1e-9)


def test_what_is_no_velocity_is_refused() -> None:
    for wrong in ((math.nan, 0.0), (0.0, math.inf)):
        with pytest.raises(ValueError, match="2 finite values"):
            base().command(wrong)


def test_arms_ride_along_and_their_frames_stay_in_the_bases() -> None:
    subject = twin()
    world: ArmsWorld = subject.world
    joints = {arm.name: arm.body.positions() for arm in subject.arms}
    at_rest = {arm.name: world.data.body(f"{arm.name}/ee_gripper_link").xpos.copy() for arm in subject.arms}
    drive_twin(subject, (0.4, 0.7), 2.0)
    assert subject.base is not None
    x, y, heading = subject.base.pose
    assert x > 0.2 and y > 0.1 and heading > 1.0
    turn = np.array([[math.cos(heading), -math.sin(heading)], [math.sin(heading), math.cos(heading)]])
    for arm in subject.arms:
        tool, pose = world.tool_pose(arm.name), world.base_pose(arm.name)
        np.testing.assert_allclose(arm.body.positions(), joints[arm.name], atol=1e-9)
        np.testing.assert_allclose(tool, arm.kinematics.forward(arm.config.home), atol=1e-9)
        np.testing.assert_allclose(pose[:3, 3], arm.config.base_pose.position, atol=1e-12)
        np.testing.assert_allclose(pose[:3, :3], np.eye(3), atol=1e-12)
        there = world.data.body(f"{arm.name}/ee_gripper_link").xpos
        before = at_rest[arm.name]
        np.testing.assert_allclose(there[:2], turn @ before[:2] + [x, y], atol=1e-9)
        assert there[2] == pytest.approx(before[2], abs=1e-9)
    mujoco.mj_camlight(world.model, world.data)
    place = world.data.camera("cam_high").xpos - [x, y, 0.0]
    np.testing.assert_allclose(turn.T @ place[:2], [0.232, 0.0], atol=1e-9)


def test_what_the_arms_do_does_not_move_the_base() -> None:
    subject = twin()
    for arm in subject.arms:
        arm.controllers.joint_position(np.array(arm.config.home) + 0.4)
    drive_twin(subject, (0.0, 0.0), 1.0)
    assert subject.base is not None
    np.testing.assert_array_equal(subject.base.pose, np.zeros(3))
    world = subject.world
    assert max(abs(world.data.joint(name).qvel[0]) for name in BASE_JOINTS) < 1e-4
    np.testing.assert_allclose(world.data.body("left/base_link").xpos, [0.331, 0.3, 1.042], atol=1e-6)


def test_cameras_ride_along_and_the_room_stands_still() -> None:
    subject = twin()
    other = make_camera_world(ROBOT, FILE)
    shown = SnapshotFormat(other)

    def pictures() -> dict[str, FloatArray]:
        snapshot = subject.snapshot(1)
        assert len(snapshot) <= 4096, "a pipe takes more than that in pieces"
        shown.show(snapshot)
        return {name: other.render(name).astype(float) for name in ROBOT.cameras}

    before = pictures()
    drive_twin(subject, (0.0, 0.8), 0.8)
    turned = pictures()
    subject.reset(0)
    back = pictures()
    for name, picture in before.items():
        assert picture.std() > 5
        assert np.abs(turned[name] - picture).mean() > 5, name
        np.testing.assert_array_equal(back[name], picture, err_msg=name)
    other.close()


def test_a_reset_brings_it_back_at_rest() -> None:
    subject = twin()
    drive_twin(subject, (0.5, 0.5), 1.0)
    assert "base where it started" in subject.reset(0)
    assert subject.base is not None
    np.testing.assert_array_equal(subject.base.pose, np.zeros(3))
    np.testing.assert_array_equal(subject.base.velocity, np.zeros(2))
    subject.step(subject.step_ns)
    np.testing.assert_array_equal(subject.base.pose, np.zeros(3))


def test_an_fr3_on_a_base_leaves_its_tabletop() -> None:
    file = robot_config("franka")
    robot = load_robot(file)
    assert isinstance(make_twin(robot, file, 0), PickTwin)
    mobile = make_twin(robot.model_copy(update={"base": ROBOT.base}), file, 0)
    assert isinstance(mobile, ArmsTwin) and mobile.base is not None
