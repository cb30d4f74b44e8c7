from __future__ import annotations

import numpy as np
import pytest

from tests.safety.plant import FILE
from vla_ros.robot.config import Box
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.workspace import Workspace, into_box, outside_box
from vla_ros.types import FloatArray


def test_box() -> None:
    box = Box(min=(0.1, -0.2, 0.0), max=(0.5, 0.2, 0.4))
    assert into_box(np.array([0.9, 0.0, -1.0]), box).tolist() == [0.5, 0.0, 0.0]
    assert outside_box(np.array([0.3, 0.0, 0.1]), box) == 0.0
    assert outside_box(np.array([0.5, 0.0, -0.3]), box) == pytest.approx(0.3)


def test_a_tool_is_found_outside_whether_it_is_looked_at_again_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    robot = load_robot(FILE)
    arm = robot.arms["arm"]
    kinematics = Kinematics(read_urdf(FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
    forward, looked = kinematics.forward, 0

    def counted(q) -> FloatArray:
        nonlocal looked
        looked += 1
        return forward(q)

    monkeypatch.setattr(kinematics, "forward", counted)
    workspace = Workspace(robot.safety.workspace, kinematics)
    rng = np.random.default_rng(0)
    q, found = np.array(arm.home), []
    for _ in range(3000):
        q = q + rng.normal(0, 0.02, 7) + 0.002 * (np.array(arm.home) - q)
        outside = outside_box(forward(q)[:3, 3], robot.safety.workspace)
        assert workspace.outside(q) == outside
        found.append(outside > 0.0)
    assert 100 < sum(found) < 2900, sum(found)
    assert looked < 2500, looked
