"""After a fault: the twin's Franka stops with a reflex under a real control_node, and `vla recover` brings it
back. The whole road of an operator, process by process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml

pytest.importorskip("controller_manager_msgs.srv", reason="needs ros2_control's messages")
pytest.importorskip("franka_msgs.action", reason="needs franka_ros2's messages")

from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from tests.support import Starter, ask, wait_for
from vla_ros.action.message import to_message
from vla_ros.errors import VlaRosError
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.recovery import recover, recoveries
from vla_ros.robot.channels import joint_channels
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk

pytestmark = pytest.mark.graph

CONFIGS = Path(__file__).parents[2] / "robot_configs"
MS = 1_000_000


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    """The shipped Franka with one slow camera and patient watchdogs."""
    slow = {"max_age_ms": 1500}
    fields = {
        "extends": str(CONFIGS / "franka.yaml"),
        "name": "patient",
        "arms": {"arm": {"states": slow, "gripper": {"states": slow}}},
        "cameras": {"front": {"rate_hz": 5, "max_age_ms": 1500}, "wrist": None},
        "policy": {"cameras": {"wrist": None}},
        "safety": {"joint_states_timeout_ms": 1500, "chunk_timeout_ms": 2000},
    }
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return file


class Graph:
    """sim_node and control_node, and a policy that sends the arm to `target` for ever."""

    def __init__(self, starter: Starter, domain: int, file: Path) -> None:
        self.file = file
        self.home = np.array(load_robot(file).arms["arm"].home)
        self.target = self.home
        self.chunks_come = True
        self.q = self.home
        self.sources: list[str] = []
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("policy", context=self.context)
        self._chunks = self.node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        topics = {"vla/control_source": lambda message: self.sources.append(message.data)}
        for topic, hear in topics.items():
            self.node.create_subscription(String, topic, hear, LATCHED)
        self.node.create_subscription(JointState, "/joint_states", self._measure, 10)
        self.node.create_timer(0.2, self._send)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        self._thread.start()
        sim = starter.node("sim_node", "-p", f"robot:={file}")
        self.control = starter.node("control_node", "-p", f"robot:={file}")
        sim.wait_for_text("sim_node]: seed", 60.0)
        self.control.wait_for_text("commanding at", 60.0)

    def close(self) -> None:
        self._executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def call(self, service: str) -> Trigger.Response:
        return ask(self.node.create_client(Trigger, service), Trigger.Request())

    def start(self) -> None:
        """Call ~/start until the joint states are there, and go to the target."""
        wait_for(lambda: self.call("control_node/start").success, 20.0, "a start")
        wait_for(self.is_there, 20.0, "the arm to be there")

    def is_there(self) -> bool:
        return bool(np.abs(self.q - self.target).max() < 0.02)

    def source(self) -> str:
        return self.sources[-1] if self.sources else ""

    def _measure(self, message: JointState) -> None:
        self.q = np.array(message.position[: len(self.home)])

    def _send(self) -> None:
        # From where the arm is, at 0.5 rad/s and slower.
        if not self.chunks_come:
            return
        now = self.node.get_clock().now().nanoseconds
        due = now + np.arange(1, 21) * 100 * MS
        rows = self.q + np.linspace(0.05, 1.0, 20)[:, None] * np.clip(self.target - self.q, -1.0, 1.0)
        chunk = ActionChunk(joint_channels("arm", len(self.home)), rows, due.astype(np.int64), now)
        self._chunks.publish(to_message(chunk))

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()


@pytest.fixture
def graph(start_process: Starter, ros_domain: int, robot_file: Path) -> Iterator[Graph]:
    graph = Graph(start_process, ros_domain, robot_file)
    try:
        yield graph
    finally:
        graph.close()


def vla(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", *argv],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_an_operator_brings_a_franka_back_after_a_reflex(graph: Graph) -> None:
    graph.start()
    done = vla("recover", "--robot", str(graph.file))
    assert done.returncode == 1, "the arm is being commanded"
    assert "cannot recover arm: /control_node commands it on /joint_trajectory_controller" in done.stderr
    assert "`vla stop` first; after an emergency stop `vla reset`" in done.stderr
    assert graph.call("sim_node/arm/reflex").success
    stood = graph.q
    graph.target = graph.home + np.array([0.9, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    wait_for(lambda: graph.source() == "estop", 20.0, "the emergency stop")
    graph.control.wait_for_text("not_following", 5.0)
    assert np.abs(graph.q - stood).max() < 1e-3
    time.sleep(1.0)
    assert graph.source() == "estop", "nothing recovers by itself"
    done = vla("recover", "--robot", str(graph.file))
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stdout.split("\n") if line.startswith("arm: ") and "will" not in line]
    controllers = "joint_state_broadcaster, franka_robot_state_broadcaster, joint_trajectory_controller"
    assert told == [
        f"arm: deactivate {controllers}",
        "arm: clear the robot's error",
        "arm: activate the hardware component FrankaHardwareInterface",
        f"arm: activate {controllers}",
    ]
    assert graph.source() == "estop" and np.abs(graph.q - stood).max() < 0.01, "and nothing moves by that"
    assert graph.call("control_node/reset").success
    graph.start()
    assert graph.source() == "policy"


def test_a_reflex_is_noticed_in_a_slow_motion_long_before_the_command_is_far(graph: Graph) -> None:
    """Joint states go on with new stamps, so that nothing but their standing still tells."""
    graph.start()
    time.sleep(1.0)
    assert graph.source() == "policy", "following within the limits is no reason"
    assert graph.call("sim_node/arm/reflex").success
    stood = graph.q
    graph.target = graph.home + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.35])
    began = time.monotonic()
    wait_for(lambda: graph.source() == "estop", 20.0, "the emergency stop")
    # 0.35 rad in two seconds: 0.1 rad after less than one, and then as long as is stated.
    assert time.monotonic() - began < 3.5
    assert np.abs(graph.q - stood).max() < 1e-3
    graph.control.wait_for_text("not_following", 5.0)
    graph.control.wait_for_text("fr3_joint7 was sent 0.", 5.0)
    assert "no joint of the arm moved though joint states come" in graph.control.output
    assert "rad from its command" not in graph.control.output


def test_a_recovery_ends_where_the_robot_is_started_meanwhile(graph: Graph) -> None:
    """Nothing is commanded while control_node waits for a chunk, and the first one would be followed."""
    graph.chunks_come = False
    found = recoveries(load_robot(graph.file))
    told: list[str] = []

    def start_it(text: str) -> None:
        told.append(text)
        wait_for(lambda: graph.call("control_node/start").success, 20.0, "a start")

    for told_before in (1, 0):
        with pytest.raises(
            VlaRosError, match=r"control_node is in mode 'waiting', expected 'idle' or 'estop'"
        ):
            recover(graph.node, found, start_it)
        # The second time it waits from the beginning.
        assert len(told) == told_before
        told.clear()
    graph.chunks_come = True
    graph.target = graph.home + np.array([0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    wait_for(graph.is_there, 20.0, "the controllers to have been left alone")


def test_what_lets_go_of_an_arm_is_asked_for(start_process: Starter, ros_domain: int) -> None:
    """An overloaded motor of a WidowX is only rebooted by somebody who holds the arm, or says so."""
    pytest.importorskip("interbotix_xs_msgs.srv", reason="needs the vendors' message packages")
    sim = start_process.node("sim_node", "-p", "robot:=widowx")
    sim.wait_for_text("sim_node]: arms at home", 60.0)
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("operator", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    overload = node.create_client(Trigger, "sim_node/arm/overload")
    assert ask(overload, Trigger.Request(), step=lambda: executor.spin_once(0.05)).success
    done = vla("recover", "--robot", "widowx")
    assert done.returncode == 1 and "the arm falls. Hold it" in done.stdout
    assert "arm: will reboot the motors that report a hardware error" in done.stdout
    assert "let go" not in sim.output, "nobody agreed"
    done = vla("recover", "--robot", "widowx", "--yes")
    assert done.returncode == 0, done.stderr
    sim.wait_for_text("shoulder let go of the arm while it was rebooted", 10.0)
    assert "waist" not in sim.output, "it was in order"
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown(context=context)


def test_who_cannot_recover_says_so(ros_domain: int) -> None:
    done = vla("recover", "--robot", "agilex_cobot")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "no recovery is named in arms.left.drivers.cobot_magic, arms.right.drivers" in done.stderr
    done = vla("recover", "--robot", "franka")
    assert done.returncode == 1
    assert "no service /controller_manager/switch_controller. Is the robot's driver running?" in done.stderr
