"""The scripted expert: its rule, its chunks, and that it really picks blocks up."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.export.demo import expert
from vla_ros.export.demo.tracking import TICK_S, Plan, Tracker
from vla_ros.sim.task import PickTask, draw_scene
from vla_ros.sim.world import World

BLOCK = (0.5, 0.0, 0.02)


def _pose(x: float, y: float, z: float, yaw: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = expert.pointing_down(yaw)
    pose[:3, 3] = x, y, z
    return pose


def _block(yaw: float = 0.0) -> np.ndarray:
    pose = np.eye(4)
    c, s = math.cos(yaw), math.sin(yaw)
    pose[:2, :2] = [[c, -s], [s, c]]
    pose[:3, 3] = BLOCK
    return pose


@given(st.floats(-3.1, 3.1), st.floats(-3.1, 3.1))
def test_fingers_align_with_a_face_by_the_shortest_turn(tool: float, block: float) -> None:
    aligned = expert.aligned_yaw(tool, block)
    assert abs(aligned - tool) <= math.pi / 4 + 1e-9
    assert math.sin(2 * (aligned - block)) == pytest.approx(0.0, abs=1e-6)


def test_far_away_it_flies_over_the_block_open() -> None:
    goal = expert.decide(0.3, 0.2, 0.4, 0.0, 0.08, BLOCK)
    assert goal.position == pytest.approx((0.5, 0.0, 0.02 + expert.HOVER))
    assert goal.gripper == 1.0


def test_low_beside_the_block_it_rises_before_it_moves() -> None:
    x, y, z = expert.decide(0.5, 0.08, 0.03, 0.0, 0.08, BLOCK).position
    assert (x, y) == (0.5, 0.08) and z > 0.1


def test_it_does_not_descend_turned_or_half_open() -> None:
    assert expert.decide(0.5, 0.0, 0.1, 0.6, 0.08, BLOCK).position[2] > 0.1
    assert expert.decide(0.5, 0.0, 0.1, 0.0, 0.05, BLOCK).position[2] > 0.1
    assert expert.decide(0.5, 0.0, 0.1, 0.0, 0.08, BLOCK).position[2] == pytest.approx(0.02)


def test_at_the_block_it_closes_and_with_the_block_it_lifts() -> None:
    assert expert.decide(0.501, 0.0, 0.022, 0.02, 0.08, BLOCK).gripper == 0.0
    held = expert.decide(0.501, 0.0, 0.022, 0.02, 0.04, BLOCK)
    assert held.gripper == 0.0 and held.position[2] == pytest.approx(expert.LIFTED_Z)


def test_closed_on_nothing_it_opens_again() -> None:
    assert expert.decide(0.5, 0.0, 0.03, 0.0, 0.01, (0.6, 0.0, 0.02)).gripper == 1.0


def test_a_chunk_is_relative_to_the_measured_pose() -> None:
    tool = _pose(0.35, -0.1, 0.3, 0.2)
    labels, targets = expert.plan_chunk(tool, 0.08, _block(0.5))
    assert labels.shape == (16, 10) and labels.dtype == np.float32
    for row, target in zip(labels, targets, strict=True):
        relative = np.linalg.inv(tool) @ target
        np.testing.assert_allclose(row[:3], relative[:3, 3], atol=1e-6)
        np.testing.assert_allclose(row[3:6], relative[:3, 0], atol=1e-6)
        np.testing.assert_allclose(row[6:9], relative[:3, 1], atol=1e-6)
    assert set(np.unique(labels[:, 9])) <= {0.0, 1.0}


def test_a_chunk_keeps_to_the_speed_limit_and_ends_closer() -> None:
    tool = _pose(0.35, -0.2, 0.4)
    _, targets = expert.plan_chunk(tool, 0.08, _block())
    path = np.vstack([tool[:3, 3], targets[:, :3, 3]])
    steps = np.linalg.norm(np.diff(path, axis=0), axis=1)
    assert (steps <= expert.MAX_SPEED * expert.STEP_S + 1e-9).all()
    distance = np.linalg.norm(path - BLOCK, axis=1)
    assert distance[-1] < distance[0] - 0.2


def test_holding_the_block_the_chunk_lifts_it_closed() -> None:
    labels, targets = expert.plan_chunk(_pose(*BLOCK), 0.04, _block())
    assert (labels[:, 9] == 0).all()
    assert targets[-1, 2, 3] > 0.12


@pytest.mark.parametrize("seed", range(4))
def test_the_expert_solves_the_task(seed: int) -> None:
    world = World()
    scene = draw_scene(seed)
    world.reset(scene)
    tracker, judge = Tracker(world), PickTask(scene.target)
    tick, gripper = 0, 1.0
    plan: Plan | None = None
    while judge.outcome == "running":
        now = tick * TICK_S
        if tick % 10 == 0:
            labels, targets = expert.plan_chunk(
                world.tcp_pose, world.gripper_width, world.block_pose(scene.target)
            )
            plan = Plan(targets, labels[:, 9], now + 0.1 * np.arange(1, 17))
        assert plan is not None
        pose, value = plan.at(now + 0.04)
        tracker.track(pose)
        if value != gripper:
            gripper = value
            world.command_gripper(0.08 * gripper, 30.0)
        world.step(round(TICK_S / world.timestep))
        tick += 1
        judge.update(world.block_heights(), world.time)
    assert judge.outcome == "success"
    assert world.time < 10
