"""A mobile base, as drivers take velocities: geometry_msgs/Twist, forward in linear.x, turning in angular.z.

What a driver does with one it keeps on doing until the next comes or its own patience is over, and then it
stops at once (interbotix_slate_driver, slate_base.cpp, branch humble: 300 ms; it also cuts each velocity off
at 1.0 without a word).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vla_ros.errors import Refused
from vla_ros.robot.config import MobileBase
from vla_ros.robot.drivers.driver import Call, StartStep
from vla_ros.types import FloatArray


class BaseTwist:
    """See the module. Raises ImportError without the ROS message packages."""

    def __init__(self, base: MobileBase) -> None:
        from geometry_msgs.msg import Twist

        self.topic = base.twist.topic
        self.message_type: type = Twist
        self._service = base.twist.torque_service

    def start_steps(self) -> tuple[StartStep, ...]:
        """Motors on, where the YAML says how: those of a SLATE base may be off, and then nothing tells that
        commands have no effect."""
        if self._service is None:
            return ()
        from std_srvs.srv import SetBool

        request = SetBool.Request(data=True)
        return (Call("switch on the base's motors", self._service, SetBool, request, _not_switched),)

    def message(self, velocity: FloatArray) -> Any:
        """The message for a velocity [2], m/s and rad/s. Raises Refused: "incomplete" (wrong shape), "nan"
        (not finite)."""
        if np.shape(velocity) != (2,):
            raise Refused("incomplete", f"base: velocity has shape {np.shape(velocity)}, expected (2,)")
        if not np.isfinite(velocity).all():
            raise Refused("nan", f"base: velocity is not finite: {velocity.tolist()}")
        message: Any = self.message_type()
        message.linear.x, message.angular.z = velocity.tolist()
        return message


def _not_switched(response: Any) -> str:
    return "" if response.success else response.message or "it failed"
