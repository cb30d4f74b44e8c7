import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from vla_ros.action import rotations
from vla_ros.action.euler import ORDERS
from vla_ros.errors import Refused

LAYOUTS = ("columns", "columns_interleaved", "rows")

axis = st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda v: np.linalg.norm(v) > 0.1)
# Angles near 0 and near a half turn, where conversions lose their digits, as often as any other.
angle = st.one_of(
    st.floats(-np.pi, np.pi),
    st.sampled_from([0.0, 1e-12, 1e-9, 1e-5, np.pi, np.pi - 1e-12, np.pi - 1e-9, np.pi - 1e-5, -np.pi]),
)


@st.composite
def rotation(draw) -> Rotation:
    a = np.array(draw(axis))
    return Rotation.from_rotvec(a / np.linalg.norm(a) * draw(angle))


def apart(first: Rotation, second: Rotation) -> float:
    return float((first.inv() * second).magnitude())


@given(rotation())
def test_quaternion_and_matrix_agree_with_scipy(r: Rotation) -> None:
    R = r.as_matrix()
    q = rotations.matrix_to_quaternion(R)
    assert q[3] >= 0
    assert np.linalg.norm(q) == pytest.approx(1, abs=1e-12)
    assert apart(Rotation.from_quat(q), r) < 1e-9
    assert np.allclose(rotations.quaternion_to_matrix(r.as_quat()), R, atol=1e-12)
    assert np.allclose(rotations.quaternion_to_matrix(q), R, atol=1e-9)


@given(rotation(), st.sampled_from(LAYOUTS))
def test_rot6d_round_trip(r: Rotation, layout) -> None:
    R = r.as_matrix()
    assert np.allclose(rotations.rot6d_to_matrix(rotations.matrix_to_rot6d(R, layout), layout), R, atol=1e-9)


def test_rot6d_layouts_are_the_documented_ones() -> None:
    R = Rotation.from_euler("xyz", [0.3, -0.5, 0.9]).as_matrix()
    assert rotations.matrix_to_rot6d(R, "columns").tolist() == [*R[:, 0], *R[:, 1]]
    assert rotations.matrix_to_rot6d(R, "rows").tolist() == [*R[0], *R[1]]
    assert rotations.matrix_to_rot6d(R, "columns_interleaved").tolist() == R[:, :2].ravel().tolist()
    eye = np.eye(3)
    assert rotations.matrix_to_rot6d(eye, "columns").tolist() == [1, 0, 0, 0, 1, 0]
    assert rotations.matrix_to_rot6d(eye, "rows").tolist() == [1, 0, 0, 0, 1, 0]
    assert rotations.matrix_to_rot6d(eye, "columns_interleaved").tolist() == [1, 0, 0, 1, 0, 0]


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6), st.sampled_from(LAYOUTS))
def test_any_network_output_gives_a_rotation_or_is_refused(values, layout) -> None:
    try:
        R = rotations.rot6d_to_matrix(values, layout)
    except Refused as refused:
        assert refused.reason == "rotation"
        return
    assert np.allclose(R @ R.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(R) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("bad", [[0] * 6, [1, 0, 0, 2, 0, 0], [np.nan, 0, 0, 0, 1, 0]])
def test_degenerate_rot6d_is_refused(bad) -> None:
    with pytest.raises(Refused, match="rot6d"):
        rotations.rot6d_to_matrix(bad, "columns")


def test_any_leading_axes() -> None:
    R = Rotation.random(12, rng=np.random.default_rng(0)).as_matrix().reshape(3, 4, 3, 3)
    for layout in LAYOUTS:
        six = rotations.matrix_to_rot6d(R, layout)
        assert six.shape == (3, 4, 6)
        assert np.allclose(rotations.rot6d_to_matrix(six, layout), R)
    q = rotations.matrix_to_quaternion(R)
    assert q.shape == (3, 4, 4)
    assert np.allclose(rotations.quaternion_to_matrix(q), R)


@given(st.lists(rotation(), min_size=1, max_size=6), st.floats(0, 1))
def test_many_at_once_are_as_one_by_one(them: list[Rotation], fraction: float) -> None:
    R = np.array([r.as_matrix() for r in them])
    q = rotations.matrix_to_quaternion(R)
    assert np.allclose(q, [rotations.matrix_to_quaternion(one) for one in R], atol=1e-12)
    assert np.allclose(
        rotations.quaternion_to_matrix(q), [rotations.quaternion_to_matrix(one) for one in q], atol=1e-12
    )
    first = np.broadcast_to(q[0], q.shape)
    assert np.allclose(
        rotations.angle_between(first, q), [rotations.angle_between(q[0], one) for one in q], atol=1e-12
    )
    turned = [rotations.slerp(q[0], one, fraction) for one in q]
    assert np.allclose(rotations.slerp(first, q, np.full(len(q), fraction)), turned, atol=1e-9)


@given(rotation(), rotation(), st.floats(0, 1))
def test_slerp_agrees_with_scipy(a: Rotation, b: Rotation, fraction: float) -> None:
    if apart(a, b) > np.pi - 1e-3:
        return  # a half turn has two shortest ways
    ours = rotations.slerp(a.as_quat(), -b.as_quat(), fraction)
    theirs = Slerp([0, 1], Rotation.concatenate([a, b]))(fraction)
    assert apart(Rotation.from_quat(ours), theirs) < 1e-7
    assert rotations.angle_between(a.as_quat(), b.as_quat()) == pytest.approx(apart(a, b), abs=1e-9)


@given(st.lists(rotation(), min_size=1, max_size=5), st.data())
def test_mean_agrees_with_scipy_whatever_the_signs(many, data) -> None:
    weights = data.draw(st.lists(st.floats(0.1, 1), min_size=len(many), max_size=len(many)))
    signs = data.draw(st.lists(st.sampled_from([-1, 1]), min_size=len(many), max_size=len(many)))
    q = np.array([r.as_quat() for r in many])
    spectrum = np.linalg.eigvalsh((q * np.array(weights)[:, None]).T @ q)
    if spectrum[-1] - spectrum[-2] < 1e-3:
        return  # two means, as of two opposite rotations
    ours = rotations.mean(q * np.array(signs)[:, None], weights)
    theirs = Rotation.from_quat(q).mean(weights)
    assert apart(Rotation.from_quat(ours), theirs) < 1e-6


def test_mean_across_the_half_turn_is_not_the_average_of_the_angles() -> None:
    q = Rotation.from_euler("z", [[179.0], [-179.0]], degrees=True).as_quat().reshape(2, 4)
    mean = Rotation.from_quat(rotations.mean(q, [1, 1]))
    assert apart(mean, Rotation.from_euler("z", 180, degrees=True)) < 1e-9


FORMS = ("rot6d_columns", "rot6d_columns_interleaved", "rot6d_rows", "axis_angle", "quaternion_xyzw")
FORMS += ("quaternion_wxyz", *(f"euler_{order}" for order in ORDERS))


def by_scipy(r: Rotation, form: str) -> np.ndarray:
    """What scipy says, written out per form."""
    R = r.as_matrix()
    if form == "rot6d_columns":
        return np.concatenate([R[:, 0], R[:, 1]])
    if form == "rot6d_rows":
        return np.concatenate([R[0], R[1]])
    if form == "rot6d_columns_interleaved":
        return R[:, :2].ravel()
    if form == "axis_angle":
        return r.as_rotvec()
    if form.startswith("quaternion"):
        x, y, z, w = r.as_quat(canonical=True)
        return np.array([x, y, z, w] if form.endswith("xyzw") else [w, x, y, z])
    return r.as_euler(form.removeprefix("euler_"))


def from_scipy(values: np.ndarray, form: str) -> Rotation:
    if form == "axis_angle":
        return Rotation.from_rotvec(values)
    if form.startswith("quaternion"):
        return Rotation.from_quat(values if form.endswith("xyzw") else np.roll(values, -1))
    return Rotation.from_euler(form.removeprefix("euler_"), values)


def test_all_24_euler_orders() -> None:
    assert len(ORDERS) == len(set(ORDERS)) == 24


@pytest.mark.filterwarnings("ignore:Gimbal lock")
@pytest.mark.parametrize("form", FORMS)
@given(r=rotation())
@settings(max_examples=40)
def test_each_form_round_trips_and_agrees_with_scipy(form: str, r: Rotation) -> None:
    R = r.as_matrix()
    values = rotations.encode_rotation(R, form)
    assert values.shape == (rotations.rotation_size(form),)
    assert np.allclose(rotations.decode_rotation(values, form), R, atol=1e-9)
    if not form.startswith("rot6d"):
        assert np.allclose(from_scipy(values, form).as_matrix(), R, atol=1e-9)
        assert np.allclose(rotations.decode_rotation(by_scipy(r, form), form), R, atol=2e-7)
    else:
        assert np.allclose(values, by_scipy(r, form), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_values_are_scipy_s_own_away_from_the_seams(form: str) -> None:
    for r in Rotation.random(20, rng=np.random.default_rng(1)):
        assert np.allclose(rotations.encode_rotation(r.as_matrix(), form), by_scipy(r, form), atol=1e-9)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("near", [0.0, 1e-13, 1e-11, 1e-9, 1e-6])
def test_euler_angles_at_the_lock(order: str, near: float) -> None:
    locks = (0.0, np.pi) if order[0] == order[2] else (np.pi / 2, -np.pi / 2)
    for lock in locks:
        R = Rotation.from_euler(order, [0.7, lock + near, -0.4]).as_matrix()
        values = rotations.encode_rotation(R, f"euler_{order}")
        assert np.all(np.abs(values) <= np.pi + 1e-12)
        assert np.allclose(Rotation.from_euler(order, values).as_matrix(), R, atol=1e-9)


def test_a_form_that_does_not_exist_is_named_with_those_that_do() -> None:
    for form in ("euler_xxy", "euler_xYz", "rot6d", "quaternion", "euler"):
        with pytest.raises(ValueError, match=r"expected rot6d_columns, .* euler_XYZ for turned ones"):
            rotations.rotation_size(form)


@pytest.mark.parametrize(
    ("values", "form"),
    [([np.nan, 0, 0], "axis_angle"), ([0, np.inf, 0], "euler_xyz"), ([0, 0, 0, 0], "quaternion_wxyz")],
)
def test_what_is_no_rotation_is_refused(values, form) -> None:
    with pytest.raises(Refused) as caught:
        rotations.decode_rotation(values, form)
    assert caught.value.reason == "rotation"


@pytest.mark.parametrize("angle", [1e-12, 1e-9, 1e-6, 4e-4])
def test_small_axis_angles_are_kept(angle: float) -> None:
    """robosuite's quat2axisangle gives zeros where cos(angle / 2) rounds to 1: below about 5e-4 rad in
    float32."""
    v = np.array([0.6, 0.0, -0.8]) * angle
    assert np.allclose(rotations.axis_angle_to_quaternion(v)[:3], v / 2, rtol=1e-7, atol=0)
    assert np.allclose(
        rotations.quaternion_to_axis_angle(rotations.axis_angle_to_quaternion(v)), v, rtol=1e-9
    )


@pytest.mark.parametrize("form", [form for form in FORMS if not form.startswith("rot6d")])
def test_a_turning_tool_has_no_jumps(form: str) -> None:
    """Two turns about a fixed axis, in steps of 0.1 rad: past pi, past 2 pi, and every seam of the form."""
    angle = np.arange(0.05, 4 * np.pi, 0.1)
    if form.startswith("euler"):
        order = form.removeprefix("euler_")
        turns = Rotation.from_euler(order, np.stack([0 * angle, 0 * angle + 0.9, angle], axis=1))
    else:
        turns = Rotation.from_rotvec(angle[:, None] * [0.6, 0.0, 0.8])
    R = turns.as_matrix()
    plain = rotations.encode_rotation(R, form)
    assert np.abs(np.diff(plain, axis=0)).max() > 0.9
    smooth = rotations.continuous(plain, form)
    assert np.abs(np.diff(smooth, axis=0)).max() < 0.11
    assert np.array_equal(smooth[0], plain[0])
    assert np.allclose(rotations.decode_rotation(smooth, form), R, atol=1e-9)


def test_no_turn_in_the_midst_of_turning_is_a_whole_turn() -> None:
    axis, other = np.array([0.6, 0.0, 0.8]), np.array([0.0, 1e-9, 0.0])
    rows = [axis * 3.0, axis * (5.5 - 2 * np.pi), np.zeros(3), other]
    smooth = rotations.continuous(rows, "axis_angle")
    assert np.allclose(smooth[:3], np.outer([3.0, 5.5, 2 * np.pi], axis))
    # A turn that is small but one is kept, about its own axis, at the price of a jump.
    R = rotations.decode_rotation(rows, "axis_angle")
    assert np.allclose(rotations.decode_rotation(smooth, "axis_angle"), R, rtol=0, atol=1e-11)


@given(st.lists(rotation(), min_size=1, max_size=6), st.sampled_from(FORMS))
def test_continuous_rows_mean_the_same(many: list[Rotation], form: str) -> None:
    R = np.array([r.as_matrix() for r in many])
    plain = rotations.encode_rotation(R, form)
    smooth = rotations.continuous(plain, form)
    assert np.allclose(rotations.decode_rotation(smooth, form), R, atol=1e-9)
    if form == "axis_angle":
        for before, row, original in zip(smooth[:-1], smooth[1:], plain[1:], strict=True):
            turn = np.linalg.norm(original)
            if turn > 1e-6:
                others = [row + k * 2 * np.pi * original / turn for k in (-1, 1)]
                assert np.linalg.norm(row - before) <= min(np.linalg.norm(o - before) for o in others) + 1e-9
