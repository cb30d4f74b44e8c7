"""Kinematics against an independent Denavit-Hartenberg chain, scipy, and finite differences."""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.errors import KinematicsError
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

URDF = (Path(__file__).parents[2] / "robot_configs" / "urdf" / "fr3.urdf").read_text(encoding="utf-8")
JOINTS = [f"fr3_joint{index}" for index in range(1, 8)]
HOME = np.array([0.0, -math.pi / 4, 0.0, -3 * math.pi / 4, 0.0, math.pi / 2, math.pi / 4])
FR3 = Kinematics(URDF, JOINTS, "fr3_link0", "fr3_hand_tcp")

# a, d, alpha, Craig's convention: Franka Control Interface documentation.
DH = [
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
]

inside = st.lists(st.floats(0, 1), min_size=7, max_size=7).map(
    lambda shares: FR3.lower + np.array(shares) * (FR3.upper - FR3.lower)
)


def dh_forward(q: FloatArray) -> FloatArray:
    """Tool pose straight from the DH table, the flange and the hand's mounting."""
    pose = np.eye(4)
    for (a, d, alpha), theta in zip(DH, q, strict=True):
        ct, s, ca, sa = math.cos(theta), math.sin(theta), math.cos(alpha), math.sin(alpha)
        pose = pose @ np.array(
            [[ct, -s, 0, a], [s * ca, ct * ca, -sa, -d * sa], [s * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]]
        )
    hand = np.eye(4)
    hand[:3, :3] = Rotation.from_euler("z", -45, degrees=True).as_matrix()
    hand[2, 3] = 0.107 + 0.1034
    return pose @ hand


def errors(pose: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Position (m) and rotation (rad) between two poses, by scipy."""
    rotation = Rotation.from_matrix(target[:3, :3] @ pose[:3, :3].T).magnitude()
    return float(np.linalg.norm(pose[:3, 3] - target[:3, 3])), float(rotation)


def random_joints(rng: np.random.Generator) -> FloatArray:
    return rng.uniform(FR3.lower, FR3.upper)


@given(inside)
def test_forward_is_the_dh_chain(q: FloatArray) -> None:
    np.testing.assert_allclose(FR3.forward(q), dh_forward(q), atol=1e-9)


def test_home_is_where_franka_says() -> None:
    pose = FR3.forward(HOME)
    np.testing.assert_allclose(pose[:3, 3], [0.306891, 0.0, 0.486882], atol=1e-6)
    np.testing.assert_allclose(pose[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-9)


def test_limits_are_libfrankas() -> None:
    upper = [2.7501, 1.7918, 2.9065, -0.1458, 2.8101, 4.5205, 3.0196]
    lower = [-2.7501, -1.7918, -2.9065, -3.0481, -2.8101, 0.54092, -3.0196]
    np.testing.assert_array_equal(FR3.upper, upper)
    np.testing.assert_array_equal(FR3.lower, lower)
    np.testing.assert_array_equal(FR3.velocity, [2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26])


@given(inside)
def test_jacobian_is_the_derivative(q: FloatArray) -> None:
    step = 1e-6
    jacobian = FR3.jacobian(q)
    for index in range(7):
        ahead, behind = q.copy(), q.copy()
        ahead[index] += step
        behind[index] -= step
        there, back = dh_forward(ahead), dh_forward(behind)
        linear = (there[:3, 3] - back[:3, 3]) / (2 * step)
        angular = Rotation.from_matrix(there[:3, :3] @ back[:3, :3].T).as_rotvec() / (2 * step)
        np.testing.assert_allclose(jacobian[:, index], [*linear, *angular], atol=1e-6)


def test_no_joint_moves_the_tool_further_than_its_reach() -> None:
    shuffled = [3, 0, 6, 1, 5, 2, 4]
    other = Kinematics(URDF, [JOINTS[index] for index in shuffled], "fr3_link0", "fr3_hand_tcp")
    rng = np.random.default_rng(3)
    columns = [other.jacobian(random_joints(rng)[shuffled])[:3] for _ in range(2000)]
    furthest = np.linalg.norm(columns, axis=1).max(axis=0)
    assert np.all(furthest <= other.reach)
    # Nor is it further than the links are long, one after the other.
    lengths = [0.0, 0.316, 0.0825, math.hypot(0.0825, 0.384), 0.0, 0.088, 0.107 + 0.1034]
    np.testing.assert_allclose(other.reach, np.cumsum(lengths[::-1])[::-1][shuffled], atol=1e-9)


def test_many_forwards_are_the_single_ones() -> None:
    rng = np.random.default_rng(5)
    q = np.array([random_joints(rng) for _ in range(5)])
    np.testing.assert_array_equal(FR3.forward_all(q), [FR3.forward(row) for row in q])


def test_joint_order_is_the_callers() -> None:
    shuffled = [3, 0, 6, 1, 5, 2, 4]
    other = Kinematics(URDF, [JOINTS[index] for index in shuffled], "fr3_link0", "fr3_hand_tcp")
    q = HOME + 0.1 * np.arange(7)
    np.testing.assert_allclose(other.forward(q[shuffled]), FR3.forward(q), atol=1e-12)
    np.testing.assert_allclose(other.jacobian(q[shuffled]), FR3.jacobian(q)[:, shuffled], atol=1e-12)
    np.testing.assert_array_equal(other.upper, FR3.upper[shuffled])


def test_base_frame_may_stand_anywhere() -> None:
    """Poses and Jacobians are along the base frame's axes, not the URDF root's."""
    tilted = URDF.replace(
        '<child link="fr3_link0"/>\n    <origin xyz="0 0 0" rpy="0 0 0"/>',
        '<child link="fr3_link0"/>\n    <origin xyz="1 2 3" rpy="0.3 -0.4 1.5"/>',
    )
    assert tilted != URDF
    other = Kinematics(tilted, JOINTS, "fr3_link0", "fr3_hand_tcp")
    np.testing.assert_allclose(other.forward(HOME), FR3.forward(HOME), atol=1e-12)
    np.testing.assert_allclose(other.jacobian(HOME), FR3.jacobian(HOME), atol=1e-12)
    from_root = Kinematics(tilted, JOINTS, "base", "fr3_hand_tcp")
    root_to_base = np.eye(4)
    root_to_base[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.4, 1.5]).as_matrix()
    root_to_base[:3, 3] = [1, 2, 3]
    np.testing.assert_allclose(from_root.forward(HOME), root_to_base @ FR3.forward(HOME), atol=1e-12)


def test_inverse_reaches_two_thousand_poses_from_nearby(capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    seconds, position, rotation = [], [], []
    for _ in range(2000):
        q = random_joints(rng)
        target = dh_forward(q)
        start = np.clip(q + rng.normal(0, 0.03, 7), FR3.lower, FR3.upper)
        begin = time.perf_counter()
        solution = FR3.inverse(target, start, FR3.lower, FR3.upper)
        seconds.append(time.perf_counter() - begin)
        assert solution.reached
        found = errors(dh_forward(solution.q), target)
        position.append(found[0])
        rotation.append(found[1])
        assert (solution.q >= FR3.lower).all() and (solution.q <= FR3.upper).all()
    assert max(position) <= 1e-4
    assert max(rotation) <= 1e-3
    milliseconds = np.percentile(np.array(seconds) * 1e3, [50, 95, 99])
    with capsys.disabled():
        print(f"\ninverse, started nearby: p50 p95 p99 = {np.round(milliseconds, 3)} ms")


@settings(max_examples=200)
@given(inside, inside)
def test_inverse_from_far_reports_the_true_error(q: FloatArray, start: FloatArray) -> None:
    target = dh_forward(q)
    solution = FR3.inverse(target, start, FR3.lower, FR3.upper)
    position, rotation = errors(dh_forward(solution.q), target)
    assert abs(position - solution.position_error) < 1e-7
    assert abs(rotation - solution.rotation_error) < 1e-6
    assert solution.reached == (position <= 1e-4 and rotation <= 1e-3)
    assert (solution.q >= FR3.lower).all() and (solution.q <= FR3.upper).all()


def test_inverse_out_of_reach_says_so_and_stretches_towards_it() -> None:
    target = FR3.forward(HOME)
    target[:3, 3] = [2.0, 0.0, 0.5]
    solution = FR3.inverse(target, HOME, FR3.lower, FR3.upper)
    assert not solution.reached
    assert 1.0 < solution.position_error < 1.4
    # The shoulder is at 0.333 m; the arm is nearly straight towards the target.
    assert np.linalg.norm(FR3.forward(solution.q)[:3, 3] - [0, 0, 0.333]) > 0.75


def test_inverse_leaves_a_met_pose_alone() -> None:
    q = HOME + 0.1
    solution = FR3.inverse(FR3.forward(q), q, FR3.lower, FR3.upper)
    np.testing.assert_array_equal(solution.q, q)


def test_inverse_stays_in_a_small_box_and_does_its_best_there() -> None:
    """The box of what the velocity limits allow in one tick: the tool moves along its path, more slowly."""
    target = FR3.forward(HOME)
    target[0, 3] += 0.2
    reach = FR3.velocity * 0.01
    solution = FR3.inverse(target, HOME, HOME - reach, HOME + reach)
    assert (np.abs(solution.q - HOME) <= reach + 1e-12).all()
    assert not solution.reached
    before = errors(FR3.forward(HOME), target)
    assert solution.position_error < before[0] - 0.005


def test_a_joint_at_its_limit_is_made_up_for_by_the_others() -> None:
    upper = FR3.upper.copy()
    upper[3] = HOME[3]
    target = FR3.forward(HOME)
    target[0, 3] += 0.02
    free = FR3.inverse(target, HOME, FR3.lower, FR3.upper)
    assert free.q[3] > HOME[3] + 1e-3
    held = FR3.inverse(target, HOME, FR3.lower, upper)
    assert held.q[3] <= HOME[3]
    assert held.position_error < 0.02 / 2


def track(path: list[FloatArray], posture: FloatArray | None) -> tuple[FloatArray, float, float]:
    """Follow poses at 100 Hz from HOME as the control loop does; joints, worst position, rotation error."""
    q, joints, position, rotation = HOME, [], 0.0, 0.0
    for target in path:
        solution = FR3.inverse(target, q, FR3.lower, FR3.upper, posture)
        q = solution.q
        joints.append(q)
        position = max(position, solution.position_error)
        rotation = max(rotation, solution.rotation_error)
    return np.array(joints), position, rotation


def circle(turns: int, seconds: float, radius: float) -> list[FloatArray]:
    poses = []
    for angle in np.linspace(0, 2 * np.pi * turns, int(seconds * 100)):
        pose = FR3.forward(HOME)
        pose[:3, 3] += [radius * (1 - math.cos(angle)), radius * math.sin(angle), 0.0]
        poses.append(pose)
    return poses


@pytest.mark.parametrize("posture", [None, HOME])
def test_tracking_a_circle_is_exact_and_smooth(posture: FloatArray | None) -> None:
    joints, position, rotation = track(circle(turns=4, seconds=16, radius=0.12), posture)
    assert position <= 1e-4
    assert rotation <= 1e-3
    speed = np.diff(joints, axis=0) * 100
    acceleration = np.diff(speed, axis=0) * 100
    assert np.abs(speed).max() < 1.0
    assert np.abs(acceleration[5:]).max() < 3.0


def test_posture_brings_the_elbow_back_while_the_tool_stays() -> None:
    """Displace the arm in its null space; with the pull it returns home, without it stays."""
    jacobian = FR3.jacobian(HOME)
    null = np.linalg.svd(jacobian)[2][-1]
    q = HOME
    for _ in range(50):
        q = FR3.inverse(FR3.forward(HOME), q + 0.02 * null, FR3.lower, FR3.upper).q
    assert np.abs(q - HOME).max() > 0.3
    target = FR3.forward(HOME)
    pulled, left = q, q
    for _ in range(600):
        before = pulled
        solution = FR3.inverse(target, pulled, FR3.lower, FR3.upper, HOME)
        assert solution.reached
        pulled = solution.q
        assert np.abs(pulled - before).max() < 0.005
        left = FR3.inverse(target, left, FR3.lower, FR3.upper).q
    assert np.abs(pulled - HOME).max() < 0.02
    assert np.abs(left - HOME).max() > 0.3


def out_and_back(axis: int, distance: float) -> list[FloatArray]:
    """From HOME along an axis and back, smoothly, 4 s each way; then 3 s, in which the elbow comes home."""
    share = np.linspace(0, 1, 400)
    share = share**2 * (3 - 2 * share)
    poses = []
    for value in [*share, *share[::-1], *np.zeros(300)]:
        pose = FR3.forward(HOME)
        pose[axis, 3] += value * distance
        poses.append(pose)
    return poses


@pytest.mark.parametrize(("axis", "distance"), [(0, 0.6), (1, 0.8), (2, 0.8)])
def test_out_of_reach_and_back_stays_on_its_branch(axis: int, distance: float) -> None:
    """The arm stretches fully (a singularity), the target goes on beyond it and returns."""
    q, joints = HOME, []
    reach = FR3.velocity * 0.01
    for target in out_and_back(axis, distance):
        lower, upper = np.maximum(FR3.lower, q - reach), np.minimum(FR3.upper, q + reach)
        solution = FR3.inverse(target, q, lower, upper, HOME)
        assert (np.abs(solution.q - q) <= reach + 1e-12).all()
        q = solution.q
        joints.append(q)
    assert solution.reached
    assert np.abs(q - HOME).max() < 0.05
    assert (np.array(joints)[:, 3] < 0).all()


def test_joints_are_calm_at_a_singularity_even_without_velocity_limits() -> None:
    """Sideways past the reach: unheld, joint 3 flips onto another branch at 50 rad/s."""
    q, fastest = HOME, 0.0
    for target in out_and_back(1, 0.8):
        solution = FR3.inverse(target, q, FR3.lower, FR3.upper, HOME)
        fastest = max(fastest, float(np.abs(solution.q - q).max()) * 100)
        q = solution.q
    assert fastest < 20.0
    assert np.abs(q - HOME).max() < 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    q = HOME.copy()
    q[2] = bad
    target = FR3.forward(HOME)
    for call in (
        lambda: FR3.forward(q),
        lambda: FR3.jacobian(q),
        lambda: FR3.inverse(target, q, FR3.lower, FR3.upper),
        lambda: FR3.inverse(np.full((4, 4), bad), HOME, FR3.lower, FR3.upper),
        lambda: FR3.inverse(target, HOME, FR3.lower, FR3.upper, q),
    ):
        with pytest.raises(KinematicsError, match="finite"):
            call()
    with pytest.raises(KinematicsError, match="limits"):
        FR3.inverse(target, HOME, np.full(7, math.nan), FR3.upper)


def test_what_is_no_pose_or_of_the_wrong_length_is_refused() -> None:
    target = FR3.forward(HOME)
    mirrored = target.copy()
    mirrored[:3, 0] *= -1
    for wrong in (mirrored, 2 * target, np.eye(3), target + 0.01):
        with pytest.raises(KinematicsError, match=r"rigid|4x4"):
            FR3.inverse(wrong, HOME, FR3.lower, FR3.upper)
    with pytest.raises(KinematicsError, match="expected 7 joint positions"):
        FR3.forward(HOME[:6])
    with pytest.raises(KinematicsError, match="limits"):
        FR3.inverse(target, HOME, FR3.upper, FR3.lower)


@pytest.mark.parametrize(
    ("joints", "base", "tool", "says"),
    [
        (["fr3_jointX", *JOINTS[1:]], "fr3_link0", "fr3_hand_tcp", "no movable joint 'fr3_jointX'"),
        ([*JOINTS[:6], "fr3_joint8"], "fr3_link0", "fr3_hand_tcp", "no movable joint 'fr3_joint8'"),
        (JOINTS, "fr3_link0", "tcp", "no frame 'tcp'"),
        (JOINTS, "nowhere", "fr3_hand_tcp", "no frame 'nowhere'"),
        (JOINTS, "fr3_link3", "fr3_hand_tcp", "moves with the joints"),
        (JOINTS[:6], "fr3_link0", "fr3_hand_tcp", r"\['fr3_joint7'\] move between"),
        (JOINTS, "fr3_link0", "fr3_link5", "not all of"),
        ([*JOINTS, "fr3_finger_joint1"], "fr3_link0", "fr3_hand_tcp", "not all of"),
    ],
)
def test_a_urdf_that_does_not_fit_is_refused(joints: list[str], base: str, tool: str, says: str) -> None:
    with pytest.raises(KinematicsError, match=says):
        Kinematics(URDF, joints, base, tool)


@pytest.mark.parametrize("text", ["", "no xml", "<robot", "<robot name='r'/>", "<a/>"])
def test_text_that_is_no_urdf_is_refused(text: str) -> None:
    with pytest.raises(KinematicsError):
        Kinematics(text, JOINTS, "fr3_link0", "fr3_hand_tcp")


def test_continuous_joints_count_as_one_angle() -> None:
    """A Kinova has them; pinocchio would make two numbers of each."""
    text = URDF.replace(
        '<joint name="fr3_joint1" type="revolute">', '<joint name="fr3_joint1" type="continuous">'
    )
    arm = Kinematics(text, JOINTS, "fr3_link0", "fr3_hand_tcp")
    q = HOME.copy()
    q[0] = 3.5
    np.testing.assert_allclose(arm.forward(q), dh_forward(q), atol=1e-9)
    assert arm.upper[0] == pytest.approx(2 * math.pi)
