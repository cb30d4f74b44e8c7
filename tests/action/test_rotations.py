import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from vla_ros.action import rotations
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
