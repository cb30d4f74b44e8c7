"""A message that is made on a copy of a driver leaves no trace in the driver."""

from __future__ import annotations

from copy import copy
from pathlib import Path

import numpy as np
import pytest

from vla_ros.robot.drivers import driver_for
from vla_ros.robot.load import load_robot
from vla_ros.types import Motion

for package in ("trajectory_msgs", "interbotix_xs_msgs", "piper_msgs"):
    pytest.importorskip(f"{package}.msg", reason="needs the message packages")

CONFIGS = Path(__file__).parents[2] / "robot_configs"
DRIVERS = [
    ("franka", "joint_trajectory"),
    ("franka", "joint_position"),
    ("franka", "cartesian_pose"),
    ("widowx", "interbotix"),
    ("agilex_piper", "piper_joint"),
    ("agilex_piper", "piper_pose"),
]


@pytest.mark.parametrize(("robot", "driver"), DRIVERS)
def test_a_message_on_a_copy_leaves_no_trace(robot: str, driver: str) -> None:
    arm = load_robot(CONFIGS / f"{robot}.yaml").arms["arm"].model_copy(update={"driver": driver})
    after_s = 0.01 * np.arange(1, 6)

    def motion(tick: int) -> Motion:
        at = (tick * 0.01 + after_s)[:, None] * np.ones(len(arm.joints))
        return Motion(after_s, np.array(arm.home) + 0.2 * np.sin(at), 0.2 * np.cos(at), -0.2 * np.sin(at))

    plain, disturbed = driver_for(arm), driver_for(arm)
    for tick in range(12):
        args = motion(tick), np.eye(4), 0.02, 10**18 + tick * 10**7
        copy(disturbed).message(motion(tick + 7), np.eye(4), 0.03, args[3] + 5)
        assert disturbed.message(*args) == plain.message(*args)
