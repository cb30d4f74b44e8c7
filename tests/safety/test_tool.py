from __future__ import annotations

import numpy as np
import pytest

from tests.safety.plant import FILE
from vla_ros.robot.config import Box, Control, JointLimits
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.arm import ArmFollower
from vla_ros.safety.limits import JointLimiter
from vla_ros.safety.tool import AIM, MOST, ToolLimiter
from vla_ros.types import FloatArray

DT = 0.01
ROBOT = load_robot(FILE)
ARM = ROBOT.arms["arm"]
KINEMATICS = Kinematics(read_urdf(FILE, ARM), ARM.joints, ARM.base_frame, ARM.tool_frame)
LOW, HIGH = np.array(ARM.limits.position).T


def follower(linear: float, angular: float) -> ArmFollower:
    """The arm with these speeds of its tool, and nothing else that would slow it down."""
    everywhere = Box(min=(-2.0, -2.0, -2.0), max=(2.0, 2.0, 2.0))
    safety = ROBOT.safety.model_copy(
        update={
            "tool_speed": linear,
            "tool_rotation_speed": angular,
            "workspace": everywhere,
            "soft_start_s": DT,
        }
    )
    made = ArmFollower(ARM, safety, KINEMATICS, Control(rate_hz=100.0))
    made.begin(np.array(ARM.home))
    return made


def speeds(places: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The tool's m/s and rad/s from joints to joints, [K, J]."""
    poses = np.array([KINEMATICS.forward(q) for q in places])
    turns = np.linalg.norm(np.diff(poses[:, :3, :3], axis=0), axis=(1, 2)) / np.sqrt(8)
    moves = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return moves / DT, 2 * np.arcsin(np.minimum(turns, 1.0)) / DT


# The one bound far below what the joints can do, the other not: then joints go fast whose motions cancel out.
@pytest.mark.parametrize(("linear", "angular", "seed"), [(0.3, 5.0, 4), (1.5, 1.0, 3), (0.6, 2.5, 2)])
def test_the_tool_keeps_its_speeds_whatever_the_joints_are_asked_for(
    linear: float, angular: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    made = follower(linear, angular)
    now_ns, sent = 10**12, []
    goal, until, holds = np.array(ARM.home), 0, False
    for tick in range(1500):
        now_ns += 10_000_000
        made.tick(now_ns)
        if tick >= until:
            goal, until, holds = rng.uniform(LOW, HIGH), tick + int(rng.integers(5, 120)), rng.random() < 0.15
        proposal = made.propose_hold() if holds else made.propose_joints(goal)
        sent.append(made.commit(proposal).motion.q[0])
        if tick % 5 == 0:
            rest = speeds(np.vstack([made.q, made.braking]))
            assert rest[0].max() <= MOST * linear * (1 + 1e-6)
            assert rest[1].max() <= MOST * angular * (1 + 1e-6)
    moves, turns = speeds(np.array(sent))
    assert moves.max() <= linear
    assert turns.max() <= angular
    # It was not for standing still.
    assert max(moves.max() / linear, turns.max() / angular) > 0.9


def test_the_quick_look_finds_no_way_good_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = ToolLimiter._surely_keeps
    found = []

    def looked_at(self: ToolLimiter, linear: float, angular: float, step) -> bool:
        surely = quick(self, linear, angular, step)
        found.append(surely)
        if surely:
            assert self._keeps(self._limiter.way_to_rest(step))
        return surely

    monkeypatch.setattr(ToolLimiter, "_surely_keeps", looked_at)
    rng = np.random.default_rng(0)
    made = follower(0.6, 2.5)
    for tick in range(1000):
        made.tick(10**12 + tick * 10_000_000)
        if tick % 25 == 0:
            goal = np.clip(made.q + rng.uniform(-0.2, 0.2, 7), LOW, HIGH)
        made.commit(made.propose_joints(goal))
    assert 100 < sum(found) < len(found)


class Planar:
    """A planar three-joint arm."""

    lengths = np.array([0.4, 0.3, 0.2])
    reach = np.cumsum(lengths[::-1])[::-1]

    def forward_all(self, q: FloatArray) -> FloatArray:
        angles = np.cumsum(q, axis=1)
        poses = np.tile(np.eye(4), (len(q), 1, 1))
        cosine, sine = np.cos(angles), np.sin(angles)
        poses[:, 0, 0] = poses[:, 1, 1] = cosine[:, -1]
        poses[:, 1, 0], poses[:, 0, 1] = sine[:, -1], -sine[:, -1]
        poses[:, 0, 3], poses[:, 1, 3] = cosine @ self.lengths, sine @ self.lengths
        return poses

    def jacobian(self, q) -> FloatArray:
        jacobian = np.zeros((6, 3))
        for joint, ahead in enumerate(1e-6 * np.eye(3)):
            near, far = self.forward_all(np.array([q - ahead, q + ahead]))[:, :2, 3]
            jacobian[:2, joint] = (far - near) / 2e-6
        jacobian[5] = 1.0
        return jacobian


def test_the_wish_still_steers() -> None:
    wide = JointLimits(position=[(-3, 3)] * 3, velocity=[2.0] * 3, acceleration=[8.0] * 3, jerk=[5000.0] * 3)
    made = JointLimiter(wide, DT)
    made.reset(np.zeros(3))
    safety = ROBOT.safety.model_copy(update={"tool_speed": 0.3, "tool_rotation_speed": 1.0})
    tool = ToolLimiter(safety, Planar(), made)
    rng = np.random.default_rng(1)
    places, words = [made.q], set()
    for _ in range(100):
        target = rng.uniform(-2.5, 2.5, 3)
        for _ in range(rng.integers(5, 80)):
            step, way = tool.limit(made.plan(target, np.zeros(3)))
            made.commit(step)
            assert np.array_equal(way[0], made.q)
            places.append(made.q)
            words |= set(step.limits)
    assert "tool_speed" in words
    poses = Planar().forward_all(np.array(places))
    moved = np.linalg.norm(np.diff(poses[:, :2, 3], axis=0), axis=1) / DT
    turned = np.abs(np.diff(np.sum(places, axis=1))) / DT
    assert moved.max() <= 0.3 * MOST
    assert turned.max() <= 1.0 * MOST
    # Not slower than it has to be, either.
    assert np.mean((moved > 0.99 * AIM * 0.3) | (turned > 0.99 * AIM * 1.0)) > 0.5
    for _ in range(3000):
        made.commit(tool.limit(made.plan(np.array([1.0, -0.5, 0.7]), np.zeros(3)))[0])
    assert np.allclose(made.q, [1.0, -0.5, 0.7], atol=1e-6)
