"""Mobile ALOHA's twin and control_node as processes of their own: a policy that drives it, and its end."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from geometry_msgs.msg import Twist
from nav_msgs.msg import Odometry
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String
from std_srvs.srv import SetBool, Trigger

from tests.support import Started, Starter, ask, claimed_domain, wait_for
from vla_ros.nodes.qos import LATCHED
from vla_ros.resources import robot_config
from vla_ros.robot.inherit import read_robot

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")

pytestmark = pytest.mark.graph

FORWARD, TURNING = 0.3, 0.4
# A busy test machine holds processes up for longer than a robot's driver is ever held up.
PATIENT_MS, CHUNK_TIMEOUT_MS = 1500.0, 1000.0


class Driving:
    """See the module. odometry, sent: all that the base said and was sent, in order; source: what decides."""

    def __init__(self, starter: Starter, domain: int, file: Path) -> None:
        self._starter, self._file = starter, file
        self._env = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("watcher", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.odometry: list[Odometry] = []
        self.sent: list[Twist] = []
        self.source = ""
        self.node.create_subscription(Odometry, "/mobile_base/odom", self.odometry.append, 100)
        self.node.create_subscription(Twist, "/mobile_base/cmd_vel", self.sent.append, 100)
        self.node.create_subscription(String, "vla/control_source", self._on_source, LATCHED)
        self.twin = starter.node("sim_node", "-p", f"robot:={file}", **self._env)
        self.control = starter.node("control_node", "-p", f"robot:={file}", **self._env)
        self.twin.wait_for_text("arms at home", 90.0)
        self.control.wait_for_text("commanding at", 90.0)

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def policy(self) -> Started:
        """A process that publishes chunks."""
        script = Path(__file__).with_name("chunk_source.py")
        argv = [sys.executable, str(script), str(self._file), str(FORWARD), str(TURNING)]
        return self._starter(argv, "chunk_source", **self._env)

    def until(self, condition: Any, what: str, timeout_s: float = 30.0) -> None:
        wait_for(condition, timeout_s, what, step=self._spin)

    def call(self, kind: type, service: str, request: Any) -> Any:
        client = self.node.create_client(kind, service)
        return ask(client, request, 30.0, step=self._spin)

    def start(self) -> None:
        """Call ~/start until all that is needed is there, and the base stands."""

        def started() -> bool:
            answer = self.call(Trigger, "control_node/start", Trigger.Request())
            known = ("joint states", "gripper's width", "nobody subscribes", "odometry", "the base moves")
            assert answer.success or any(word in answer.message for word in known), answer.message
            return bool(answer.success)

        self.until(started, "start to succeed")

    @property
    def velocity(self) -> list[float]:
        """As the base says it."""
        twist = self.odometry[-1].twist.twist
        return [twist.linear.x, twist.angular.z]

    @property
    def pose(self) -> list[float]:
        """x, y, heading as the base says it."""
        pose = self.odometry[-1].pose.pose
        heading = 2.0 * math.atan2(pose.orientation.z, pose.orientation.w)
        return [pose.position.x, pose.position.y, heading]

    def drives(self) -> bool:
        """Whether it is as fast as the policy wants it."""
        return bool(np.allclose(self.velocity, [FORWARD, TURNING], atol=0.02))

    def stands(self) -> bool:
        """Whether it stands and is told to."""
        told = self.sent[-1]
        return max(map(abs, self.velocity)) < 1e-3 and told.linear.x == 0.0 == told.angular.z

    def _on_source(self, message: String) -> None:
        self.source = message.data

    def _spin(self) -> None:
        self._executor.spin_once(0.02)
        for _ in range(20):  # what else is there
            self._executor.spin_once(0.0)


@pytest.fixture
def driving(tmp_path: Path) -> Iterator[Driving]:
    content: Any = read_robot(robot_config("mobile_aloha")).data
    for camera in content["cameras"].values():
        camera["rate_hz"], camera["max_age_ms"] = 1.0, 2000.0
    for arm in content["arms"].values():
        arm["states"]["max_age_ms"] = arm["gripper"]["states"]["max_age_ms"] = PATIENT_MS
    content["base"]["odometry"]["max_age_ms"] = PATIENT_MS
    content["safety"]["joint_states_timeout_ms"] = PATIENT_MS
    content["safety"]["chunk_timeout_ms"] = CHUNK_TIMEOUT_MS
    (tmp_path / "urdf").symlink_to(robot_config("mobile_aloha").parent / "urdf")
    file = tmp_path / "mobile_aloha.yaml"
    file.write_text(yaml.safe_dump(content))
    starter = Starter()
    with claimed_domain() as domain, contextlib.ExitStack() as stack:
        stack.callback(starter.end)
        subject = Driving(starter, domain, file)
        stack.callback(subject.close)
        yield subject


def test_a_policy_drives_the_twin_and_its_death_stops_it(driving: Driving) -> None:
    driving.until(lambda: driving.odometry, "odometry")
    assert driving.pose == [0.0, 0.0, 0.0]
    policy = driving.policy()
    driving.start()
    driving.until(driving.drives, "the base to drive as the policy wants it")
    assert driving.source == "policy"
    policy.kill()
    driving.until(lambda: driving.source == "hold", "a hold")
    driving.until(driving.stands, "the base to stand")
    x, _, heading = driving.pose
    assert x > 0.1 and heading > 0.1
    # Slowed down, and not cut off: within the YAML's 0.5 m/s^2 and 1 rad/s^2 at 50 Hz. (A message that this
    # machine was too busy to receive counts for two.)
    speeds = np.array([[message.linear.x, message.angular.z] for message in driving.sent])
    changes = np.abs(np.diff(speeds, axis=0)).max(axis=0)
    assert (changes <= 3 * np.array([0.01, 0.02]) + 1e-9).all(), changes
    assert driving.call(Trigger, "sim_node/reset", Trigger.Request()).success
    driving.until(lambda: driving.pose == [0.0, 0.0, 0.0], "the base to be where it began")


def test_an_estop_that_the_base_keeps_to_itself_is_found_out(driving: Driving) -> None:
    driving.policy()
    driving.start()
    driving.until(driving.drives, "the base to drive")
    assert driving.call(SetBool, "sim_node/base_estop", SetBool.Request(data=True)).success
    driving.until(lambda: "(base_not_following)" in driving.control.output, "the reason")
    assert driving.odometry[-1].pose.covariance[0] == -1.0
    driving.until(lambda: driving.source != "policy", "the policy to be left")
    driving.until(driving.stands, "the base to stand")
    assert driving.call(SetBool, "sim_node/base_estop", SetBool.Request(data=False)).success
    standing = driving.pose
    driving.until(lambda: len(driving.odometry) > 30, "a while")
    np.testing.assert_allclose(driving.pose, standing, atol=1e-3, err_msg="it waits for a start")
    driving.start()
    driving.until(driving.drives, "the base to drive again")


def test_motors_that_were_off_are_switched_on_by_the_start(driving: Driving) -> None:
    service = "/mobile_base/set_motor_torque_status"
    assert driving.call(SetBool, service, SetBool.Request(data=False)).success
    driving.policy()
    driving.start()
    driving.until(driving.drives, "the base to drive")
