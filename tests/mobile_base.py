"""A Franka on wheels, as its YAML would say it."""

from __future__ import annotations

from typing import Any

from tests.tiny_bundle import franka_fields
from vla_ros.robot.config import Robot

BASE_FIELDS = {
    "odometry": {"topic": "/mobile_base/odom", "rate_hz": 20, "max_age_ms": 200},
    "limits": {"velocity": [0.5, 1.0], "acceleration": [1.0, 2.0]},
    "twist": {"topic": "/mobile_base/cmd_vel"},
}
BASE_STATE = {"signal": "base_velocity", "size": 2}
BASE_ACTION = {"signal": "base_velocity", "size": 2}


def mobile_fields() -> dict[str, Any]:
    """The YAML as plain values, to be changed and given to `Robot.model_validate`."""
    return {**franka_fields(), "base": BASE_FIELDS}


MOBILE = Robot.model_validate(mobile_fields())
