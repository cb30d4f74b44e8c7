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
from std_srvs.srv import Trigger

from tests.support import wait_for
from vla_ros.errors import VlaRosError
from vla_ros.nodes import requests, start_checks, start_steps
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.lifecycle import ManagedNode, declare, trigger_service
from vla_ros.nodes.operator import ASK_AGAIN_S, TRIGGER_TIMEOUT_S, GraphError, Operator
from vla_ros.resources import robot_config
from vla_ros.robot.config import Arm
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Sim(ManagedNode):
    """A node named as the simulation's, with a task and counters but no simulation."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        declare(self, "seed", 0, "Scene.")
        trigger_service(self, "reset", self._reset)
        trigger_service(self, "refuse", self._refuse)
        trigger_service(self, "refuse_slowly", self._refuse_slowly)
        self.slowly = 0
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

    def _refuse_slowly(self) -> str:
        self.slowly += 1
        time.sleep(ASK_AGAIN_S + 0.5)
        raise VlaRosError("the motors did not come on")

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


def test_what_was_refused_does_not_happen_later(sim: Sim, operator: Operator) -> None:
    with pytest.raises(GraphError, match="the motors did not come on"):
        operator.trigger("sim_node/refuse_slowly")
    # What had been asked meanwhile is served before the second of two more.
    for _ in range(2):
        operator.trigger("sim_node/reset")
    assert sim.slowly == 1


def test_a_node_that_is_gone_is_not_waited_for(sim: Sim, operator: Operator) -> None:
    silent = rclpy.create_node("silent_node")  # nothing spins it
    service = silent.create_service(Trigger, "~/start", lambda _, response: response)
    threading.Timer(1.0, lambda: silent.destroy_service(service)).start()
    began = time.monotonic()
    with pytest.raises(GraphError, match="silent_node/start is gone"):
        operator.trigger("silent_node/start")
    assert time.monotonic() - began < 0.5 * TRIGGER_TIMEOUT_S
    silent.destroy_node()


def steps_s(arm: Arm) -> float:
    """The longest that an arm's first steps take."""
    return len(driver_for(arm).start_steps()) * (
        start_steps.PRESENT_S + start_steps.DISCOVERED_S + start_steps.ANSWER_S
    )


@pytest.mark.parametrize("name", ["widowx", "aloha", "agilex_piper", "agilex_cobot"])
def test_a_start_is_waited_for_as_long_as_it_may_take(name: str) -> None:
    pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
    pytest.importorskip("piper_msgs.msg", reason="needs the vendors' message packages")
    robot = load_robot(robot_config(name))
    longest = start_checks.DRIVER_S + start_checks.REST_S + 2 * requests.ANSWER_S
    longest += sum(steps_s(arm) for arm in robot.arms.values())
    assert longest < TRIGGER_TIMEOUT_S


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
