"""The offline evaluator: that a perfect policy scores, and that chunks are decoded as policy_node does."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.action.decode import decode
from vla_ros.action.normalise import Scaling, normalise, unscaled
from vla_ros.action.rotations import quaternion_to_matrix
from vla_ros.export.demo.evaluate import Policy, Timing, franka, observed, run
from vla_ros.export.demo.expert import plan_chunk, pointing_down
from vla_ros.export.demo.manifest import manifest_fields
from vla_ros.export.demo.text import build_tokenizer
from vla_ros.export.demo.tracking import Tracker
from vla_ros.policy.manifest import Manifest
from vla_ros.sim.offscreen import RenderingUnavailableError
from vla_ros.sim.task import EVALUATION_SEED_START, draw_scene
from vla_ros.sim.world import World
from vla_ros.types import RawChunk

SCALING = Scaling(np.full(10, -2.0), np.full(10, 2.0), np.arange(10) != 9)
MANIFEST = Manifest.model_validate({**manifest_fields(8, (0.0, 0.0)), "sha256": {}})


def test_a_chunk_becomes_the_targets_it_was_made_from() -> None:
    tool = np.eye(4)
    tool[:3, :3] = pointing_down(0.3)
    tool[:3, 3] = 0.4, 0.1, 0.3
    block = np.eye(4)
    block[:3, 3] = 0.5, -0.1, 0.02
    labels, targets = plan_chunk(tool, 0.08, block)
    chunk = decode(RawChunk(labels), observed(tool, 0.08, 5.0), MANIFEST, unscaled(10), franka())
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

    return Policy(infer, build_tokenizer(), MANIFEST, SCALING, SCALING)


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


def commands_of(
    world: World, binary: dict[str, float], first: float, then: tuple[float, float]
) -> list[tuple[float, float]]:
    """(time [s], width [m]) of what the hand is told by chunks, one every 0.2 s, that leave the arm where it
    is: their gripper value is ``first`` in one, ``then`` in turn in the others."""
    stay = np.tile([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0], (16, 1))
    inferred, told, tell = 0, [], world.command_gripper

    def infer(images, tokens, state, noise):
        nonlocal inferred
        inferred += 1
        value = first if inferred == 1 else then[inferred % 2]
        return normalise(np.column_stack([stay, np.full(16, value)]), SCALING)

    def record(width: float, force: float) -> None:
        told.append((world.time, width))
        tell(width, force)

    outputs = MANIFEST.model_dump(exclude_none=True)
    outputs["outputs"]["action"][2]["gripper"]["binary"] = binary
    policy = Policy(infer, build_tokenizer(), Manifest.model_validate(outputs), SCALING, SCALING)
    world.command_gripper = record
    try:
        run(world, Tracker(world), policy, EVALUATION_SEED_START + 7, Timing(0.2, 0.07, "newest"))
    finally:
        del world.command_gripper
    return told


def test_the_hand_s_hysteresis_reaches_from_chunk_to_chunk(world: World) -> None:
    told = commands_of(world, {"threshold": 0.5, "hysteresis": 0.1}, 0.9, (0.45, 0.55))
    assert [width for _, width in told] == [0.08]


def test_a_sticky_hand_stays_from_chunk_to_chunk(world: World) -> None:
    """25 rows of 0.1 s, though each chunk of 16 rows asks for the other."""
    told = commands_of(world, {"threshold": 0.5, "sticky_steps": 25}, 0.9, (0.1, 0.9))
    assert [width for _, width in told[:4]] == [0.08, 0.0, 0.08, 0.0]
    times = np.array([time for time, _ in told])
    assert np.diff(times[1:]).min() > 2.4
