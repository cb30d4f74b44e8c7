import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.action.chunks import JOINTS, MS, POSE, RANGE, chunk, joints, poses
from vla_ros.action.schedule import MODES, Scheduler, make_scheduler
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.types import ActionChunk

BLENDING = ("crossfade", "ensemble")


def make(mode: str, m: float = 0.01, interpolation: str = "linear") -> Scheduler:
    return make_scheduler(mode, RANGE, m, interpolation)


def value(scheduler: Scheduler, time_ms: float) -> float:
    target = scheduler.sample(round(time_ms * MS))
    assert target is not None
    return float(target.values[0])


def test_unknown_words_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="mode: found 'best'; expected one of sync, newest"):
        make_scheduler("best", RANGE)
    with pytest.raises(ValueError, match="interpolation: found 'spline'; expected one of linear, cubic"):
        make_scheduler("newest", RANGE, interpolation="spline")
    with pytest.raises(ValueError, match="m must be a number"):
        make_scheduler("ensemble", RANGE, m=float("nan"))


@pytest.mark.complaint("lerobot 1500", "lerobot 1557", "lerobot 2356")
@pytest.mark.parametrize("mode", MODES)
def test_one_chunk_is_executed_to_its_end_and_then_there_is_no_target(mode: str) -> None:
    s = make(mode)
    assert s.sample(0) is None
    # Arrives just when its first row is due, so that sync does not move it.
    s.add(joints(0, [1.0, 2.0, 4.0]), 100 * MS)
    assert s.sample(99 * MS) is None, "nothing before the first due time"
    assert s.sample(100 * MS).values.tolist() == [1.0, -1.0]
    assert s.sample(150 * MS).values == pytest.approx([1.5, -1.5])
    assert s.sample(300 * MS).values.tolist() == [4.0, -4.0]
    assert s.sample(300 * MS + 1) is None, "nothing invented past the end"


@pytest.mark.parametrize("mode", MODES)
def test_the_last_due_time_is_told_until_chunks_are_cleared(mode: str) -> None:
    s = make(mode)
    assert s.last_due_ns() is None
    s.add(joints(0, [1.0, 2.0, 4.0]), 100 * MS)
    assert s.last_due_ns() == 300 * MS
    s.clear()
    assert s.last_due_ns() is None
    assert s.sample(200 * MS) is None


@pytest.mark.parametrize("interpolation", ["linear", "cubic", "screw"])
@pytest.mark.parametrize("mode", MODES)
def test_a_base_s_velocities_are_columns_like_joints(mode: str, interpolation: str) -> None:
    """The same numbers give the same targets, whatever they are called; and so beside an arm's tool."""
    rows = np.random.default_rng(0).normal(size=(6, 2))
    found = []
    for names in (JOINTS, BASE_CHANNELS, (*POSE, *BASE_CHANNELS)):
        pose = np.tile([0.4, 0, 0.3, 0, 0, 0, 1, 0.08], (6, 1))[:, : len(names) - 2]
        s = make(mode, interpolation=interpolation)
        seen = []
        for ms in range(100, 500, 25):
            if ms in (100, 250):
                s.add(chunk(names, np.column_stack([pose, rows * ms]), ms - 100, 100), ms * MS)
            target = s.sample(ms * MS)
            seen.append(None if target is None else target.values[-2:].tolist())
        found.append(seen)
    assert any(found[0])
    assert found[1] == found[0]
    assert found[2] == found[0]


# sync


def test_in_sync_a_chunk_begins_when_it_arrives_and_loses_no_row() -> None:
    s = make("sync")
    late = joints(0, [1.0, 2.0, 3.0])
    assert s.sample(1050 * MS) is None, "the command looks 50 ms ahead"
    assert s.timed(late, 1000 * MS).due_ns.tolist() == [1050 * MS, 1150 * MS, 1250 * MS]
    s.add(late, 1000 * MS)
    assert [value(s, t) for t in (1050, 1150, 1250)] == [1.0, 2.0, 3.0]
    assert s.sample(1251 * MS) is None


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "sync"])
def test_other_modes_keep_due_times(mode: str) -> None:
    c = joints(0, [1.0, 2.0])
    assert make(mode).timed(c, 500 * MS) is c


# newest


def test_newest_wins_where_it_is_valid_and_the_elder_fills_in_before() -> None:
    s = make("newest")
    s.add(joints(100, [5.0] * 5), 0)
    s.add(joints(0, [1.0] * 5), 0)  # arrives later, but was seen earlier
    assert value(s, 150) == 1.0, "the newer one is not due yet"
    assert value(s, 250) == 5.0
    assert s.sample(250 * MS).stamp_ns == 100 * MS


# crossfade


def test_crossfade_takes_as_long_as_chunks_take_to_follow_each_other() -> None:
    s = make("crossfade")
    s.add(joints(0, [0.0] * 20), 0)
    value(s, 400)
    s.add(joints(300, [1.0] * 20), 400 * MS)  # 400 ms after the first
    assert [value(s, t) for t in (400, 500, 600, 800, 900)] == pytest.approx([0, 0.25, 0.5, 1, 1])


def test_crossfade_is_over_before_the_old_chunk_ends() -> None:
    s = make("crossfade")
    s.add(joints(0, [0.0] * 5), 0)
    value(s, 400)
    s.add(joints(300, [1.0] * 20), 400 * MS)
    assert [value(s, t) for t in (450, 500, 501)] == pytest.approx([0.5, 1, 1])


# ensemble


def test_act_weights_favour_the_oldest() -> None:
    m = 0.5
    s = make("ensemble", m)
    # Of long chunks, in the middle of their lives, where none of them fades.
    for index, v in enumerate([3.0, 5.0, 11.0]):
        s.add(joints(index * 100, [v] * 100), index * 100 * MS)
    w = np.exp(-m * np.arange(3))
    expected = float(w @ [3.0, 5.0, 11.0] / w.sum())
    assert value(s, 5200) == pytest.approx(expected)
    assert expected < (3 + 5 + 11) / 3


def test_ensembling_is_by_due_time_and_not_by_step_number() -> None:
    """The paper's rule on a grid: at step t, prediction from step s contributes its row t - s."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 80))
    s = make("ensemble")
    for index, row in enumerate(rows):
        s.add(joints(index * 100, row), index * 100 * MS)
    for step in range(38, 46):
        predictions = [rows[i][step - i - 1] for i in range(4)]
        w = np.exp(-0.01 * np.arange(4))
        assert value(s, step * 100) == pytest.approx(w @ predictions / w.sum())


def test_shares_stay_finite_and_right_after_very_many_chunks() -> None:
    m = 10.0
    s = make("ensemble", m)
    for index in range(200):
        s.add(joints(index * 100, [float(index)] * 6), index * 100 * MS)
        got = value(s, index * 100 + 100)
    assert got == pytest.approx(199 - 4, abs=0.01), "the oldest that is not just ending counts alone"


@pytest.mark.complaint("openpi 393", "GR00T 285", "GR00T 114", "X-VLA 38")
def test_commands_accelerate_smoothly_while_chunks_come_and_go() -> None:
    """Two chunks 1 rad apart: the way from one to the other is the minimum-jerk curve over the overlap."""
    s = make("ensemble", m=0.0)
    s.add(joints(0, [0.0] * 12), 0)
    value(s, 800)
    s.add(joints(700, [1.0] * 20), 800 * MS)
    times = np.arange(800, 1240, 4)
    got = np.array([value(s, t) for t in times])
    x = np.clip((times - 800) / 400, 0, 1)
    assert got == pytest.approx(10 * x**3 - 15 * x**4 + 6 * x**5, abs=1e-9)


@pytest.mark.complaint("lerobot 4223", "lerobot 4454", "lerobot 2541")
@pytest.mark.parametrize("mode", [*BLENDING, "newest"])
def test_targets_do_not_depend_on_how_long_inference_took(mode: str) -> None:
    """Chunks that agree give their common motion, whatever their latency was: none is known or assumed."""
    rng = np.random.default_rng(1)
    motion = lambda ms: np.sin(np.asarray(ms) / 400.0)  # noqa: E731
    s = make(mode, interpolation="cubic")
    arrivals = sorted((100.0 * k + rng.uniform(0, 700), 100.0 * k) for k in range(40))
    waiting = list(arrivals)
    for t in range(800, 3800, 10):
        while waiting and waiting[0][0] <= t:
            at, stamp = waiting.pop(0)
            s.add(joints(stamp, motion(stamp + 50.0 * np.arange(1, 41)), dt_ms=50), round(at * MS))
        assert value(s, t) == pytest.approx(float(motion(t)), abs=1e-4)


@pytest.mark.complaint("lerobot 4580")
@pytest.mark.parametrize("mode", BLENDING)
def test_relative_chunks_of_different_poses_agree_where_they_overlap(mode: str) -> None:
    """Two chunks relative to two tool poses, for one path in space: absolute since decoding, they overlap."""
    time = np.arange(1, 21) * 0.1
    path = lambda t: (  # noqa: E731
        np.column_stack([0.4 + 0.1 * t, 0.05 * t**2, 0.3 + 0 * t]),
        Rotation.from_euler("zy", np.column_stack([0.8 * t, 0.3 * t])),
    )
    s = make(mode, interpolation="cubic")
    for stamp in (0.0, 0.3):
        (origin,), frame = path(np.array([stamp]))
        position, rotation = path(stamp + time)
        relative = frame.inv().apply(position - origin), frame.inv() * rotation
        absolute = frame.apply(relative[0]) + origin, frame * relative[1]
        rows = np.column_stack([absolute[0], absolute[1].as_quat(), np.full(20, 0.08)])
        s.add(chunk(POSE, rows, 1e3 * stamp, 100), round((stamp + 0.15) * 1e9))
    for t in np.arange(0.5, 2.0, 0.037):
        got = s.sample(round(t * 1e9)).values
        (position,), rotation = path(np.array([t]))
        assert got[:3] == pytest.approx(position, abs=1e-4)
        assert (Rotation.from_quat(got[3:7]).inv() * rotation).magnitude() < 1e-3


# what all have in common


@pytest.mark.parametrize("mode", MODES)
def test_same_stamp_replaces_and_other_channels_start_anew(mode: str) -> None:
    s = make(mode)
    s.add(joints(0, [1.0] * 5), 0)
    s.add(joints(0, [2.0] * 5), 0)
    assert value(s, 200) == 2.0
    s.add(poses(0, [Rotation.identity()] * 5, [0.08] * 5), 200 * MS)
    assert s.sample(300 * MS).channels == POSE


def test_orientations_are_averaged_as_rotations_across_pi() -> None:
    s = make("ensemble", 0.0)
    # Halfway of the overlap both count the same.
    s.add(poses(0, [Rotation.from_euler("z", 178, degrees=True)] * 12, [0.08] * 12), 0)
    s.sample(800 * MS)
    s.add(poses(700, [Rotation.from_euler("z", -178, degrees=True)] * 20, [0.08] * 20), 800 * MS)
    got = Rotation.from_quat(s.sample(1000 * MS).values[3:7])
    assert (got.inv() * Rotation.from_euler("z", 180, degrees=True)).magnitude() < 1e-9


@pytest.mark.parametrize("mode", MODES)
def test_gripper_is_held_between_rows_and_never_half_open(mode: str) -> None:
    s = make(mode, interpolation="cubic")
    s.add(poses(0, [Rotation.identity()] * 3, [0.08, 0.0, 0.0]), 100 * MS)
    assert s.sample(199 * MS).values[7] == 0.08
    assert s.sample(200 * MS).values[7] == 0.0


def test_gripper_vote_needs_a_clear_majority_to_switch() -> None:
    s = make("ensemble", 0.0)
    r = [Rotation.identity()] * 10
    s.add(poses(0, r, [0.08] * 10), 0)
    assert s.sample(110 * MS).values[7] == 0.08
    s.add(poses(10, r, [0.0] * 10), 0)
    assert s.sample(120 * MS).values[7] == 0.08, "half against half: stays"
    s.add(poses(20, r, [0.0] * 10), 0)
    assert s.sample(130 * MS).values[7] == 0.0, "two against one: switches"
    s.add(poses(30, r, [0.08] * 10), 0)
    assert s.sample(140 * MS).values[7] == 0.0, "and stays there at half against half"


def test_gripper_of_a_crossfade_changes_sides_once() -> None:
    s = make("crossfade")
    r = [Rotation.identity()] * 20
    s.add(poses(0, r, [0.08] * 20), 0)
    s.sample(500 * MS)
    s.add(poses(400, r, [0.0] * 20), 500 * MS)
    widths = [float(s.sample(t * MS).values[7]) for t in range(500, 1010, 10)]
    assert set(widths) == {0.0, 0.08}
    changes = [
        t for t, (a, b) in zip(range(510, 1010, 10), itertools.pairwise(widths), strict=True) if a != b
    ]
    assert changes == [810], "beyond 60 % of 500 ms"


def test_a_gripper_without_a_range_is_named() -> None:
    s = make_scheduler("newest", {})
    s.add(poses(0, [Rotation.identity()] * 2, [0.0] * 2), 0)
    with pytest.raises(ValueError, match="no range is known for gripper 'arm/gripper'"):
        s.sample(100 * MS)


ARRIVALS = st.lists(
    st.tuples(
        st.integers(0, 1500),  # arrival, ms
        st.integers(-300, 900),  # age on arrival, ms; below 0 it is stamped ahead
        st.integers(1, 12),  # rows
        st.sampled_from([20, 50, 130]),  # ms between rows
        st.floats(-1, 1),
    ),
    min_size=1,
    max_size=12,
)


def arriving(arrivals) -> list[tuple[int, ActionChunk]]:
    return [(at, joints(at - age, [v] * n, dt)) for at, age, n, dt, v in sorted(arrivals)]


@pytest.mark.complaint("openpi 393", "GR00T 285", "GR00T 114", "X-VLA 38")
@settings(max_examples=100)
@example([(0, 1, 4, 130, 1.0), (2, -268, 5, 50, 0.0), (133, -126, 3, 130, 0.0)], "crossfade")
@example(
    [(0, 0, 1, 20, 0.0), (2, 87, 5, 130, 1.0), (218, -1, 3, 130, 0.0), (564, 650, 6, 130, 0.0)], "crossfade"
)
@given(ARRIVALS, st.sampled_from(BLENDING))
def test_neither_coming_nor_going_makes_a_step(arrivals, mode: str) -> None:
    """Late, early, reordered, of any length and rate: a chunk's coming changes nothing at that time, nor does
    one's end, as long as one goes on that was there before."""
    s = make(mode)
    there: list[ActionChunk] = []
    asked = -1
    for at, c in arriving(arrivals):
        if any(c.stamp_ns == other.stamp_ns for other in there):
            continue
        _pass_edges(s, there, asked, at * MS)
        before = s.sample(at * MS)
        s.add(c, at * MS)
        after = s.sample(at * MS)
        if before is not None and any(o.due_ns[0] <= at * MS < o.due_ns[-1] for o in there):
            assert after.values == pytest.approx(before.values, abs=1e-9)
        there.append(c)
        asked = at * MS
    _pass_edges(s, there, asked, 5000 * MS)


def _pass_edges(s: Scheduler, chunks: list[ActionChunk], after_ns: int, until_ns: int) -> None:
    """Sample at each chunk's first and last due time in between, and a nanosecond later."""
    for edge in sorted({int(t) for c in chunks for t in (c.due_ns[0], c.due_ns[-1])}):
        if after_ns < edge < until_ns - 1:
            first, second = s.sample(edge), s.sample(edge + 1)
            if any(c.due_ns[0] < edge < c.due_ns[-1] for c in chunks):
                assert second.values == pytest.approx(first.values, abs=1e-5)


@settings(max_examples=100)
@given(ARRIVALS, st.sampled_from(MODES), st.lists(st.integers(-2000, 4000), max_size=20))
def test_no_order_of_events_is_fatal_and_nothing_leaves_the_range_of_the_chunks(
    arrivals, mode, times
) -> None:
    """Reversed stamps, duplicates, a clock that steps back: a target is always between the chunks'."""
    s = make(mode)
    chunks = arriving(arrivals)
    low, high = min(c.targets[:, 0].min() for _, c in chunks), max(c.targets[:, 0].max() for _, c in chunks)
    for (at, c), time in itertools.zip_longest(
        chunks + chunks[::-1], times[: 2 * len(chunks)], fillvalue=None
    ):
        if time is None:
            time = at
        s.add(c, time * MS)
        s.add(c, at * MS)
        for t in (time, at, time - 1, at + 100):
            target = s.sample(t * MS)
            assert target is None or low - 1e-9 <= target.values[0] <= high + 1e-9


@pytest.mark.complaint("lerobot 1500", "lerobot 1557", "lerobot 2356")
@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "sync"])
def test_a_target_is_there_whenever_some_chunk_covers_the_time(mode: str) -> None:
    """No queue that runs empty or fills up: coverage alone decides."""
    rng = np.random.default_rng(3)
    s = make(mode)
    there: list[ActionChunk] = []
    now = 0.0
    for _ in range(60):
        c = joints(now - rng.uniform(0, 600), rng.normal(size=rng.integers(2, 9)), dt_ms=rng.uniform(30, 200))
        s.add(c, round(now * MS))
        there.append(c)
        for t in np.arange(now, now + 300, 10):
            time = round(t * MS)
            covered = any(c.due_ns[0] <= time <= c.due_ns[-1] for c in there)
            assert (s.sample(time) is not None) == covered
        now += 300


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 8), st.lists(st.floats(-3, 3), min_size=2, max_size=9)), min_size=1))
def test_an_average_never_leaves_the_range_of_its_predictions(chunks) -> None:
    s = make("ensemble")
    for stamp, values in chunks:
        s.add(joints(stamp * 100, values), 0)
    low = min(min(v) for _, v in chunks)
    high = max(max(v) for _, v in chunks)
    for t in range(0, 1800, 37):
        target = s.sample(t * MS)
        if target is not None:
            assert low - 1e-9 <= target.values[0] <= high + 1e-9
