"""Interpolating a plan and following it within limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_ros.export.demo.tracking import _ACCELERATION, _VELOCITY, TICK_S, Plan, Tracker
from vla_ros.sim.task import draw_scene
from vla_ros.sim.world import World


def _plan() -> Plan:
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[1, :3, 3] = 0.1, 0.0, 0.0
    poses[1, :3, :3] = Rotation.from_rotvec([0, 0, 0.4]).as_matrix()
    poses[2] = poses[1]
    return Plan(poses, np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.1, 1.2]))


def test_between_two_steps_position_is_linear_and_rotation_slerped() -> None:
    pose, gripper = _plan().at(1.05)
    np.testing.assert_allclose(pose[:3, 3], [0.05, 0, 0], atol=1e-12)
    angle = Rotation.from_matrix(pose[:3, :3]).as_rotvec()
    np.testing.assert_allclose(angle, [0, 0, 0.2], atol=1e-9)
    assert gripper == 1.0


@pytest.mark.parametrize(("time", "x", "gripper"), [(0.2, 0.0, 1.0), (1.1, 0.1, 0.0), (9, 0.1, 0.0)])
def test_ends_are_held_and_the_gripper_switches_when_due(time: float, x: float, gripper: float) -> None:
    pose, value = _plan().at(time)
    assert pose[0, 3] == pytest.approx(x)
    assert value == gripper


def test_the_arm_arrives_within_its_limits() -> None:
    world = World()
    world.reset(draw_scene(0))
    tracker = Tracker(world)
    goal = world.tcp_pose
    goal[:3, 3] += 0.15, 0.10, -0.20
    commands = [tracker.command]
    for _ in range(200):
        tracker.track(goal)
        commands.append(tracker.command)
        world.step(round(TICK_S / world.timestep))
    speed = np.diff(commands, axis=0) / TICK_S
    assert (np.abs(speed) <= _VELOCITY + 1e-9).all()
    change = np.abs(np.diff(speed, axis=0)) / TICK_S
    assert (change <= _ACCELERATION + 1e-6).all()
    np.testing.assert_allclose(world.tcp_pose, goal, atol=3e-3)
