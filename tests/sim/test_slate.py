"""The twin's SLATE base on its real topics: the traps of interbotix_slate_driver."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.qos import QoSProfile, ReliabilityPolicy
from std_srvs.srv import SetBool

from tests.sim.stage import MS, Stage
from tests.support import ask, wait_for
from vla_ros.sim.drivers.face import Host
from vla_ros.sim.drivers.slate import Slate

CMD_VEL, ODOMETRY = "/mobile_base/cmd_vel", "/mobile_base/odom"
TORQUE, ESTOP = "/mobile_base/set_motor_torque_status", "/twin/base_estop"


class Drive:
    """A Stage whose peer publishes velocities and keeps the odometry."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.base = stage.twin.base
        self.heard: list[Odometry] = []
        stage.peer.create_subscription(Odometry, ODOMETRY, self.heard.append, 100)
        self.publisher = stage.peer.create_publisher(Twist, CMD_VEL, 10)
        stage.until(self.publisher.get_subscription_count, "the driver")
        stage.until(lambda: self.heard, "odometry")

    def command(self, forward: float, turning: float) -> None:
        """Publish once, and wait until it has been taken."""
        message = Twist()
        message.linear.x, message.angular.z = forward, turning
        before = self.stage.obeyed
        self.publisher.publish(message)
        self.stage.until(lambda: self.stage.obeyed > before, "the command to be taken")

    def keep(self, forward: float, turning: float, seconds: float) -> None:
        """Command it all the while."""
        until_ns = self.stage.now_ns + round(seconds * 1e9)
        while self.stage.now_ns < until_ns:
            self.command(forward, turning)
            self.stage.run(80)

    def newest(self) -> Odometry:
        """Odometry of now."""
        self.heard.clear()
        self.stage.until(lambda: self.heard, "odometry")
        return self.heard[-1]

    def ask(self, service: str, data: bool) -> SetBool.Response:
        client = self.stage.peer.create_client(SetBool, service)
        return ask(client, SetBool.Request(data=data), step=self.stage.run)


@pytest.fixture
def slate(stage: Callable[[str], Stage]) -> Drive:
    return Drive(stage("mobile_aloha"))


def heading(message: Odometry) -> float:
    return 2.0 * math.atan2(message.pose.pose.orientation.z, message.pose.pose.orientation.w)


def test_it_drives_as_commanded_and_says_how(slate: Drive) -> None:
    slate.keep(0.3, -0.4, 1.5)
    message = slate.newest()
    assert message.twist.twist.linear.x == pytest.approx(0.3, abs=1e-3)
    assert message.twist.twist.angular.z == pytest.approx(-0.4, abs=1e-3)
    x, y, turned = slate.base.pose
    slack = 0.3 * 0.1
    assert message.pose.pose.position.x == pytest.approx(x, abs=slack)
    assert message.pose.pose.position.y == pytest.approx(y, abs=slack)
    assert heading(message) == pytest.approx(turned, abs=0.04) and turned < -0.4
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    assert message.pose.covariance[0] == 1.0


def test_odometry_is_reliable_and_comes_at_20_hz(slate: Drive) -> None:
    reliable: list[Odometry] = []
    qos = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
    slate.stage.peer.create_subscription(Odometry, ODOMETRY, reliable.append, qos)
    slate.stage.until(lambda: reliable, "odometry")
    begin_ns = slate.stage.now_ns
    while slate.stage.now_ns < begin_ns + 2000 * MS:
        slate.stage.run()
    wait_for(lambda: len(reliable) >= 40, 10.0, "2 s of it", lambda: slate.stage.executor.spin_once(0.01))
    stamps = [message.header.stamp.sec * 10**9 + message.header.stamp.nanosec for message in reliable]
    assert set(np.diff(stamps)) == {50 * MS}


def test_a_command_counts_from_the_loops_next_turn(slate: Drive) -> None:
    stamp = slate.newest().header.stamp
    turned_ns = stamp.sec * 10**9 + stamp.nanosec
    slate.stage.until(lambda: (slate.stage.now_ns - turned_ns) % (50 * MS) < 5 * MS, "a turn of the loop")
    message = Twist()
    message.linear.x = 0.5
    obeyed = slate.stage.obeyed
    slate.publisher.publish(message)
    assert slate.publisher.wait_for_all_acked(Duration(seconds=10))
    slate.stage.run(40)
    assert slate.stage.obeyed == obeyed and slate.base.velocity[0] == 0.0
    slate.stage.run(20)
    assert slate.stage.obeyed == obeyed + 1 and slate.base.velocity[0] > 0.0


def test_300_ms_without_a_command_stop_it(slate: Drive) -> None:
    slate.keep(0.4, 0.4, 1.5)
    slate.command(0.4, 0.4)
    slate.stage.run(280)
    assert slate.base.velocity[0] == pytest.approx(0.4, abs=1e-3), "not yet"
    slate.stage.run(120)
    assert slate.base.velocity[0] < 0.39
    slate.stage.run(1000)
    np.testing.assert_allclose(slate.base.velocity, 0.0, atol=1e-3)
    slate.keep(0.2, 0.0, 1.0)
    assert slate.base.velocity[0] == pytest.approx(0.2, abs=1e-3), "it takes the next one"


@pytest.mark.parametrize(
    ("sent", "driven"), [((3.0, -7.0), (1.0, -1.0)), ((math.nan, math.nan), (-1.0, -1.0))]
)
def test_velocities_are_cut_off_and_nan_is_full_speed_backwards(
    slate: Drive, sent: tuple[float, float], driven: tuple[float, float]
) -> None:
    slate.keep(*sent, 2.0)
    np.testing.assert_allclose(slate.base.velocity, driven, atol=1e-3)


def test_motors_that_are_off_take_no_commands_and_nobody_says_so(slate: Drive) -> None:
    slate.keep(0.3, 0.0, 1.0)
    assert slate.base.velocity[0] == pytest.approx(0.3, abs=1e-2), "on at first"
    answer = slate.ask(TORQUE, False)
    assert answer.success and answer.message == "Successfully disabled motor torque."
    slate.keep(0.3, 0.0, 1.0)
    np.testing.assert_allclose(slate.base.velocity, 0.0, atol=1e-3)
    message = slate.newest()
    assert message.pose.covariance[0] == 1.0 and not slate.stage.rejected
    assert slate.ask(TORQUE, True).success
    slate.keep(0.3, 0.0, 1.0)
    assert slate.base.velocity[0] == pytest.approx(0.3, abs=1e-2)


def test_the_estop_button_stops_it_and_shows_only_in_a_covariance(slate: Drive) -> None:
    slate.keep(0.3, 0.0, 1.0)
    assert slate.ask(ESTOP, True).success
    slate.keep(0.3, 0.0, 1.0)
    np.testing.assert_allclose(slate.base.velocity, 0.0, atol=1e-3)
    message = slate.newest()
    assert message.pose.covariance[0] == -1.0 and not slate.stage.rejected
    assert slate.ask(ESTOP, False).success
    slate.keep(0.3, 0.0, 1.0)
    assert slate.newest().pose.covariance[0] == 1.0
    assert slate.base.velocity[0] == pytest.approx(0.3, abs=1e-2)


def test_odometry_begins_where_the_driver_was_started(slate: Drive) -> None:
    slate.keep(0.4, 0.8, 1.5)
    assert slate.base.pose[2] > 0.5
    stage, heard = slate.stage, []
    began = slate.base.pose
    stage.peer.create_subscription(Odometry, "/again/odom", heard.append, 100)
    stage.faces.append(another_driver(stage))
    stage.until(lambda: heard, "odometry")
    first: Any = heard[0]
    assert abs(first.pose.pose.position.x) < 0.03 and abs(heading(first)) < 0.05
    slate.keep(0.4, 0.0, 1.5)
    message = heard[-1]
    forward, left, turned = slate.base.pose - began
    cosine, sine = math.cos(began[2]), math.sin(began[2])
    x, y = message.pose.pose.position.x, message.pose.pose.position.y
    assert x == pytest.approx(cosine * forward + sine * left, abs=0.05)
    assert y == pytest.approx(cosine * left - sine * forward, abs=0.05)
    assert heading(message) == pytest.approx(turned, abs=0.05)


def another_driver(stage: Stage) -> Slate:
    """One that starts now for the same base, on topics of its own."""
    base = stage.twin.base
    odometry = base.config.odometry.model_copy(update={"topic": "/again/odom"})
    twist = base.config.twist.model_copy(update={"topic": "/again/cmd_vel", "torque_service": None})
    base.config = base.config.model_copy(update={"odometry": odometry, "twist": twist})
    return Slate(Host(stage.peer, lambda *_: None, lambda _: None, lambda action: action()), base)


def test_a_reset_brings_base_and_odometry_back(slate: Drive) -> None:
    slate.keep(0.4, 0.6, 1.0)
    assert slate.newest().pose.pose.position.x > 0.1
    slate.stage.twin.reset(0)
    for face in slate.stage.faces:
        face.discard()
    slate.stage.run(100)
    message = slate.newest()
    assert message.pose.pose.position.x == 0.0 and heading(message) == 0.0
    assert message.twist.twist.linear.x == 0.0, "the command before it is forgotten"
