"""The search behind inverse kinematics: limits, other branches, and that nothing on a steady way jumps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from tests.robot.vendor_chains import CHAINS, Chain
from vla_ros.robot import inverse
from vla_ros.robot.inverse import descend, search
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

ARMS = [pytest.param(chain, id=name) for name, chain in CHAINS.items()]


def look_of(arm: Kinematics) -> inverse.Look:
    return lambda q: (arm.forward(q), arm.jacobian(q))


def starts(arm: Kinematics, away: float, count: int, seed: int) -> Iterator[tuple[FloatArray, FloatArray]]:
    """(target, joints to start from) of random postures, `away` rad (standard deviation) per joint."""
    rng = np.random.default_rng(seed)
    for q in rng.uniform(arm.lower, arm.upper, (count, len(arm.joints))):
        yield arm.forward(q), np.clip(q + rng.normal(0.0, away, len(q)), arm.lower, arm.upper)


# --- other branches -----------------------------------------------------------------------------------

# Piper: bent as at the start its elbow meets a limit; bent the other way it meets the target.
ELBOW = ([0.14, 2.47, -2.67, -1.53, 0.82, -0.66], [0.04, 2.61, -2.83, -1.53, 0.91, -0.83])


def test_a_limit_on_one_branch_is_got_round_by_the_other() -> None:
    chain = CHAINS["piper"]
    arm, (posture, start) = chain.kinematics(), np.array(ELBOW)
    target = chain.forward(posture)
    first, _ = descend(look_of(arm), target, start, arm.lower, arm.upper)
    assert not first.reached
    assert first.q[2] == arm.lower[2]
    found = arm.inverse(target, start, arm.lower, arm.upper)
    assert found.reached
    np.testing.assert_allclose(found.q, posture, atol=1e-3)


@pytest.mark.parametrize("chain", ARMS)
@pytest.mark.parametrize("away", [0.1, 0.3])
def test_poses_from_afar_are_met_and_near(chain: Chain, away: float) -> None:
    """`vla bench kinematics` does this for ten thousand."""
    arm = chain.kinematics()
    for target, start in starts(arm, away, 500, seed=11):
        found = arm.inverse(target, start, arm.lower, arm.upper)
        assert found.reached
        assert ((arm.lower <= found.q) & (found.q <= arm.upper)).all()


def test_poses_beside_a_folded_home_are_met() -> None:
    """The Cobot Magic's: the tool nearly over the shoulder's axis and the wrist nearly in line with it."""
    arm = CHAINS["piper_cobot"].kinematics()
    home = np.array([0.0, 0.32, -0.36, 0.0, 0.24, 0.0])
    smallest = np.linalg.svd(inverse._weighted(arm.jacobian(home)), compute_uv=False)[-1]
    assert smallest < 0.02
    rng = np.random.default_rng(6)
    for away in (0.03, 0.1, 0.3):
        for q in np.clip(home + rng.normal(0.0, away, (200, 6)), arm.lower, arm.upper):
            assert arm.inverse(arm.forward(q), home, arm.lower, arm.upper).reached


def test_another_branch_is_only_taken_nearby() -> None:
    """The joints of a second search are no further from the start than its target allows."""
    arm = CHAINS["piper"].kinematics()
    look, second, missed = look_of(arm), 0, 0
    for target, start in starts(arm, 0.3, 2000, seed=1):
        first, _ = descend(look, target, start, arm.lower, arm.upper)
        found = search(look, target, start, arm.lower, arm.upper)
        if first.reached:
            np.testing.assert_array_equal(found.q, first.q)
        elif found.reached:
            second += 1
            assert np.abs(found.q - start).max() <= np.pi / 2 + 1e-12
        else:
            missed += 1
    assert second > 10
    assert missed == 0


@pytest.mark.parametrize("name", ["vx300s", "piper"])
def test_a_steady_way_into_a_limit_never_jumps_to_another_branch(name: str) -> None:
    """Followed without a posture, as a driver does that is told where its tool has to be."""
    arm = CHAINS[name].kinematics()
    look, missed = look_of(arm), 0
    rng = np.random.default_rng(2)
    for q in rng.uniform(arm.lower, arm.upper, (20, len(arm.joints))):
        way = 0.3 * rng.normal(size=len(q))
        for share in np.linspace(0.0, 1.0, 40):
            # Joints that would go beyond their limits: this branch ends there.
            target = arm.forward(q + share * way)
            if share == 0.0:
                at = q
            found = arm.inverse(target, at, arm.lower, arm.upper)
            first, _ = descend(look, target, at, arm.lower, arm.upper)
            np.testing.assert_array_equal(found.q, first.q)
            at, missed = found.q, missed + (not found.reached)
    assert missed > 50


def test_an_arm_that_came_no_nearer_is_left_where_it_is() -> None:
    """What a search costs at a target out of reach, tick after tick: one descent."""
    arm = CHAINS["piper"].kinematics()
    calls = 0

    def look(q: FloatArray) -> tuple[FloatArray, FloatArray]:
        nonlocal calls
        calls += 1
        return arm.forward(q), arm.jacobian(q)

    start = np.array([0.0, 1.2, -1.2, 0.0, 0.6, 0.0])
    target = arm.forward(start)
    target[0, 3] += 1.0
    for _ in range(3):
        stretched, _ = descend(look, target, start, arm.lower, arm.upper)
        start = stretched.q
    calls = 0
    _, alone = descend(look, target, start, arm.lower, arm.upper)
    assert calls == alone
    calls = 0
    found = search(look, target, start, arm.lower, arm.upper)
    assert not found.reached
    # One more to see how far away the target is.
    assert calls == alone + 1


def test_the_searches_for_one_target_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    arm = CHAINS["piper"].kinematics()
    calls = most = 0

    def look(q: FloatArray) -> tuple[FloatArray, FloatArray]:
        nonlocal calls
        calls += 1
        return arm.forward(q), arm.jacobian(q)

    for allowed in (inverse._ALL_ITERATIONS, 60):
        monkeypatch.setattr(inverse, "_ALL_ITERATIONS", allowed)
        most = 0
        for target, start in starts(arm, 0.5, 300, seed=4):
            target[:3, 3] *= 1.05
            calls = 0
            search(look, target, start, arm.lower, arm.upper)
            most = max(most, calls)
        # And a few that look for where to begin.
        assert allowed * 0.5 < most <= allowed + 7


def test_mirrored_is_the_elbow_bent_to_the_other_side() -> None:
    """Two links of 1 m in a plane, nearly stretched: the other solution is known."""

    def look(q: FloatArray) -> tuple[FloatArray, FloatArray]:
        one, both = q[0], q[0] + q[1]
        pose, jacobian = np.eye(4), np.zeros((6, 2))
        pose[:2, 3] = np.cos(one) + np.cos(both), np.sin(one) + np.sin(both)
        jacobian[:2, 1] = -np.sin(both), np.cos(both)
        jacobian[:2, 0] = jacobian[:2, 1] + (-np.sin(one), np.cos(one))
        return pose, jacobian

    q = np.array([0.3, 0.2])
    nearest = next(inverse._mirrored(look, q))
    np.testing.assert_allclose(look(q + nearest)[0], look(q)[0], atol=3e-3)
    np.testing.assert_allclose(nearest, [0.2, -0.4], atol=0.02)


# Draws of the test below in which exchanging all wrong joints at once would never end.
CIRCLES = ((5394, 7), (7486, 7), (9928, 5), (12937, 6))

# --- limits -------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(5, 8))
def test_a_step_within_limits_is_the_best_there_is(seed: int, joints: int) -> None:
    """Against scipy's bounded least squares."""
    rng = np.random.default_rng(seed)
    matrix, goal = rng.normal(size=(joints + 1, joints)), rng.normal(size=joints + 1)
    low, high = -rng.uniform(0.0, 0.3, joints), rng.uniform(0.0, 0.3, joints)
    low[rng.random(joints) < 0.2] = 0.0
    hessian, gradient = matrix.T @ matrix, matrix.T @ goal
    found = inverse._within(hessian, gradient, np.linalg.solve(hessian, gradient), low, high)
    assert ((low <= found) & (found <= high)).all()
    best = lsq_linear(
        matrix, goal, (np.where(low == high, low - 1e-12, low), high), method="bvls", tol=1e-14
    ).x
    cost, least = (float(np.sum((matrix @ step - goal) ** 2)) for step in (found, best))
    assert cost <= least * (1 + 1e-9) + 1e-12


@pytest.mark.parametrize(("seed", "joints"), CIRCLES)
def test_limits_that_exchange_in_circles_are_found_one_by_one(seed: int, joints: int) -> None:
    test_a_step_within_limits_is_the_best_there_is.hypothesis.inner_test(seed, joints)


def test_a_joint_beyond_its_limit_only_because_of_another_is_released() -> None:
    """Free, both are far beyond; with the first at its limit the second wants 0.9."""
    hessian, gradient = np.array([[1.0, 0.9], [0.9, 1.0]]), np.array([-3.0, 0.0])
    free = np.linalg.solve(hessian, gradient)
    assert free[0] < -1.0 and free[1] > 2.0
    found = inverse._within(hessian, gradient, free, np.array([-1.0, -2.0]), np.array([1.0, 2.0]))
    np.testing.assert_allclose(found, [-1.0, 0.9], atol=1e-12)


def test_five_joints_are_not_singular_for_being_five() -> None:
    """One direction never moves with five joints: that is no singularity to hold still at."""
    assert inverse._hold_near_singularity(np.eye(6)[:, :5]) == 0.0
    assert inverse._hold_near_singularity(np.diag([1.0, 1, 1, 1, 1, 0])) > 0.0
