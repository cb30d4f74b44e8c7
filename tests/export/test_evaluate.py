"""The offline evaluator: its arithmetic, and that a perfect policy scores."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.action.normalise import Scaling, normalise
from vla_ros.action.rotations import quaternion_to_matrix
from vla_ros.export.demo.evaluate import Policy, Timing, run, to_chunk
from vla_ros.export.demo.expert import plan_chunk, pointing_down
from vla_ros.export.demo.text import build_tokenizer
from vla_ros.export.demo.tracking import Tracker
from vla_ros.sim.offscreen import RenderingUnavailableError
from vla_ros.sim.task import EVALUATION_SEED_START, draw_scene
from vla_ros.sim.world import World

SCALING = Scaling(np.full(10, -2.0), np.full(10, 2.0), np.arange(10) != 9)


def test_a_chunk_becomes_the_targets_it_was_made_from() -> None:
    tool = np.eye(4)
    tool[:3, :3] = pointing_down(0.3)
    tool[:3, 3] = 0.4, 0.1, 0.3
    block = np.eye(4)
    block[:3, 3] = 0.5, -0.1, 0.02
    labels, targets = plan_chunk(tool, 0.08, block)
    chunk = to_chunk(labels.astype(np.float64), tool, 5.0)
    np.testing.assert_allclose(chunk.targets[:, :3], targets[:, :3, 3], atol=1e-6)
    rotations = quaternion_to_matrix(chunk.targets[:, 3:7])
    np.testing.assert_allclose(rotations, targets[:, :3, :3], atol=1e-6)
    assert chunk.due_ns[[0, -1]].tolist() == [5_100_000_000, 6_600_000_000]
    assert chunk.stamp_ns == 5_000_000_000
    np.testing.assert_allclose(chunk.targets[:, 7], 0.08 * labels[:, 9])


def _oracle(world: World, block: int, offset: float = 0.0) -> Policy:
    """Answers with the expert's chunk for ``block``, moved aside by ``offset`` metres."""

    def infer(images, tokens, state, noise):
        pose = world.block_pose(block)
        pose[1, 3] += offset
        labels, _ = plan_chunk(world.tcp_pose, world.gripper_width, pose)
        return normalise(labels, SCALING).astype(np.float32)

    return Policy(infer, build_tokenizer(), SCALING, SCALING)


@pytest.fixture(scope="module")
def world() -> World:
    world = World()
    world.reset(draw_scene(0))
    try:
        world.render("front")
    except RenderingUnavailableError as error:
        pytest.skip(str(error))
    return world


@pytest.mark.parametrize("mode", ["newest", "crossfade", "ensemble"])
def test_a_perfect_policy_succeeds(world: World, mode: str) -> None:
    seed = EVALUATION_SEED_START + 7
    policy, timing = _oracle(world, draw_scene(seed).target), Timing(0.1, 0.07, mode)
    assert run(world, Tracker(world), policy, seed, timing).outcome == "success"


def test_a_policy_for_another_block_is_a_wrong_block(world: World) -> None:
    seed = EVALUATION_SEED_START + 7
    policy = _oracle(world, (draw_scene(seed).target + 1) % 3)
    assert run(world, Tracker(world), policy, seed, Timing(0.1, 0.07)).outcome == "wrong_block"


def test_a_policy_that_misses_runs_out_of_time(world: World) -> None:
    seed = EVALUATION_SEED_START + 7
    policy = _oracle(world, draw_scene(seed).target, offset=0.07)
    episode = run(world, Tracker(world), policy, seed, Timing(0.2, 0.07))
    assert episode.outcome == "timeout"
    assert episode.closest > 0.03
