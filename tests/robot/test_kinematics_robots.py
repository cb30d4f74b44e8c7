"""Kinematics of every shipped arm against chains written independently from the vendors' documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.robot.vendor_chains import CHAINS, URDFS, Chain
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

ARMS = [pytest.param(chain, id=name) for name, chain in CHAINS.items()]


def test_every_shipped_urdf_has_an_independent_chain() -> None:
    assert {chain.file for chain in CHAINS.values()} == {file.name for file in URDFS.glob("*.urdf")}


@pytest.mark.parametrize("chain", ARMS)
def test_forward_is_the_independent_chain(chain: Chain) -> None:
    arm = chain.kinematics()
    rng = np.random.default_rng(0)
    for q in rng.uniform(arm.lower, arm.upper, (100, len(arm.joints))):
        np.testing.assert_allclose(arm.forward(q), chain.forward(q), atol=1e-9)


def degrees(*values: float) -> list[float]:
    return np.radians(values).tolist()


# Interbotix keeps 10 microrad from half a turn.
HALF = np.pi - 1e-5
LIMITS = {
    "vx300s": (
        [-HALF, *degrees(-106, -101), -HALF, *degrees(-107), -HALF],
        [HALF, *degrees(72, 92), HALF, *degrees(128), HALF],
        [np.pi] * 6,
    ),
    "wx250s": (
        [-HALF, *degrees(-108, -123), -HALF, *degrees(-100), -HALF],
        [HALF, *degrees(114, 92), HALF, *degrees(123), HALF],
        [np.pi] * 6,
    ),
    "piper": (
        [-2.618, 0.0, -2.967, -1.745, -1.22, -2.0944],
        [2.618, 3.14, 0.0, 1.745, 1.22, 2.0944],
        [3.0] * 6,
    ),
    "kinova_gen3": (
        [-2 * np.pi, -2.24, -2 * np.pi, -2.57, -2 * np.pi, -2.09, -2 * np.pi],
        [2 * np.pi, 2.24, 2 * np.pi, 2.57, 2 * np.pi, 2.09, 2 * np.pi],
        [1.3963] * 4 + [1.2218] * 3,
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_the_vendors(name: str) -> None:
    arm = CHAINS[name].kinematics()
    lower, upper, velocity = LIMITS[name]
    np.testing.assert_allclose(arm.lower, lower, atol=1e-12)
    np.testing.assert_allclose(arm.upper, upper, atol=1e-12)
    np.testing.assert_allclose(arm.velocity, velocity, atol=1e-12)


def test_the_cobots_arm_is_the_piper_under_other_names() -> None:
    """The two files differ in nothing but the robot's and the joints' names, and the comment."""
    one = (URDFS / "piper.urdf").read_text(encoding="utf-8").split("-->")[1]
    other = (URDFS / "piper_cobot.urdf").read_text(encoding="utf-8").split("-->")[1]
    renamed = other.replace('"joint6"', '"gripper"').replace('"piper_cobot"', '"piper"')
    for index in reversed(range(6)):
        renamed = renamed.replace(f'"joint{index}"', f'"joint{index + 1}"')
    assert renamed == one


def test_the_piper_reports_its_flange() -> None:
    """With all joints at zero the arm says 56.128, 0, 213.266 mm and 85 degrees of pitch (piper_fk.py)."""
    chain = CHAINS["piper"]
    urdf = (URDFS / chain.file).read_text(encoding="utf-8")
    pose = Kinematics(urdf, chain.joints, "base_link", "link6").forward(np.zeros(6))
    np.testing.assert_allclose(pose[:3, 3], [0.056128, 0.0, 0.213266], atol=1e-6)
    pitch = np.radians(85.0)
    expected = [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
    np.testing.assert_allclose(pose[:3, :3], expected, atol=1e-9)


@pytest.mark.parametrize("chain", ARMS)
def test_shapes_are_primitive(chain: Chain) -> None:
    text = (URDFS / chain.file).read_text(encoding="utf-8")
    assert "<mesh" not in text and "package://" not in text
    assert "<visual>" in text


def apart(pose: FloatArray, target: FloatArray) -> tuple[float, float]:
    """Position (m) and rotation (rad) between two poses, by scipy."""
    rotation = Rotation.from_matrix(target[:3, :3] @ pose[:3, :3].T).magnitude()
    return float(np.linalg.norm(pose[:3, 3] - target[:3, 3])), float(rotation)


@pytest.mark.parametrize("chain", ARMS)
def test_inverse_meets_poses_a_step_away(chain: Chain) -> None:
    """`vla bench kinematics` does this for ten thousand."""
    arm = chain.kinematics()
    rng = np.random.default_rng(1)
    for q in rng.uniform(arm.lower, arm.upper, (200, len(arm.joints))):
        target = chain.forward(q)
        start = np.clip(q + rng.normal(0, 0.03, len(q)), arm.lower, arm.upper)
        solution = arm.inverse(target, start, arm.lower, arm.upper)
        position, rotation = apart(chain.forward(solution.q), target)
        assert solution.reached
        assert position <= 1e-4
        assert rotation <= 1e-3
        assert (solution.q >= arm.lower).all()
        assert (solution.q <= arm.upper).all()
        # It found the posture nearby, not another one.
        assert np.abs(solution.q - start).max() < 0.5


@pytest.mark.parametrize("chain", ARMS)
def test_a_longer_tool_is_an_offset(chain: Chain) -> None:
    """A link added beyond the tool frame, 0.15 m away and askew."""
    text = (URDFS / chain.file).read_text(encoding="utf-8")
    added = (
        f'<link name="pen"/><joint name="pen_joint" type="fixed"><parent link="{chain.tool}"/>'
        '<child link="pen"/><origin xyz="0.05 -0.02 0.14" rpy="0.3 -0.5 1.1"/></joint></robot>'
    )
    arm = Kinematics(text.replace("</robot>", added), chain.joints, chain.base, "pen")
    offset = np.eye(4)
    offset[:3, 3] = [0.05, -0.02, 0.14]
    offset[:3, :3] = Rotation.from_euler("xyz", [0.3, -0.5, 1.1]).as_matrix()
    rng = np.random.default_rng(2)
    for q in rng.uniform(arm.lower, arm.upper, (50, len(arm.joints))):
        target = chain.forward(q) @ offset
        np.testing.assert_allclose(arm.forward(q), target, atol=1e-9)
        start = np.clip(q + rng.normal(0, 0.03, len(q)), arm.lower, arm.upper)
        assert arm.inverse(target, start, arm.lower, arm.upper).reached


# Where demonstrations start, and with the axes before and behind the wrist's middle joint in line.
HOMES = {
    "vx300s": [0.0, -0.96, 1.16, 0.0, -0.3, 0.0],
    "wx250s": [-0.132, -0.762, 0.445, -0.020, 1.756, -0.160],
    "piper": [0.0, 1.2, -1.2, 0.0, 0.6, 0.0],
    "kinova_gen3": [0.0, 0.2618, np.pi, -2.2689, 0.0, 0.9599, np.pi / 2],
}
ALIGNED = {
    "vx300s": [0.0, -0.7, 0.9, 0.0, 0.0, 0.0],
    "wx250s": [0.0, -0.7, 0.6, 0.0, 0.0, 0.0],
    "piper": [0.0, 1.2, -1.2, 0.0, 0.0, 0.0],
    "kinova_gen3": [0.0, 0.3, np.pi, -2.27, 0.0, 0.0, np.pi / 2],
}


@dataclass(frozen=True)
class Followed:
    """worst, end: (m, rad) from the targets, over the way and at its end; q: joints [ticks, J] rad."""

    worst: tuple[float, float]
    end: tuple[float, float]
    q: FloatArray


def follow(
    chain: Chain, start: list[float], path: Iterable[FloatArray], upper: FloatArray | None = None
) -> Followed:
    """Follow poses at 100 Hz as the control loop does, at half the joints' speed at most; upper: tighter
    upper limits, [J] rad."""
    arm = chain.kinematics()
    if upper is not None:
        arm.upper = upper
    home = q = np.array(start)
    reach = 0.5 * arm.velocity * 0.01
    joints, worst = [q], (0.0, 0.0)
    error = worst
    for target in path:
        low, high = np.maximum(arm.lower, q - reach), np.minimum(arm.upper, q + reach)
        solution = arm.inverse(target, q, low, high, home)
        q = solution.q
        joints.append(q)
        error = solution.position_error, solution.rotation_error
        worst = max(worst[0], error[0]), max(worst[1], error[1])
    return Followed(worst, error, np.array(joints))


def sway(chain: Chain, start: list[float], shift: FloatArray, turn: FloatArray) -> Iterator[FloatArray]:
    """From the start's pose by `shift` (m) and `turn` (rotation vector, rad) in 4 s, a second's rest."""
    begin = chain.forward(np.array(start))
    share = np.linspace(0, 1, 400)
    for value in [*(share**2 * (3 - 2 * share)), *np.ones(100)]:
        pose = begin.copy()
        pose[:3, 3] += value * shift
        pose[:3, :3] = Rotation.from_rotvec(value * turn).as_matrix() @ begin[:3, :3]
        yield pose


AXES = range(6)


def along(axis: int, distance: float = 0.05, angle: float = 0.3) -> tuple[FloatArray, FloatArray]:
    way = np.eye(6)[axis]
    return way[:3] * distance, way[3:] * angle


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", HOMES)
def test_slow_ways_from_home_are_met_and_smooth(name: str, axis: int) -> None:
    chain = CHAINS[name]
    found = follow(chain, HOMES[name], sway(chain, HOMES[name], *along(axis)))
    assert found.worst[0] <= 1e-4
    assert found.worst[1] <= 1e-3
    speed = np.diff(found.q, axis=0) * 100
    assert np.abs(np.diff(speed, axis=0) * 100).max() < 5.0


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("name", ALIGNED)
def test_with_the_wrist_in_line_no_way_ends_elsewhere(name: str, axis: int) -> None:
    """About one axis no small motion turns the tool: two joints have to make a quarter turn first, as fast as
    they may. Meanwhile the tool is a little off; it does not stay so."""
    chain = CHAINS[name]
    found = follow(chain, ALIGNED[name], sway(chain, ALIGNED[name], *along(axis)))
    assert found.end[0] <= 1e-4
    assert found.end[1] <= 1e-3
    assert found.worst[0] <= 0.015
    assert found.worst[1] <= 0.12


@pytest.mark.parametrize("name", ALIGNED)
def test_the_wrist_passes_through_its_singularity(name: str) -> None:
    """Pitching through the line, from one side to the other: nothing races."""
    chain = CHAINS[name]
    start = list(ALIGNED[name])
    middle = -2
    start[middle] += 0.3
    begin, goal = np.array(start), np.array(start)
    goal[middle] -= 0.6
    turn = Rotation.from_matrix(chain.forward(goal)[:3, :3] @ chain.forward(begin)[:3, :3].T).as_rotvec()
    found = follow(chain, start, sway(chain, start, np.zeros(3), turn))
    assert found.end[0] <= 1e-4
    assert found.end[1] <= 1e-3
    assert found.worst[0] <= 1e-4
    assert np.abs(np.diff(found.q, axis=0)).max() * 100 < 1.0


@pytest.mark.parametrize("name", HOMES)
def test_out_of_reach_the_arm_stretches_and_comes_back(name: str) -> None:
    chain = CHAINS[name]
    arm = chain.kinematics()
    if name == "kinova_gen3":
        # Its elbow bends to both sides and would pass through; its YAML keeps it on one.
        arm.upper[3] = -0.1
    out = list(sway(chain, HOMES[name], np.array([0.6, 0.0, 0.0]), np.zeros(3)))
    # A redundant arm that turned about itself to get nearer goes back at no more than 0.3 rad/s.
    rest = 1000 if name == "kinova_gen3" else 200
    found = follow(chain, HOMES[name], [*out, *out[::-1], *[out[0]] * rest], arm.upper)
    assert found.worst[0] > 0.05
    assert found.end[0] <= 1e-4
    assert found.end[1] <= 1e-3
    assert np.abs(found.q[-1] - HOMES[name]).max() < 0.3
    # No joint trembles between postures that are equally near: from one tick's step to the next, 0.1 mrad.
    assert np.abs(np.diff(found.q, 2, axis=0)).mean() < 1e-4
    # Stretched as far as this orientation of the tool allows: from there, nothing nearby is any nearer.
    q = found.q[500]
    away = apart(chain.forward(q), out[-1])
    rng = np.random.default_rng(3)
    for other in np.clip(q + rng.normal(0, 0.05, (300, len(q))), arm.lower, arm.upper):
        near = apart(chain.forward(other), out[-1])
        assert np.hypot(10 * near[0], near[1]) > 0.999 * np.hypot(10 * away[0], away[1])


@pytest.mark.parametrize("chain", ARMS)
def test_what_cannot_be_met_says_how_far_off_it_is(chain: Chain) -> None:
    arm = chain.kinematics()
    rng = np.random.default_rng(4)
    for q in rng.uniform(arm.lower, arm.upper, (20, len(arm.joints))):
        target = chain.forward(q)
        target[:3, 3] += 3.0 * target[:3, 3] / np.linalg.norm(target[:3, 3])
        solution = arm.inverse(target, q, arm.lower, arm.upper)
        assert not solution.reached
        position, rotation = apart(chain.forward(solution.q), target)
        assert abs(position - solution.position_error) < 1e-7
        assert abs(rotation - solution.rotation_error) < 1e-6
        assert position < 3.0
