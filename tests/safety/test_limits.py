import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vla_ros.robot.config import JointLimits
from vla_ros.robot.spline import coefficients, state
from vla_ros.safety.limits import JointLimiter
from vla_ros.types import FloatArray, Motion

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
    """The control points of following `targets`; what is sent for them is looked at on the way."""
    points = [made.q, made.q, made.q]  # at rest before
    motions = []
    for index, target in enumerate(targets):
        tv = np.zeros(3) if velocities is None else velocities[index]
        made.commit(made.plan(np.asarray(target, dtype=float), tv))
        points.append(made.q)
        motions.append(made.motion())
    assert_curve_within(motions)
    return np.array(points)


def assert_curve_within(motions: list[Motion]) -> None:
    """The spline through what was sent keeps every limit at every moment, and so does every way to rest."""
    sent = np.array([[motion.q[0], motion.v[0], motion.a[0]] for motion in motions])
    assert_rows_within(np.arange(len(sent)) * DT, sent)
    for motion in motions[::7]:
        assert motion.after_s[0] == pytest.approx(DT)
        assert motion.after_s[1] == pytest.approx(2 * DT)
        assert not motion.v[-1].any()
        assert not motion.a[-1].any()
        assert_rows_within(motion.after_s, np.stack([motion.q, motion.v, motion.a], axis=1))


def assert_rows_within(times: FloatArray, rows: FloatArray) -> None:
    """rows: [P, 3, J], joined by quintics as a trajectory controller does."""
    low, high = np.array(LIMITS.position).T
    for index in range(len(times) - 1):
        span = float(times[index + 1] - times[index])
        curve = coefficients(tuple(rows[index]), tuple(rows[index + 1]), span)
        jerk = np.arange(3, 6)[:, None] * np.arange(2, 5)[:, None] * np.arange(1, 4)[:, None] * curve[3:]
        for t in (0.0, 0.3 * span, 0.5 * span, 0.8 * span, span):
            q, v, a = state(curve, t)
            assert np.all(q >= np.minimum(low, rows[0, 0]) - 1e-12)
            assert np.all(q <= np.maximum(high, rows[0, 0]) + 1e-12)
            assert np.all(np.abs(v) <= np.array(LIMITS.velocity) + 1e-8)
            assert np.all(np.abs(a) <= np.array(LIMITS.acceleration) + 1e-5)
            assert np.all(np.abs(t ** np.arange(3) @ jerk) <= np.array(LIMITS.jerk) + 2e-2)


TOLERANCE = {"position": 0.0, "velocity": 1e-9, "acceleration": 1e-6, "jerk": 1e-3}


def assert_within(positions: np.ndarray) -> None:
    for name, excess in breaks(positions).items():
        assert excess <= TOLERANCE[name], f"{name} broken by {excess}"


value = st.one_of(st.floats(-4, 4), st.sampled_from([-1e9, 1e9, 2.0, -1.0, 0.0]))


@settings(max_examples=40, deadline=None)
# One joint comes to rest sooner than the others by less than rounding.
@example(
    [
        (1, 0.0, 0.0, 0.0, 0.0),
        (45, 0.0, -3.8535912796270413, 0.0, 0.0),
        (45, 0.0, -3.1453876921696775, 0.0, -2.5157984616811877),
        (58, 0.0, 0.0, 0.0, 0.0),
        (8, 0.0, -1000000000.0, 0.0, 0.0),
        (58, 0.0, -0.625, 0.0, -0.75),
        (25, 0.0, 0.0, 0.0, 0.0),
        (23, 1.0, -1.0, 0.0, 0.0),
        (17, 0.0, 0.0, 0.0, 0.0),
    ]
)
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
    sent, motions = [made.q] * 3, []
    for _ in range(2000):
        if rng.random() < 0.3:
            made.commit(made.plan_stop())
        else:
            made.commit(made.plan(rng.choice([-1e6, 1e6], 3), np.zeros(3)))
        sent.append(made.q)
        motions.append(made.motion())
    assert_within(np.array(sent))
    assert_curve_within(motions)


def sampled(motion: Motion, ticks: int) -> FloatArray:
    """Where quintics through a motion's rows are at the first `ticks` ticks."""
    rows = np.stack([motion.q, motion.v, motion.a], axis=1)
    places = []
    for time in motion.after_s[0] + np.arange(ticks) * DT:
        after = min(int(np.searchsorted(motion.after_s, time - 1e-9)), len(rows) - 1)
        if after == 0 or time >= motion.after_s[-1]:
            places.append(rows[after, 0])
            continue
        begin, end = motion.after_s[after - 1], motion.after_s[after]
        curve = coefficients(tuple(rows[after - 1]), tuple(rows[after]), end - begin)
        places.append(state(curve, time - begin)[0])
    return np.array(places)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 40), value, value, value), min_size=1, max_size=4))
def test_the_rows_after_the_knot_are_what_stopping_would_send(segments) -> None:
    made = limiter()
    for ticks, *target in segments:
        for _ in range(ticks):
            made.commit(made.plan(np.array(target), np.zeros(3)))
    motion = made.motion()
    knots = [motion.q[0]]
    while not made.at_rest:
        made.commit(made.plan_stop())
        knots.append(made.motion().q[0])
    np.testing.assert_allclose(sampled(motion, len(knots)), knots, atol=1e-9)
    np.testing.assert_allclose(motion.q[-1], made.q, atol=1e-9)


def test_missed_ticks_leave_the_joints_where_the_way_to_rest_led() -> None:
    made = limiter()
    start = 1_700_000_000_000_000_000
    for tick in range(30):
        assert made.tick(start + tick * 10_000_000) == 0
        made.commit(made.plan(np.array([2.0, -3.0, 0.3]), np.zeros(3)))
    motion = made.motion()
    assert made.tick(start + 34 * 10_000_000 + 3_000_000) == 4
    made.commit(made.plan_stop())
    np.testing.assert_allclose(made.motion().q[0], sampled(motion, 6)[-1], atol=1e-9)
    # This tick came 3 ms late, so what is due is due 3 ms sooner.
    assert made.motion().after_s[0] == pytest.approx(0.007)
    assert made.tick(start + 86_400 * 10**9) == 1000
    assert made.at_rest


def test_all_joints_come_to_rest_together_and_where_it_was_said() -> None:
    made = limiter()
    for _ in range(25):
        made.commit(made.plan(np.array([2.0, -3.0, 0.16]), np.zeros(3)))
    direction = made.v / np.linalg.norm(made.v)
    moving = []
    while not made.at_rest:
        made.commit(made.plan_stop())
        if made.v.any():
            np.testing.assert_allclose(made.v / np.linalg.norm(made.v), direction, atol=1e-9)
        moving.append(made.v != 0)
    assert all(row.all() or not row.any() for row in moving)


def test_soft_start_bounds_the_velocity_and_only_grows() -> None:
    made = limiter()
    made.scale = 0.1
    speeds = []
    for tick in range(120):
        made.scale = min(1.0, 0.1 + tick / 100)
        made.commit(made.plan(np.array([2.0, -3.0, 0.15]), np.zeros(3)))
        speeds.append(np.abs(made.v))
        assert np.all(speeds[-1] <= made.scale * np.array(LIMITS.velocity) + 1e-12)
    assert np.max(speeds) > 1.4
    with pytest.raises(ValueError, match="in motion"):
        made.scale = 0.5
    for bad in (0.0, -1.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="share"):
            made.scale = bad
    while not made.at_rest:
        made.commit(made.plan_stop())
    made.scale = 0.5


def test_at_rest_the_knot_is_the_joint_position_itself() -> None:
    made = limiter()
    assert made.at_rest
    motion = made.motion()
    assert motion.q.tolist() == [START.tolist()] * 2
    assert not motion.v.any()
    made.commit(made.plan(START + 0.1, np.zeros(3)))
    assert not made.at_rest
    while made.v.any():
        made.commit(made.plan_stop())
    assert not made.at_rest, "the spline still moves"
    made.commit(made.plan_stop())
    made.commit(made.plan_stop())
    assert made.at_rest
    made.reset(START)
    assert made.at_rest


def test_near_a_position_limit_a_joint_is_as_slow_as_it_has_to_be() -> None:
    made = JointLimiter(LIMITS.model_copy(update={"approach": [1.0, 9.0, 0.5]}), DT)
    made.reset(START)
    for _ in range(400):
        before = made.q[0]
        made.commit(made.plan(np.array([9.0, -1.0, 0.15]), np.zeros(3)))
        # Discrete time allows half a tick's change more than v^2 = 2 a d.
        assert made.v[0] <= np.sqrt(2 * 1.0 * (2.0 - before)) + 1e-9
    assert made.q[0] == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize("rate_hz", [50, 100])
def test_a_smooth_reference_is_followed_without_lag_and_without_jerk_of_its_own(rate_hz: int) -> None:
    joints, dt = 14, 1 / rate_hz
    wide = JointLimits(
        position=[(-3, 3)] * joints,
        velocity=[2.0] * joints,
        acceleration=[8.0] * joints,
        jerk=[3000.0] * joints,
    )
    phase, speed = np.linspace(0, 6, joints), np.linspace(0.4, 1.3, joints)

    def reference(t: float) -> FloatArray:
        return 0.5 * np.sin(speed * t + phase)

    made = JointLimiter(wide, dt)
    made.reset(reference(0))
    knots, wanted, words = [], [], set()
    for tick in range(1, 12 * rate_hz):
        target, before = reference(tick * dt), reference((tick - 1) * dt)
        step = made.plan(target, (target - before) / dt)
        made.commit(step)
        if tick > rate_hz:
            words |= set(step.limits)
            knots.append(made.motion().q[0])
            wanted.append(reference((tick - 1) * dt))
    # The knot is of one period before the newest target.
    assert np.abs(np.array(knots) - wanted).max() < 2e-4
    jerk = [np.sqrt(np.mean((np.diff(run, 3, axis=0) / dt**3) ** 2)) for run in (knots, wanted)]
    assert jerk[0] <= jerk[1] * 1.02
    assert not words


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


def test_the_way_to_rest_ends_where_stopping_ends() -> None:
    made = limiter()
    for _ in range(40):
        made.commit(made.plan(np.array([2.0, -3.0, 0.3]), np.zeros(3)))
    step = made.plan(np.array([2.0, -3.0, 0.3]), np.zeros(3))
    expected = made.way_to_rest(step)
    made.commit(step)
    for place in expected:
        assert np.allclose(made.q, place, atol=1e-12)
        made.commit(made.plan_stop())
    assert np.allclose(made.q, expected[-1], atol=1e-12)


def test_half_way_to_braking_keeps_the_limits() -> None:
    made = limiter()
    rng = np.random.default_rng(0)
    points = [made.q] * 3
    for _ in range(400):
        target = rng.choice([-1e6, 1e6], 3)
        for _ in range(rng.integers(1, 20)):
            made.commit(made.slower(made.plan(target, np.zeros(3)), float(rng.uniform(0.0, 1.0))))
            points.append(made.q)
    assert_within(np.array(points))
