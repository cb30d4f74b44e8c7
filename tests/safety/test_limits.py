import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.robot.config import Box, JointLimits
from vla_ros.safety.limits import JointLimiter, ToolSpeed, into_box, outside_box

DT = 0.01
LIMITS = JointLimits(
    position=[(-1.0, 2.0), (-3.0481, -0.1458), (0.0, 0.3)],
    velocity=[1.5, 2.0, 0.7],
    acceleration=[7.0, 9.0, 0.5],
    jerk=[3000.0, 1000.0, 40.0],
)
START = np.array([0.0, -1.0, 0.15])


def limiter(start=START) -> JointLimiter:
    made = JointLimiter(LIMITS, DT)
    made.reset(start)
    return made


def breaks(positions: np.ndarray) -> dict[str, float]:
    """By how much a run of sent positions [N, J] exceeds each limit, from its finite differences."""
    limits = np.array(LIMITS.position)
    v = np.diff(positions, axis=0) / DT
    a = np.diff(v, axis=0) / DT
    j = np.diff(a, axis=0) / DT
    return {
        "position": float(np.max(np.maximum(limits[:, 0] - positions, positions - limits[:, 1]))),
        "velocity": float(np.max(np.abs(v) - LIMITS.velocity)),
        "acceleration": float(np.max(np.abs(a) - LIMITS.acceleration)),
        "jerk": float(np.max(np.abs(j) - LIMITS.jerk)),
    }


def run(made: JointLimiter, targets, velocities=None) -> np.ndarray:
    sent = [made.q, made.q, made.q]  # at rest before
    for index, target in enumerate(targets):
        tv = np.zeros(3) if velocities is None else velocities[index]
        made.commit(made.plan(np.asarray(target, dtype=float), tv))
        sent.append(made.q)
    return np.array(sent)


TOLERANCE = {"position": 0.0, "velocity": 1e-9, "acceleration": 1e-6, "jerk": 1e-3}


def assert_within(positions: np.ndarray) -> None:
    for name, excess in breaks(positions).items():
        assert excess <= TOLERANCE[name], f"{name} broken by {excess}"


value = st.one_of(st.floats(-4, 4), st.sampled_from([-1e9, 1e9, 2.0, -1.0, 0.0]))


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 60), value, value, value, value), min_size=1, max_size=12))
def test_no_run_of_targets_and_target_velocities_breaks_a_limit(segments) -> None:
    targets, velocities = [], []
    for ticks, x, y, z, speed in segments:
        targets += [np.array([x, y, z])] * ticks
        velocities += [np.array([speed, -speed, speed])] * ticks
    assert_within(run(limiter(), targets, velocities))


def test_stopping_at_any_moment_breaks_no_limit() -> None:
    rng = np.random.default_rng(0)
    made = limiter()
    sent = [made.q] * 3
    for _ in range(3000):
        if rng.random() < 0.3:
            made.commit(made.plan_stop())
        else:
            made.commit(made.plan(rng.choice([-1e6, 1e6], 3), np.zeros(3)))
        sent.append(made.q)
    assert_within(np.array(sent))


def test_a_moving_target_is_followed_exactly_once_caught() -> None:
    t = np.arange(300) * DT
    targets = START + 0.1 * np.sin(2 * t)[:, None] * [1, 1, 0.2]
    velocities = 0.2 * np.cos(2 * t)[:, None] * [1, 1, 0.2]
    sent = run(limiter(), targets, velocities)[3:]
    assert np.max(np.abs(sent - targets)[50:]) < 1e-3
    assert_within(sent)


def test_a_step_is_approached_without_overshoot_and_reached() -> None:
    goal = np.array([1.5, -0.5, 0.25])
    sent = run(limiter(), [goal] * 600)
    assert np.all(sent <= goal + 1e-12)
    assert np.allclose(sent[-1], goal, atol=1e-9)


def test_the_position_limit_is_reached_and_not_crossed() -> None:
    sent = run(limiter(), [[9.0, 9.0, 9.0]] * 800)
    assert np.allclose(sent[-1], [2.0, -0.1458, 0.3], atol=1e-9)


def test_a_joint_that_starts_outside_moves_back_smoothly_and_never_further_out() -> None:
    made = limiter(np.array([2.1, -1.0, 0.15]))
    sent = run(made, [[5.0, -1.0, 0.15]] * 50 + [[0.0, -1.0, 0.15]] * 500)
    assert sent[:, 0].max() == 2.1
    assert np.abs(np.diff(sent[:, 0])).max() <= 1.5 * DT + 1e-12
    assert sent[-1, 0] == pytest.approx(0.0, abs=1e-9)


def test_words_name_the_limit_that_changed_the_command() -> None:
    made = limiter()
    assert made.plan(START, np.zeros(3)).limits == ()
    assert "position" in made.plan(np.array([5.0, -1, 0.15]), np.zeros(3)).limits
    assert "velocity" in made.plan(np.array([1.9, -1, 0.15]), np.full(3, 0.0)).limits
    assert "acceleration" in made.plan(START + np.array([0.01, 0, 0]), np.zeros(3)).limits


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_target_that_is_no_number_is_an_error(bad) -> None:
    with pytest.raises(ValueError, match="not a number"):
        limiter().plan(np.array([bad, 0, 0]), np.zeros(3))


def test_tool_speed_is_kept_and_the_wish_still_steers() -> None:
    """A planar three-joint arm: the tool's speed by finite differences of its forward kinematics."""
    lengths = np.array([0.4, 0.3, 0.2])

    def tool(q):
        a = np.cumsum(q)
        return np.array([np.sum(lengths * np.cos(a)), np.sum(lengths * np.sin(a))])

    def jacobian(q):
        J = np.zeros((6, 3))
        for joint in range(3):
            h = np.zeros(3)
            h[joint] = 1e-6
            J[:2, joint] = (tool(q + h) - tool(q - h)) / 2e-6
            J[5, joint] = 1.0
        return J

    wide = JointLimits(position=[(-3, 3)] * 3, velocity=[2.0] * 3, acceleration=[8.0] * 3, jerk=[5000.0] * 3)
    made = JointLimiter(wide, DT)
    made.reset(np.zeros(3))
    rng = np.random.default_rng(1)
    speed = ToolSpeed(linear=0.3, angular=1.0)
    places, angles = [tool(made.q)], [0.0]
    for _ in range(300):
        target = rng.uniform(-2.5, 2.5, 3)
        for _ in range(rng.integers(5, 80)):
            made.commit(made.plan(target, np.zeros(3), jacobian(made.q), speed))
            places.append(tool(made.q))
            angles.append(made.q.sum())
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() / DT < 0.3 * 1.02
    assert np.abs(np.diff(angles)).max() / DT < 1.0 * 1.02
    for _ in range(3000):
        made.commit(made.plan(np.array([1.0, -0.5, 0.7]), np.zeros(3), jacobian(made.q), speed))
    assert np.allclose(made.q, [1.0, -0.5, 0.7], atol=1e-6)


def test_resting_place_is_where_stopping_ends() -> None:
    made = limiter()
    for _ in range(40):
        made.commit(made.plan(np.array([2.0, -3.0, 0.3]), np.zeros(3)))
    step = made.plan(np.array([2.0, -3.0, 0.3]), np.zeros(3))
    expected = made.resting_place(step)
    made.commit(step)
    while not made.at_rest:
        made.commit(made.plan_stop())
    assert np.allclose(made.q, expected, atol=1e-12)


def test_box() -> None:
    box = Box(min=(0.1, -0.2, 0.0), max=(0.5, 0.2, 0.4))
    assert into_box(np.array([0.9, 0.0, -1.0]), box).tolist() == [0.5, 0.0, 0.0]
    assert outside_box(np.array([0.3, 0.0, 0.1]), box) == 0.0
    assert outside_box(np.array([0.5, 0.0, -0.3]), box) == pytest.approx(0.3)
