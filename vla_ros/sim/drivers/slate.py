"""Interbotix SLATE: Twist in, Odometry out, in one loop of 20 Hz.

Its quirks (interbotix_ros_core humble, interbotix_slate_driver/src/slate_base.cpp): a command counts from the
loop's next turn on; after 300 ms without one the base is told to stand still, at once; each velocity is cut
off at 1 either way, by which NaN becomes -1: full speed backwards; motors that are switched off take no
commands, and the driver does not say so; the e-stop button shows only as pose.covariance[0] = -1 (else 1);
the pose is relative to where the base was when the driver started.

Whether the motors are on at first is for the base itself to say, whose firmware is not public; here they are.
`~/base_estop` (std_srvs/SetBool) of the twin's node presses and releases the button.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from std_srvs.srv import SetBool

from vla_ros.nodes.qos import state_qos
from vla_ros.sim.base import SimBase
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.sim.drivers.face import Command, Due, Face, Host
from vla_ros.types import FloatArray

TIMEOUT_NS = 300_000_000
MOST = 1.0
ODOMETRY_DEPTH = 50
ODOMETRY_FRAME, BASE_FRAME = "odom", "base_link"


class Slate(Face):
    """See `vla_ros.sim.drivers.face.Face`."""

    def __init__(self, host: Host, base: SimBase) -> None:
        self._base, self._in_physics = base, host.in_physics
        self._cmd_vel: FloatArray = np.zeros(2)
        self._commanded_ns = 0
        self._torque, self._pressed = True, False
        odometry, twist = base.config.odometry, base.config.twist
        # The driver publishes once in each turn of its loop.
        self._loop = Due(round(SECOND_NS / odometry.rate_hz))
        self._odometry = host.node.create_publisher(
            Odometry, odometry.topic, state_qos(odometry, ODOMETRY_DEPTH)
        )
        self._turned = False
        self._started_at: FloatArray | None = None
        command = Command("twist", Twist, twist.topic, self._hear, "geometry_msgs/msg/Twist")
        super().__init__(host, [], [command])
        if twist.torque_service is not None:
            host.node.create_service(SetBool, twist.torque_service, self._switch)
        host.node.create_service(SetBool, "~/base_estop", self._press)

    def obey(self, now_ns: int) -> None:
        """See Face: a turn of the driver's loop, if one is due."""
        if not self._loop.at(now_ns):
            return
        super().obey(now_ns)
        if now_ns - self._commanded_ns > TIMEOUT_NS:
            self._cmd_vel = np.zeros(2)
        # As std::min(MOST, std::max(-MOST, value)) does it: what cannot be compared becomes -MOST.
        self._cmd_vel = np.array([min(MOST, max(-MOST, value)) for value in self._cmd_vel.tolist()])
        drives = self._torque and not self._pressed
        self._base.command(self._cmd_vel if drives else np.zeros(2))
        self._turned = True

    def publish(self, stamp_ns: int) -> None:
        """See Face: what the loop's turn publishes."""
        if self._turned:
            self._turned = False
            self._odometry.publish(self._message(stamp_ns))

    def discard(self) -> None:
        """See Face."""
        super().discard()
        self._cmd_vel = np.zeros(2)

    def _hear(self, message: Any, now_ns: int) -> None:
        self._cmd_vel = np.array([message.linear.x, message.angular.z])
        self._commanded_ns = now_ns

    def _message(self, stamp_ns: int) -> Odometry:
        if self._started_at is None:
            self._started_at = self._base.pose
        x, y, heading = self._base.pose - self._started_at
        turned = -self._started_at[2]
        message = Odometry(child_frame_id=BASE_FRAME)
        message.header.frame_id = ODOMETRY_FRAME
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, SECOND_NS)
        pose, twist = message.pose.pose, message.twist.twist
        pose.position.x = math.cos(turned) * x - math.sin(turned) * y
        pose.position.y = math.sin(turned) * x + math.cos(turned) * y
        pose.orientation.z, pose.orientation.w = math.sin(heading / 2), math.cos(heading / 2)
        message.pose.covariance[0] = -1.0 if self._pressed else 1.0
        twist.linear.x, twist.angular.z = map(float, self._base.velocity)
        return message

    def _switch(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def switch() -> None:
            self._torque = request.data

        self._in_physics(switch)
        response.success = True
        response.message = f"Successfully {'enable' if request.data else 'disable'}d motor torque."
        return response

    def _press(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        def press() -> None:
            self._pressed = request.data

        self._in_physics(press)
        response.success = True
        response.message = f"the base's e-stop button is {'pressed' if request.data else 'released'}"
        return response
