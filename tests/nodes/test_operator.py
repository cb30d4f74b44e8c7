"""The operator against a real lifecycle node of the project's own kind, over the real middleware."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

from tests.support import wait_for
from vla_ros.errors import VlaRosError
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.lifecycle import ManagedNode, declare, trigger_service
from vla_ros.nodes.operator import GraphError, Operator

pytestmark = pytest.mark.graph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Sim(ManagedNode):
    """A node named as the simulation's, with a task and counters but no simulation."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        declare(self, "seed", 0, "Scene.")
        trigger_service(self, "reset", self._reset)
        trigger_service(self, "refuse", self._refuse)
        self.task = self.create_publisher(String, "sim_node/task", LATCHED)
        self.prompts: list[str] = []
        self.create_subscription(String, "vla/prompt", lambda m: self.prompts.append(m.data), LATCHED)
        self.diagnostics = DiagnosticsPublisher(self)
        self.active = False

    def _reset(self) -> str:
        self.task.publish(String(data="running"))
        return f"scene {self.get_parameter('seed').value}"

    def _refuse(self) -> str:
        raise VlaRosError("not now")

    def activate(self) -> None:
        self.active = True

    def deactivate(self) -> None:
        self.active = False


@pytest.fixture
def sim(ros_domain: int) -> Iterator[Sim]:
    rclpy.init(args=[])
    node = Sim()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    thread = threading.Thread(target=executor.spin, daemon=True)
    thread.start()
    yield node
    executor.shutdown(timeout_sec=2.0)
    thread.join(2.0)
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def operator(sim: Sim) -> Iterator[Operator]:
    node = rclpy.create_node("operator_test")
    operator = Operator(node, lambda: None)
    yield operator
    operator.close()
    node.destroy_node()


def test_services_parameters_and_prompt(sim: Sim, operator: Operator) -> None:
    operator.set_integer("sim_node", "seed", 1_000_042)
    assert operator.trigger("sim_node/reset") == "scene 1000042"
    with pytest.raises(GraphError, match="sim_node/refuse refused: not now"):
        operator.trigger("sim_node/refuse")
    operator.prompt("lift the red block")
    wait_for(lambda: sim.prompts == ["lift the red block"])


def test_a_verdict_of_the_scene_before_does_not_count(sim: Sim, operator: Operator) -> None:
    sim.task.publish(String(data="failure: time-out"))
    operator.forget_task()
    sim.task.publish(String(data="failure: time-out"))
    with pytest.raises(GraphError, match="the task to run"):
        operator.wait_running(0.5)
    operator.trigger("sim_node/reset")
    operator.wait_running(5.0)
    assert operator.wait_verdict(0.3) is None
    threading.Timer(0.3, lambda: sim.task.publish(String(data="success"))).start()
    assert operator.wait_verdict(5.0) == "success"


def test_waiting_for_active_means_active(sim: Sim, operator: Operator) -> None:
    with pytest.raises(GraphError, match="was not active within 1 s"):
        operator.wait_active("sim_node", 1.0)
    sim.trigger_configure()
    sim.trigger_activate()
    operator.wait_active("sim_node", 10.0)
    operator.set_active("sim_node", False)
    assert not sim.active
    operator.set_active("sim_node", True)
    assert sim.active


def test_a_fresh_report_is_newer_than_the_question(sim: Sim, operator: Operator) -> None:
    operator.fresh_report("sim_node")
    sim.diagnostics.count("frames.front.sent", 5)
    assert operator.fresh_report("sim_node")["frames.front.sent"] == "5"


def test_waiting_ends_as_soon_as_a_process_has_died(sim: Sim) -> None:
    def watch() -> None:
        raise VlaRosError("control_node ended by signal SIGKILL")

    node = rclpy.create_node("operator_test")
    operator = Operator(node, watch)
    began = time.monotonic()
    with pytest.raises(VlaRosError, match="SIGKILL"):
        operator.wait_active("control_node", 60.0)
    assert time.monotonic() - began < 5.0
    operator.close()
    node.destroy_node()
