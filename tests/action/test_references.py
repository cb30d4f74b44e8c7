"""Each reference against homogeneous matrices, row by row, with scipy's rotations and pinocchio's SE3."""

from __future__ import annotations

import itertools

import numpy as np
import pinocchio as pin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.action.manifests import matrix, random_pose
from vla_ros.action import references
from vla_ros.action.references import Pose
from vla_ros.policy.manifest_outputs import REFERENCES, TOOL_REFERENCES


def pose(T: np.ndarray) -> Pose:
    return Pose(T[:3, 3], T[:3, :3])


def spoken_position(T: np.ndarray, before: np.ndarray, start: np.ndarray, reference: str) -> np.ndarray:
    """One row's position as `reference` says, from its definition."""
    if reference == "absolute":
        return T[:3, 3]
    if reference == "world_relative":
        return T[:3, 3] - start[:3, 3]
    if reference == "world_delta":
        return T[:3, 3] - before[:3, 3]
    return (np.linalg.inv(start if reference == "eef_relative" else before) @ T)[:3, 3]


def spoken_rotation(T: np.ndarray, before: np.ndarray, start: np.ndarray, reference: str) -> np.ndarray:
    R, first = Rotation.from_matrix(T[:3, :3]), Rotation.from_matrix(start[:3, :3])
    prior = Rotation.from_matrix(before[:3, :3])
    found = {
        "absolute": R,
        "world_relative": R * first.inv(),
        "world_delta": R * prior.inv(),
        "eef_relative": first.inv() * R,
        "eef_delta": prior.inv() * R,
    }
    return found[reference].as_matrix()


@pytest.mark.parametrize(
    ("position", "rotation"),
    [pair for pair in itertools.product(TOOL_REFERENCES, TOOL_REFERENCES)],
)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10**6), rows=st.sampled_from([1, 2, 7]))
def test_every_pair_of_references_both_ways(position, rotation, seed, rows) -> None:
    rng = np.random.default_rng(seed)
    start, base = matrix(random_pose(rng)), matrix(random_pose(rng))
    T = [matrix(random_pose(rng)) for _ in range(rows)]
    before = [base, *T[:-1]]
    pairs = list(zip(T, before, strict=True))
    spoken = np.array([spoken_position(one, prior, start, position) for one, prior in pairs])
    turns = np.array([spoken_rotation(one, prior, start, rotation) for one, prior in pairs])
    P, R = np.array(T)[:, :3, 3], np.array(T)[:, :3, :3]
    origins = pose(start), pose(base)
    assert np.allclose(references.to_rotations(turns, rotation, *origins), R, rtol=0, atol=1e-9)
    assert np.allclose(references.from_rotations(R, rotation, *origins), turns, rtol=0, atol=1e-9)
    assert np.allclose(references.to_positions(spoken, position, R, *origins), P, rtol=0, atol=1e-9)
    assert np.allclose(references.from_positions(P, position, R, *origins), spoken, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_eef_relative_and_eef_delta_are_se3_s_own_composition(seed) -> None:
    rng = np.random.default_rng(seed)
    start, base = (pin.XYZQUATToSE3(random_pose(rng)) for _ in range(2))
    steps = [pin.XYZQUATToSE3(random_pose(rng)) for _ in range(4)]
    values, turns = np.array([s.translation for s in steps]), np.array([s.rotation for s in steps])
    origins = Pose(start.translation, start.rotation), Pose(base.translation, base.rotation)
    for reference in ("eef_relative", "eef_delta"):
        chained = base
        R = references.to_rotations(turns, reference, *origins)
        P = references.to_positions(values, reference, R, *origins)
        for row, step in enumerate(steps):
            chained = chained * step
            expected = start * step if reference == "eef_relative" else chained
            assert np.allclose(P[row], expected.translation, rtol=0, atol=1e-9)
            assert np.allclose(R[row], expected.rotation, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20, deadline=None)
def test_bridge_s_first_step_is_its_own_code_s(seed) -> None:
    """rail-berkeley/bridge_data_robot, widowx_envs/widowx_envs/utils/transformation_utils.py: the step's
    matrix is moved to the measured position and back, and multiplies the previous target from the left."""
    rng = np.random.default_rng(seed)
    measured, target = matrix(random_pose(rng)), matrix(random_pose(rng))
    d, euler = rng.uniform(-0.05, 0.05, 3), rng.uniform(-0.25, 0.25, 3)
    to, back, step = np.eye(4), np.eye(4), np.eye(4)
    to[:3, 3], back[:3, 3] = measured[:3, 3], -measured[:3, 3]
    step[:3, :3], step[:3, 3] = Rotation.from_euler("xyz", euler).as_matrix(), d
    expected = to @ step @ back @ target
    origins = pose(measured), pose(target)
    R = references.to_rotations(step[None, :3, :3], "world_delta", *origins)
    P = references.to_positions(d[None], "bridge_delta", R, *origins)
    assert np.allclose(R[0], expected[:3, :3], rtol=0, atol=1e-9)
    assert np.allclose(P[0], expected[:3, 3], rtol=0, atol=1e-9)
    assert np.allclose(references.from_positions(P, "bridge_delta", R, *origins), d, rtol=0, atol=1e-9)
    # Where the arm has come to its target, it is a world delta.
    there = pose(target), pose(target)
    assert np.allclose(references.to_positions(d[None], "bridge_delta", R, *there), target[:3, 3] + d)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 50])
def test_running_products_are_those_of_a_loop(rows: int) -> None:
    first, *M = Rotation.random(rows + 1, rng=np.random.default_rng(rows)).as_matrix()
    given, right, left = np.array(M), [first], [first]
    for one in M:
        right.append(right[-1] @ one)
        left.append(one @ left[-1])
    assert np.allclose(references._products(given, first, left=False), right[1:], rtol=0, atol=1e-12)
    assert np.allclose(references._products(given, first, left=True), left[1:], rtol=0, atol=1e-12)
    assert np.array_equal(given, M)  # what the policy said is left as it is


@given(seed=st.integers(0, 10**6), reference=st.sampled_from(REFERENCES["joint_position"]))
@settings(max_examples=40, deadline=None)
def test_joints_one_by_one(seed, reference) -> None:
    rng = np.random.default_rng(seed)
    start, base, mask = rng.normal(size=7), rng.normal(size=7), rng.random(7) < 0.5
    q = rng.normal(size=(4, 7))
    expected = np.empty((4, 7))
    for row, joint in itertools.product(range(4), range(7)):
        before = base[joint] if row == 0 else q[row - 1, joint]
        origin = start[joint] if mask[joint] else 0.0
        expected[row, joint] = (
            q[row, joint] - {"absolute": 0.0, "relative": origin, "delta": before}[reference]
        )
    assert np.allclose(references.from_joints(q, reference, start, base, mask), expected, atol=1e-12)
    assert np.allclose(references.to_joints(expected, reference, start, base, mask), q, atol=1e-12)
