"""Scene drawing and the judge."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.sim import task
from vla_ros.sim.franka_mjcf import BLOCK_HALF_SIZE, JOINT_LIMITS
from vla_ros.sim.task import PickTask, draw_scene
from vla_ros.sim.world import PALETTE

REST = np.full(3, BLOCK_HALF_SIZE)


@given(st.integers(0, 2_000_000))
def test_scenes_keep_their_promises(seed: int) -> None:
    scene = draw_scene(seed)
    assert scene == draw_scene(seed)
    colors = [block.color for block in scene.blocks]
    assert len(set(colors)) == 3 and set(colors) <= set(PALETTE)
    assert colors[scene.target] in scene.instruction
    assert not any(c in scene.instruction for c in set(PALETTE) - {colors[scene.target]})
    for a, b in itertools.combinations(scene.blocks, 2):
        assert np.hypot(a.x - b.x, a.y - b.y) >= task.MIN_DISTANCE
    for block in scene.blocks:
        assert task.X_RANGE[0] <= block.x <= task.X_RANGE[1]
        assert task.Y_RANGE[0] <= block.y <= task.Y_RANGE[1]
    for q, (low, high) in zip(scene.start_joints, JOINT_LIMITS, strict=True):
        assert low < q < high


def _lift(*rises: float) -> np.ndarray:
    return REST + np.array(rises)


def test_success_needs_the_height_for_the_whole_hold_time() -> None:
    judge = PickTask(target=1)
    assert judge.update(_lift(0, 0.11, 0), 1.0) == "running"
    assert judge.update(_lift(0, 0.11, 0), 1.49) == "running"
    assert judge.update(_lift(0, 0.11, 0), 1.5) == "success"
    assert judge.update(REST, 1.6) == "success"


def test_a_dip_restarts_the_hold() -> None:
    judge = PickTask(target=0)
    judge.update(_lift(0.11, 0, 0), 1.0)
    judge.update(_lift(0.09, 0, 0), 1.3)
    assert judge.update(_lift(0.11, 0, 0), 1.6) == "running"
    assert judge.update(_lift(0.11, 0, 0), 2.1) == "success"


def test_just_below_the_height_is_not_lifted() -> None:
    judge = PickTask(target=0)
    judge.update(_lift(0.099, 0, 0), 1.0)
    assert judge.update(_lift(0.099, 0, 0), 5.0) == "running"


def test_lifting_another_block_fails_at_once() -> None:
    judge = PickTask(target=0)
    assert judge.update(_lift(0, 0.029, 0), 1.0) == "running"
    assert judge.update(_lift(0.2, 0.031, 0), 1.1) == "wrong_block"
    assert judge.update(_lift(0.2, 0, 0), 3.0) == "wrong_block"


def test_time_runs_out() -> None:
    judge = PickTask(target=0)
    assert judge.update(REST, 14.99) == "running"
    assert judge.update(REST, 15.0) == "timeout"


def test_wrong_number_of_heights_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values"):
        PickTask(target=0).update([0.02, 0.02], 0.0)
