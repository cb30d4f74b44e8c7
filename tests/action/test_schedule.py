import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.action.interpolate import rows_around
from vla_ros.action.schedule import Newest, TemporalEnsemble
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk

MS = 1_000_000
JOINTS = joint_channels("arm", 2)
POSE = (*tool_channels("arm"), gripper_channel("arm"))
RANGE = {"arm/gripper": (0.0, 0.08)}


def joints(stamp_ms: int, values, dt_ms: int = 100) -> ActionChunk:
    targets = np.array([[v, -v] for v in values], dtype=float)
    due = (stamp_ms + dt_ms * np.arange(1, len(targets) + 1)) * MS
    return ActionChunk(JOINTS, targets, due.astype(np.int64), stamp_ms * MS)


def poses(stamp_ms: int, rotations: list[Rotation], widths, dt_ms: int = 100) -> ActionChunk:
    rows = [[0.4, 0, 0.3, *r.as_quat(), w] for r, w in zip(rotations, widths, strict=True)]
    due = (stamp_ms + dt_ms * np.arange(1, len(rows) + 1)) * MS
    return ActionChunk(POSE, np.array(rows), due.astype(np.int64), stamp_ms * MS)


def ensemble(m: float = 0.01) -> TemporalEnsemble:
    return TemporalEnsemble(m, RANGE)


@pytest.mark.parametrize("make", [Newest, ensemble])
def test_one_chunk_is_interpolated_and_ends_at_its_last_due_time(make) -> None:
    s = make()
    assert s.sample(0) is None
    s.add(joints(0, [1.0, 2.0, 4.0]), 0)
    assert s.sample(99 * MS) is None, "nothing before the first due time"
    assert s.sample(100 * MS).values.tolist() == [1.0, -1.0]
    assert s.sample(150 * MS).values == pytest.approx([1.5, -1.5])
    assert s.sample(300 * MS).values.tolist() == [4.0, -4.0]
    assert s.sample(300 * MS + 1) is None, "nothing invented past the end"
    assert s.last_due_ns() == 300 * MS


def test_newest_wins_where_it_is_valid_and_the_elder_fills_in_before() -> None:
    s = Newest()
    s.add(joints(100, [5.0] * 5), 0)
    s.add(joints(0, [1.0] * 5), 0)  # arrives later, but was seen earlier
    assert s.sample(150 * MS).values[0] == 1.0, "the newer one is not due yet"
    assert s.sample(250 * MS).values[0] == 5.0
    assert s.sample(250 * MS).stamp_ns == 100 * MS


def test_act_weights_favour_the_oldest() -> None:
    m = 0.5
    s = ensemble(m)
    for index, value in enumerate([3.0, 5.0, 11.0]):
        s.add(joints(index * 100, [value] * 10), 0)
    w = np.exp(-m * np.arange(3))
    expected = float(w @ [3.0, 5.0, 11.0] / w.sum())
    assert s.sample(500 * MS).values[0] == pytest.approx(expected)
    assert expected < (3 + 5 + 11) / 3


def test_ensembling_is_by_due_time_and_not_by_step_number() -> None:
    """The paper's rule on a grid: at step t, prediction from step s contributes its row t - s."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 8))
    s = ensemble(0.01)
    for index, row in enumerate(rows):
        s.add(joints(index * 100, row), 0)
    for step in range(4, 9):
        predictions = [rows[i][step - i - 1] for i in range(4)]
        w = np.exp(-0.01 * np.arange(4))
        assert s.sample(step * 100 * MS).values[0] == pytest.approx(w @ predictions / w.sum())


def test_a_chunk_that_is_over_has_no_more_weight() -> None:
    s = ensemble()
    s.add(joints(0, [100.0, 100.0]), 0)
    s.add(joints(100, [1.0] * 5), 0)
    assert s.sample(200 * MS).values[0] > 40
    assert s.sample(201 * MS).values[0] == 1.0


@pytest.mark.parametrize("make", [Newest, ensemble])
def test_same_stamp_replaces_and_other_channels_start_anew(make) -> None:
    s = make()
    s.add(joints(0, [1.0] * 5), 0)
    s.add(joints(0, [2.0] * 5), 0)
    assert s.sample(200 * MS).values[0] == 2.0
    s.add(poses(0, [Rotation.identity()] * 5, [0.08] * 5), 0)
    assert s.sample(200 * MS).channels == POSE
    s.clear()
    assert s.sample(200 * MS) is None
    assert s.last_due_ns() is None


def test_orientations_are_averaged_as_rotations_across_pi() -> None:
    s = ensemble(0.0)
    s.add(poses(0, [Rotation.from_euler("z", 178, degrees=True)] * 5, [0.08] * 5), 0)
    s.add(poses(100, [Rotation.from_euler("z", -178, degrees=True)] * 5, [0.08] * 5), 0)
    got = Rotation.from_quat(s.sample(300 * MS).values[3:7])
    assert (got.inv() * Rotation.from_euler("z", 180, degrees=True)).magnitude() < 1e-9


def test_orientation_takes_the_short_way_between_rows() -> None:
    s = Newest()
    chunk = poses(0, [Rotation.from_euler("z", a, degrees=True) for a in (170, -170)], [0.08, 0.08])
    s.add(chunk, 0)
    got = Rotation.from_quat(s.sample(150 * MS).values[3:7])
    assert (got.inv() * Rotation.from_euler("z", 180, degrees=True)).magnitude() < 1e-9


@pytest.mark.parametrize("make", [Newest, ensemble])
def test_gripper_is_held_between_rows_and_never_half_open(make) -> None:
    s = make()
    s.add(poses(0, [Rotation.identity()] * 3, [0.08, 0.0, 0.0]), 0)
    assert s.sample(199 * MS).values[7] == 0.08
    assert s.sample(200 * MS).values[7] == 0.0


def test_gripper_vote_needs_a_clear_majority_to_switch() -> None:
    s = ensemble(0.0)
    r = [Rotation.identity()] * 10
    s.add(poses(0, r, [0.08] * 10), 0)
    assert s.sample(110 * MS).values[7] == 0.08
    s.add(poses(10, r, [0.0] * 10), 0)
    assert s.sample(120 * MS).values[7] == 0.08, "half against half: stays"
    s.add(poses(20, r, [0.0] * 10), 0)
    assert s.sample(130 * MS).values[7] == 0.0, "two against one: switches"
    s.add(poses(30, r, [0.08] * 10), 0)
    assert s.sample(140 * MS).values[7] == 0.0, "and stays there at half against half"


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=20, unique=True), st.integers(0, 10**9 + 5))
def test_rows_around_agrees_with_a_plain_search(due, time) -> None:
    due = np.sort(np.array(due, dtype=np.int64))
    place = rows_around(due, time)
    if not due[0] <= time <= due[-1]:
        assert place is None
        return
    row, fraction = place
    assert 0 <= fraction < 1
    following = due[row + 1] if row + 1 < len(due) else due[row]
    assert due[row] + fraction * (following - due[row]) == pytest.approx(time, abs=1)


@given(st.lists(st.tuples(st.integers(0, 8), st.lists(st.floats(-3, 3), min_size=2, max_size=9)), min_size=1))
def test_an_average_never_leaves_the_range_of_its_predictions(chunks) -> None:
    s = ensemble(0.01)
    for stamp, values in chunks:
        s.add(joints(stamp * 100, values), 0)
    low = min(min(v) for _, v in chunks)
    high = max(max(v) for _, v in chunks)
    for t in range(0, 1800, 37):
        target = s.sample(t * MS)
        if target is not None:
            assert low - 1e-9 <= target.values[0] <= high + 1e-9
