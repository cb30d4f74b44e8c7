import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import CubicSpline
from scipy.linalg import expm, logm
from scipy.spatial.transform import Rotation, Slerp

from tests.action.chunks import JOINTS, MS, POSE, chunk
from vla_ros.action.interpolate import INTERPOLATIONS, Curve, columns_of
from vla_ros.robot.channels import joint_channels, tool_channels
from vla_ros.types import ActionChunk

SEEDS = st.integers(0, 2**32 - 1)


def curve(c: ActionChunk, interpolation: str) -> Curve:
    return Curve(c, columns_of(c.channels), interpolation)


def pose_chunk(rotations: Rotation, positions: np.ndarray | None = None, dt_ms: float = 100) -> ActionChunk:
    n = len(rotations)
    positions = np.zeros((n, 3)) if positions is None else positions
    quaternions = rotations.as_quat() * np.random.default_rng(n).choice(
        [-1, 1], (n, 1)
    )  # both signs are right
    return chunk(POSE, np.column_stack([positions, quaternions, np.zeros(n)]), 0, dt_ms)


def angle(first: Rotation, second: Rotation) -> float:
    return float(np.max((first.inv() * second).magnitude()))


def rotation_at(c: Curve, ms: float) -> Rotation:
    return Rotation.from_quat(c.at(round(ms * MS))[3:7])


def walk(rng: np.random.Generator, n: int, widest: float) -> Rotation:
    """n rotations, each up to `widest` rad from the one before."""
    axes = rng.normal(size=(n, 3))
    steps = axes / np.linalg.norm(axes, axis=1, keepdims=True) * rng.uniform(0, widest, (n, 1))
    found = [Rotation.random(random_state=int(rng.integers(2**31)))]
    for step in steps[1:]:
        found.append(found[-1] * Rotation.from_rotvec(step))
    return Rotation.concatenate(found)


def test_columns_are_found_by_name() -> None:
    found = columns_of((*tool_channels("left"), "left/gripper", *joint_channels("right", 2), "right/gripper"))
    assert found.positions == (slice(0, 3),)
    assert found.orientations == (slice(3, 7),)
    assert found.grippers.tolist() == [7, 10]


@settings(max_examples=30)
@given(SEEDS, st.sampled_from(INTERPOLATIONS), st.integers(1, 20), st.floats(0.0, 3.1))
def test_rows_are_met_exactly_when_they_are_due(seed, interpolation, n, widest) -> None:
    rng = np.random.default_rng(seed)
    c = pose_chunk(walk(rng, n, widest), rng.normal(size=(n, 3)))
    k = curve(c, interpolation)
    for row, due in enumerate(c.due_ns.tolist()):
        got = k.at(due)
        assert got[:3].tolist() == c.targets[row, :3].tolist()
        assert angle(Rotation.from_quat(got[3:7]), Rotation.from_quat(c.targets[row, 3:7])) < 1e-7
    for due in c.due_ns[1:].tolist():  # and continuously
        assert k.at(due - 1)[:3] == pytest.approx(k.at(due)[:3], abs=1e-6)
        assert np.abs(k.at(due - 1)[3:7] @ k.at(due)[3:7]) == pytest.approx(1, abs=1e-9)


@given(SEEDS, st.integers(2, 30), st.floats(0, 1))
def test_joints_agree_with_scipy(seed, n, share) -> None:
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.integers(1, 300, n)) * MS
    c = ActionChunk(JOINTS, rng.normal(size=(n, 2)), due, 0)
    t = round(due[0] + share * (due[-1] - due[0]))
    cubic = CubicSpline(due / 1e9, c.targets)(t / 1e9)
    assert curve(c, "cubic").at(t) == pytest.approx(cubic, rel=1e-5, abs=1e-6)
    linear = [np.interp(t, due, column) for column in c.targets.T]
    assert curve(c, "linear").at(t) == pytest.approx(linear, abs=1e-9)
    assert curve(c, "screw").at(t) == pytest.approx(linear, abs=1e-9)


@settings(max_examples=30)
@given(SEEDS, st.floats(0, 3.1), st.floats(0, 1))
def test_linear_orientation_agrees_with_scipys_slerp(seed, widest, share) -> None:
    rotations = walk(np.random.default_rng(seed), 6, widest)
    expected = Slerp(100.0 * np.arange(1, 7), rotations)(100 + 500 * share)
    assert angle(rotation_at(curve(pose_chunk(rotations), "linear"), 100 + 500 * share), expected) < 1e-6


def test_cubic_has_no_step_in_velocity_or_acceleration() -> None:
    rng = np.random.default_rng(4)
    c = pose_chunk(walk(rng, 12, 0.5), rng.normal(size=(12, 3)))
    k = curve(c, "cubic")
    h = 100_000  # ns
    # A step in velocity of 1/s would show as 1e-4 here, one in acceleration of 100/s^2 as 1e-6.
    for due in c.due_ns[1:-1].tolist():
        at = np.array([k.at(due + i * h)[:7] for i in range(-4, 5)])
        assert np.abs(np.diff(at, 3, axis=0)).max() < 2e-7
    kinked = curve(c, "linear")
    at = np.array([kinked.at(int(c.due_ns[5]) + i * h)[:7] for i in range(-4, 5)])
    assert np.abs(np.diff(at, 3, axis=0)).max() > 1e-4, "the check sees a kink"


def test_long_turns_at_a_constant_rate_are_met_through_pi_and_beyond_a_full_turn() -> None:
    step = 0.4
    axis = np.array([0.6, 0.0, 0.8])
    turned = lambda rows: Rotation.from_rotvec(np.multiply.outer(np.asarray(rows) * step, axis))  # noqa: E731
    k = curve(pose_chunk(turned(np.arange(1, 41))), "cubic")  # 16 rad: two and a half turns
    for row in np.linspace(3, 38, 77):
        assert angle(rotation_at(k, 100 * row), turned(row)) < (step / 2) ** 4 / 384 * 3
    assert angle(rotation_at(k, 810), turned(8.1)) < 1e-4, "past pi / 0.4 = 7.85 rows"


@settings(max_examples=30)
@given(SEEDS, st.floats(0, 1.5))
def test_cubic_orientation_stays_by_its_rows_and_is_the_same_in_every_frame(seed, widest) -> None:
    rng = np.random.default_rng(seed)
    rotations = walk(rng, 8, widest)
    base, tool = walk(rng, 2, 3.0)
    here, there = curve(pose_chunk(rotations), "cubic"), curve(pose_chunk(base * rotations * tool), "cubic")
    straight = curve(pose_chunk(rotations), "linear")
    for ms in rng.uniform(100, 800, 8):
        got = rotation_at(here, ms)
        assert angle(base * got * tool, rotation_at(there, ms)) < 1e-6
        assert angle(got, rotation_at(straight, ms)) < widest + 1e-6


def test_rows_too_far_apart_for_a_spline_of_turns_are_joined_by_slerp() -> None:
    rotations = walk(np.random.default_rng(5), 8, 3.1)
    cubic, linear = (curve(pose_chunk(rotations), kind) for kind in ("cubic", "linear"))
    assert max(angle(rotation_at(cubic, ms), rotation_at(linear, ms)) for ms in range(100, 800, 7)) < 1e-9


@settings(max_examples=30)
@given(SEEDS, st.sampled_from([0.0, 1e-9, 1e-4, 0.3, 1.5, 3.0]), st.floats(0, 1))
def test_screw_agrees_with_the_matrix_exponential(seed, widest, share) -> None:
    rng = np.random.default_rng(seed)
    rotations, positions = walk(rng, 3, widest), rng.normal(size=(3, 3))
    k = curve(pose_chunk(rotations, positions), "screw")
    poses = np.tile(np.eye(4), (3, 1, 1))
    poses[:, :3, :3], poses[:, :3, 3] = rotations.as_matrix(), positions
    for row in range(2):
        way = np.real(logm(poses[row + 1] @ np.linalg.inv(poses[row])))
        expected = expm(share * way) @ poses[row]
        ms = 100 * (row + 1 + share)
        assert k.at(round(ms * MS))[:3] == pytest.approx(expected[:3, 3], abs=1e-5)
        assert angle(rotation_at(k, ms), Rotation.from_matrix(expected[:3, :3])) < 1e-5


def test_anchors_over_seconds_give_a_smooth_motion() -> None:
    """X-VLA's: 30 anchors over 4 s."""
    c = chunk(JOINTS, np.zeros((30, 2)), 0, 4000 / 30)
    motion = np.sin(c.due_ns / 1e9)
    k = curve(ActionChunk(c.channels, np.column_stack([motion, -motion]), c.due_ns, 0), "cubic")
    times = np.arange(c.due_ns[0], c.due_ns[-1], 10 * MS)
    got = np.array([k.at(int(t))[0] for t in times])
    assert got == pytest.approx(np.sin(times / 1e9), abs=2e-5)
    assert np.abs(np.diff(got, 3)).max() / 0.01**3 < 2.0


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_grippers_are_held_and_nothing_is_extrapolated(interpolation: str) -> None:
    rotations = walk(np.random.default_rng(6), 5, 0.3)
    c = pose_chunk(rotations)
    c.targets[:, 7] = [0.08, 0.0, 0.0, 0.08, 0.0]
    k = curve(c, interpolation)
    assert [k.at(ms * MS)[7] for ms in (100, 199, 200, 399, 400, 499, 500)] == [
        0.08,
        0.08,
        0,
        0,
        0.08,
        0.08,
        0,
    ]
    for outside in (100 * MS - 1, 500 * MS + 1):
        assert not k.covers(outside)
        with pytest.raises(ValueError, match="lies outside"):
            k.at(outside)


def test_the_chunk_itself_is_not_touched() -> None:
    c = pose_chunk(walk(np.random.default_rng(7), 5, 0.3))
    before = c.targets.copy()
    k = curve(c, "cubic")
    k.at(100 * MS)[:] = 9.0
    k.at(150 * MS)[:] = 9.0
    assert c.targets.tolist() == before.tolist()
    assert k.at(100 * MS)[:3].tolist() == before[0, :3].tolist()
