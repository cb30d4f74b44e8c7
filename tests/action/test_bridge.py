"""BridgeData's own steps, each from where the arm then is, against one chunk of the same values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.action.manifests import manifest, matrix, pose_parts, random_pose, robot
from vla_ros.action.decode import decode
from vla_ros.action.last_targets import LastTargets
from vla_ros.action.normalise import unscaled
from vla_ros.types import ActionChunk, FloatArray, Observation, RawChunk

ROWS = 6
STEP_NS = 200_000_000
PARTS = pose_parts("bridge_delta", "world_delta", "euler_xyz", 3)


def stepped(measured: FloatArray, target: FloatArray, value: FloatArray) -> FloatArray:
    """The next target [4, 4]: rail-berkeley/bridge_data_robot, widowx_envs/widowx_envs/base/robot_base_env.py
    `_next_qpos` with utils/transformation_utils.py `action2transform_local`. The step's matrix is moved to
    the measured position and back, and multiplies the last target from the left."""
    to, back, step = np.eye(4), np.eye(4), np.eye(4)
    to[:3, 3], back[:3, 3] = measured[:3, 3], -measured[:3, 3]
    step[:3, :3], step[:3, 3] = Rotation.from_euler("xyz", value[3:]).as_matrix(), value[:3]
    return to @ step @ back @ target


def vector(T: FloatArray) -> FloatArray:
    return np.concatenate([T[:3, 3], Rotation.from_matrix(T[:3, :3]).as_quat()])


def decoded(values: FloatArray, measured: FloatArray, last: ActionChunk | None, stamp_ns: int) -> ActionChunk:
    seen = Observation({}, {"arm/tcp_pose": vector(measured)}, "", {}, stamp_ns)
    raw, described = RawChunk(values), manifest(PARTS, len(values), dt_s=STEP_NS / 1e9)
    return decode(raw, seen, described, unscaled(6), robot("arm"), last=last)


def targets(chunk: ActionChunk) -> list[FloatArray]:
    return [matrix(row) for row in chunk.targets]


def begin(rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray, ActionChunk]:
    """(values [ROWS, 6], measured pose, last target, the same as a chunk): an arm that lags behind."""
    target = matrix(random_pose(rng))
    measured = target.copy()
    measured[:3, 3] += rng.uniform(-0.04, 0.04, 3)
    values = np.column_stack([rng.uniform(-0.05, 0.05, (ROWS, 3)), rng.uniform(-0.25, 0.25, (ROWS, 3))])
    channels = decoded(values, measured, None, 0).channels
    last = ActionChunk(channels, vector(target)[None], np.array([0]), -STEP_NS)
    return values.astype(np.float32).astype(np.float64), measured, target, last


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_a_chunk_is_row_by_row_what_its_steps_are_on_an_arm_that_follows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values, measured, target, last = begin(rng)
    chunk = decoded(values, measured, last, 0)
    asked = LastTargets(manifest(PARTS, 1).outputs)
    asked.rows = last
    for row, whole in enumerate(targets(chunk)):
        target = stepped(measured, target, values[row])
        one = decoded(values[row : row + 1], measured, asked.rows, row * STEP_NS)
        asked.published(one, {"arm/tcp_pose": vector(measured)})
        assert np.allclose(targets(one)[0], target, rtol=0, atol=1e-9)
        assert np.allclose(whole, target, rtol=0, atol=1e-9)
        measured = target  # from here on the arm is where it was told to be


def test_behind_an_arm_that_lags_each_later_row_turns_about_another_point() -> None:
    """Bridge's own loop, measured anew 2 cm behind each target, leaves the chunk from its second row on, by
    the turned lag less the lag."""
    values, measured, target, last = begin(np.random.default_rng(3))
    chunk = targets(decoded(values, measured, last, 0))
    lag = np.array([0.02, 0.0, 0.0])
    first = stepped(measured, target, values[0])
    assert chunk[0] == pytest.approx(first, abs=1e-9)
    behind = first.copy()
    behind[:3, 3] -= lag
    second = stepped(behind, first, values[1])
    turned = Rotation.from_euler("xyz", values[1, 3:]).apply(lag) - lag
    assert np.linalg.norm(turned) > 1e-3
    assert second[:3, 3] - chunk[1][:3, 3] == pytest.approx(turned, abs=1e-9)
    assert second[:3, :3] == pytest.approx(chunk[1][:3, :3], abs=1e-9)
