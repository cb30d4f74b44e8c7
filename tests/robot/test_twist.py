"""A mobile base's driver: what it is sent, and what is done before."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.errors import Refused
from vla_ros.robot.config import MobileBase
from vla_ros.robot.drivers import Call
from vla_ros.robot.drivers.twist import BaseTwist

pytest.importorskip("geometry_msgs.msg", reason="needs ROS message packages")


def driver(**twist: str) -> BaseTwist:
    return BaseTwist(
        MobileBase.model_validate(
            {
                "odometry": {"topic": "/odom", "rate_hz": 20, "max_age_ms": 200},
                "limits": {"velocity": [0.5, 0.8], "acceleration": [0.5, 1.0]},
                "twist": {"topic": "/cmd_vel", **twist},
            }
        )
    )


def test_forward_is_linear_x_and_turning_angular_z() -> None:
    made = driver()
    message = made.message(np.array([0.3, -0.4]))
    assert type(message).__name__ == "Twist" and made.topic == "/cmd_vel"
    assert (message.linear.x, message.angular.z) == (0.3, -0.4)
    others = (message.linear.y, message.linear.z, message.angular.x, message.angular.y)
    assert others == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("velocity", "reason"),
    [([0.1, np.nan], "nan"), ([np.inf, 0.0], "nan"), ([0.1], "incomplete"), ([0.1, 0.0, 0.2], "incomplete")],
)
def test_what_is_no_velocity_is_not_said(velocity: list[float], reason: str) -> None:
    with pytest.raises(Refused) as caught:
        driver().message(np.array(velocity))
    assert caught.value.reason == reason


def test_motors_are_switched_on_where_the_yaml_says_how() -> None:
    assert driver().start_steps() == ()
    (step,) = driver(torque_service="/base/set_motor_torque_status").start_steps()
    assert isinstance(step, Call)
    assert (step.service, step.request.data) == ("/base/set_motor_torque_status", True)
    response = step.service_type.Response
    assert step.wrong(response(success=True)) == ""
    assert step.wrong(response(message="Failed to enable motor torque.")) == "Failed to enable motor torque."
    assert step.wrong(response()) != ""
