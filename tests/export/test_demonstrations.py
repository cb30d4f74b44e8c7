"""Disturbed episodes: what is stored, and that it can be repeated."""

from __future__ import annotations

import numpy as np
import pytest
import typer
from scipy.spatial.transform import Rotation

from vla_ros.export.demo import demonstrations
from vla_ros.export.demo.demonstrations import Disturbance, run_episode
from vla_ros.export.demo.expert import plan_chunk
from vla_ros.export.demo.tracking import Tracker
from vla_ros.sim.offscreen import RenderingUnavailableError
from vla_ros.sim.task import EVALUATION_SEED_START, draw_scene
from vla_ros.sim.world import World


@pytest.fixture(scope="module")
def episode() -> dict[str, np.ndarray]:
    world = World()
    world.reset(draw_scene(0))
    try:
        world.render("front")
    except RenderingUnavailableError as error:
        pytest.skip(str(error))
    first = run_episode(world, Tracker(world), 4)
    second = run_episode(world, Tracker(world), 4)
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key], err_msg=key)
    world.close()
    return first


def test_an_episode_succeeds_in_spite_of_the_disturbance(episode: dict[str, np.ndarray]) -> None:
    assert episode["success"]


def test_shapes_and_types(episode: dict[str, np.ndarray]) -> None:
    count = len(episode["state"])
    assert episode["images"].shape == (count, 2, 96, 128, 3)
    assert episode["images"].dtype == np.uint8
    assert episode["labels"].shape == (count, 3, 16, 10)
    assert episode["pixels"].shape == (count, 2, 3, 2)
    assert episode["state"].shape == (count, 10)


def test_labels_are_the_clean_chunks_of_every_block(episode: dict[str, np.ndarray]) -> None:
    for frame in range(0, len(episode["state"]), 7):
        tool = episode["tool"][frame].astype(np.float64)
        tool[:3, :3] = Rotation.from_matrix(tool[:3, :3]).as_matrix()
        for block in range(3):
            pose = episode["blocks"][frame, block].astype(np.float64)
            labels, _ = plan_chunk(tool, float(episode["width"][frame]), pose)
            stored = episode["labels"][frame, block]
            # float32 storage may flip a decision at a threshold, not more than a few of them.
            close = np.abs(labels - stored).max(axis=1) < 2e-3
            assert close.mean() > 0.6


def test_execution_departs_from_the_labels(episode: dict[str, np.ndarray]) -> None:
    target = int(episode["target"][0])
    planned = episode["labels"][:-1, target, 0, :3]
    tool, after = episode["tool"][:-1], episode["tool"][1:, :3, 3]
    reached = np.einsum("nij,ni->nj", tool[:, :3, :3], after - tool[:, :3, 3])
    assert np.linalg.norm(reached - planned, axis=1).max() > 0.004


def test_the_gripper_width_in_the_state_is_late(episode: dict[str, np.ndarray]) -> None:
    moving = np.abs(np.diff(episode["width"])) > 0.005
    late = episode["state"][1:, 9] - episode["width"][1:]
    assert np.abs(late[moving]).max() > 0.001


def test_disturbance_is_calm_near_the_grasp() -> None:
    rng = np.random.default_rng(0)
    noise = Disturbance(rng)
    noise.kick_left = np.inf
    loud = np.std([noise.step(0.01, 1.0) for _ in range(3000)], axis=0)
    calm = np.std([noise.step(0.01, 0.1) for _ in range(3000)], axis=0)
    assert (calm < 0.3 * loud).all()


def test_evaluation_seeds_cannot_be_demonstrated(tmp_path) -> None:
    with pytest.raises(typer.BadParameter, match="evaluation seeds"):
        demonstrations.main(tmp_path, 40, EVALUATION_SEED_START - 20, 1)
