"""GripperClient against a real action server that succeeds, stalls, fails, refuses or is not there."""

import threading
import time
from collections.abc import Iterator

import pytest
import rclpy
from control_msgs.action import GripperCommand
from rclpy.action import ActionServer, GoalResponse
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from tests.support import wait_for
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.gripper_client import RETRY_S, GripperClient
from vla_ros.robot.config import Gripper

GRIPPER = Gripper.model_validate(
    {
        "joints": ["left", "right"],
        "states": {"topic": "/states", "rate_hz": 15, "max_age_ms": 100},
        "width": [0.0, 0.08],
        "speed": 0.1,
        "action": {"action": "/gripper", "max_effort": 30.0, "min_change_m": 0.005},
        "commands": [0.0, 0.04],
    }
)


class Bench:
    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("client", context=self.context)
        self.server_node = rclpy.create_node("server", context=self.context)
        self.diagnostics = DiagnosticsPublisher(self.node)
        self.client = GripperClient(self.node, "arm", GRIPPER, GRIPPER.action, self.diagnostics)
        self.goals: list[tuple[float, float]] = []
        self.outcome = "succeed"
        # One thread each, as in control_node: with several for one client rclpy may handle an answer before
        # it has noted that it waits for one, and drops it.
        self.executors = []
        for node in (self.node, self.server_node):
            executor = SingleThreadedExecutor(context=self.context)
            executor.add_node(node)
            threading.Thread(target=executor.spin, daemon=True).start()
            self.executors.append(executor)

    def serve(self) -> None:
        self.server = ActionServer(
            self.server_node, GripperCommand, "/gripper", self._execute, goal_callback=self._goal
        )

    def _goal(self, _: GripperCommand.Goal) -> GoalResponse:
        return GoalResponse.REJECT if self.outcome == "refuse" else GoalResponse.ACCEPT

    def _execute(self, handle) -> GripperCommand.Result:
        self.goals.append((handle.request.command.position, handle.request.command.max_effort))
        if self.outcome == "succeed":
            handle.succeed()
        else:
            handle.abort()
        return GripperCommand.Result(position=0.01, stalled=self.outcome == "stall")

    def counter(self, name: str) -> int:
        return self.diagnostics.counters().get(f"gripper.arm.{name}", 0)

    def close(self) -> None:
        for executor in self.executors:
            executor.shutdown(timeout_sec=2.0)
        self.client.destroy()
        for node in (self.node, self.server_node):
            node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def bench(ros_domain: int) -> Iterator[Bench]:
    made = Bench(ros_domain)
    yield made
    made.close()


def test_only_a_change_is_sent(bench: Bench) -> None:
    bench.serve()
    for width in (0.08, 0.08, 0.078, 0.08):
        bench.client.want(width)
    wait_for(lambda: bench.goals, 10.0, "a goal")
    for _ in range(50):
        bench.client.want(0.08)
    bench.client.want(0.02)
    wait_for(lambda: len(bench.goals) == 2, 10.0, "the second goal")
    assert bench.goals[1] == pytest.approx((0.01, 30.0)), "one finger's travel, the YAML's effort"
    assert bench.counter("goals") == 2
    bench.client.forget()
    bench.client.want(0.02)
    wait_for(lambda: len(bench.goals) == 3, 10.0, "sent again after forget")


def test_a_server_that_comes_later_gets_the_newest_width(bench: Bench) -> None:
    bench.client.want(0.08)
    bench.client.want(0.0)
    time.sleep(0.3)
    bench.serve()
    wait_for(lambda: bench.goals, 15.0, "a goal")
    assert bench.goals[0][0] == 0.0


@pytest.mark.parametrize(("outcome", "failures"), [("stall", 0), ("fail", 1)])
def test_a_failure_is_counted_and_an_object_in_the_way_is_none(
    bench: Bench, outcome: str, failures: int
) -> None:
    bench.outcome = outcome
    bench.serve()
    bench.client.want(0.0)
    wait_for(lambda: bench.goals, 15.0, "a goal")
    wait_for(
        lambda: "at 0.0100" in bench.diagnostics._values.get("gripper.arm", ""), 10.0, "the result to be told"
    )
    assert bench.counter("failed") == failures


def test_a_refused_goal_is_counted_and_asked_again(bench: Bench) -> None:
    bench.outcome = "refuse"
    bench.serve()
    bench.client.want(0.0)
    wait_for(lambda: bench.counter("refused") >= 2, 15.0, "refusals")
    bench.outcome = "succeed"
    wait_for(lambda: bench.goals, 10.0, "the goal to be taken")


def test_a_goal_that_was_not_taken_is_not_asked_for_again_while_the_arm_is_held(bench: Bench) -> None:
    bench.outcome = "refuse"
    bench.serve()
    bench.client.want(0.0)
    wait_for(lambda: bench.counter("refused") >= 1, 15.0, "a refusal")
    bench.client.rest()
    bench.outcome = "succeed"
    asked = bench.counter("goals")
    time.sleep(3 * RETRY_S)
    assert not bench.goals
    assert bench.counter("goals") <= asked + 1, "one may have been on its way"
    bench.client.want(0.0)
    wait_for(lambda: bench.goals, 10.0, "the goal to be taken")


def test_a_width_beyond_the_range_is_brought_into_it(bench: Bench) -> None:
    bench.serve()
    bench.client.want(0.5)
    wait_for(lambda: bench.goals, 15.0, "a goal")
    assert bench.goals[0][0] == pytest.approx(0.04)
