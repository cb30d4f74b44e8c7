"""control_node's watchdogs on the real path: something dies, the arm is held, what comes back is taken up."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from tests.nodes.control_graph import ControlGraph, robot_yaml
from tests.support import Started, Starter, claimed_domain, wait_for
from vla_ros.nodes.qos import STATUS_QOS

pytestmark = pytest.mark.graph

POLICY = """
import time
import rclpy
from std_msgs.msg import String
from vla_ros.nodes.qos import STATUS_QOS
rclpy.init()
node = rclpy.create_node("policy")
publisher = node.create_publisher(String, "vla/policy_status", STATUS_QOS)
publisher.publish(String(data="running"))
print("alive", flush=True)
while True:
    time.sleep(60)
"""

# control_node, but what the file says happens to the commanding thread: "crash", "hang" for half a second, or
# "hold" until a file beside it is gone.
FAULTY = """
import pathlib, sys, time
from vla_ros.nodes import control_node

fault = pathlib.Path(sys.argv.pop(1))

class Faulty(control_node.ControlNode):
    def _tick(self, now_ns, steady_ns):
        if fault.exists():
            what = fault.read_text()
            fault.unlink()
            if what == "crash":
                raise RuntimeError("a mistake in the code")
            super()._tick(now_ns, steady_ns)
            if what == "hang":
                time.sleep(0.5)
            while fault.with_suffix(".held").exists():
                time.sleep(0.01)
        else:
            super()._tick(now_ns, steady_ns)

control_node.ControlNode = Faulty
sys.exit(control_node.main())
"""


@pytest.fixture
def graph(start_process: Starter, tmp_path: Path) -> Iterator[ControlGraph]:
    """With a faulty control_node: `tmp_path / "fault"` is what FAULTY reads."""
    with claimed_domain() as domain:
        graph = ControlGraph(start_process, domain, robot_yaml(tmp_path), launch=False)
        try:
            graph.process = start_process(
                [
                    *(sys.executable, "-c", FAULTY, str(tmp_path / "fault")),
                    *("--ros-args", "-p", f"robot:={graph.file}"),
                ],
                "control_node",
                **environment(domain),
            )
            graph.process.wait_for_text("commanding at", 60.0)
            yield graph
        finally:
            graph.close()


def environment(domain: int) -> dict[str, str]:
    return {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def follow(graph: ControlGraph, seconds: int = 20) -> None:
    """Follow one chunk that is long enough to be under way at the end of the test."""
    graph.start()
    graph.send(graph.joint_chunk(0.6, rows=10 * seconds))
    graph.wait_source("policy")
    wait_for(lambda: np.ptp(graph.sent_joints()[:, 0]) > 0.01, 10.0, "the arm to move")


def policy_process(graph: ControlGraph, start_process: Starter) -> Started:
    policy = start_process([sys.executable, "-c", POLICY], "policy", **environment(graph.domain))
    policy.wait_for_text("alive")
    wait_for(lambda: graph.diagnostics.get("policy_process") == "alive", 30.0, "the policy to be seen")
    return policy


@pytest.mark.complaint("lerobot 2356")
def test_a_dead_policy_process_is_noticed_before_its_chunk_ends(
    graph: ControlGraph, start_process: Starter
) -> None:
    policy = policy_process(graph, start_process)
    follow(graph)
    policy.kill()
    killed = time.monotonic()
    graph.wait_source("hold", 10.0)
    assert time.monotonic() - killed < 5.0, "the chunk goes on for 15 s"
    graph.settle()
    graph.wait_count("interventions.policy_gone", 0)
    assert "policy_gone" in graph.diagnostics["hold_reason"]
    assert graph.diagnostics["policy_process"] == "gone"
    graph.assert_limits()
    # What comes back is taken up without a new start.
    policy_process(graph, start_process)
    graph.send(graph.chunk(*near(graph)))
    graph.wait_source("policy")
    wait_for(lambda: graph.diagnostics["hold_reason"] == "", 10.0, "no reason to hold")


def near(graph: ControlGraph) -> tuple[tuple[str, ...], np.ndarray]:
    """Channels and targets that stay where the arm is."""
    channels = graph.joint_chunk().channels
    return channels, np.tile([*graph.q, 0.08], (20, 1))


def test_one_of_two_policies_may_go(graph: ControlGraph, start_process: Starter) -> None:
    """A policy that was restarted is alive before the one that died has timed out."""
    first = policy_process(graph, start_process)
    publisher = graph.node.create_publisher(String, "vla/policy_status", STATUS_QOS)
    wait_for(lambda: publisher.get_subscription_count() == 1, 10.0, "control_node")
    time.sleep(0.5)
    follow(graph)
    first.kill()
    time.sleep(1.5)
    assert graph.sources[-1] == "policy"
    assert graph.diagnostics["policy_process"] == "alive"


def test_a_driver_that_goes_is_noticed_and_taken_up_again(graph: ControlGraph) -> None:
    follow(graph)
    graph.disconnect_driver()
    graph.wait_source("hold", 10.0)
    graph.wait_count("interventions.driver_gone", 0)
    assert graph.arm.drivers.joint_trajectory.topic in graph.diagnostics["hold_reason"]
    graph.settle()
    graph.send(graph.chunk(*near(graph)))
    time.sleep(0.5)
    assert graph.sources[-1] == "hold", "commands that nobody takes are not begun"
    graph.connect_driver()

    def taken_up() -> bool:
        graph.send(graph.chunk(*near(graph)))
        return graph.sources[-1] == "policy"

    wait_for(taken_up, 15.0, "chunks to be followed again")
    graph.assert_limits()


def test_a_start_without_a_driver_is_refused(graph: ControlGraph) -> None:
    graph.disconnect_driver()
    text = f"nobody subscribes to {graph.arm.drivers.joint_trajectory.topic}"
    for service in ("start", "home"):
        wait_for(lambda what=service: text in graph.call(what).message, 15.0, f"{service} to be refused")
    graph.connect_driver()
    graph.start()


def test_an_arm_that_does_not_obey_is_an_emergency_stop_with_its_reason(graph: ControlGraph) -> None:
    graph.start()
    graph.obeys = False
    graph.send(graph.joint_chunk(0.6, rows=30))
    graph.wait_source("estop", 20.0)
    wait_for(lambda: "not_following" in graph.diagnostics["estop_reason"], 10.0, "the reason")
    graph.wait_count("interventions.not_following", 0)
    assert "emergency stop (not_following)" in graph.process.output
    # One truth: what a watchdog raised is told as the source, never published on the topic that presses.
    names = {info.node_name for info in graph.node.get_publishers_info_by_topic("/vla/estop")}
    assert names == {"robot"}
    assert "reset" in graph.call("start").message
    graph.obeys = True
    assert graph.call("reset").success
    graph.start()
    graph.assert_limits()


def test_a_commanding_thread_that_hangs_is_told_with_its_stack(graph: ControlGraph, tmp_path: Path) -> None:
    follow(graph)
    (tmp_path / "fault").write_text("hang")
    graph.wait_count("loop_stalled", 0)
    graph.process.wait_for_text("the commanding thread has not ticked for")
    graph.process.wait_for_text("time.sleep(0.5)" if sys.version_info >= (3, 13) else "_tick")
    graph.wait_count("overruns", 30)
    # It goes on by itself: the arm was on its way to rest, and is held and then taken up from there.
    graph.wait_count("interventions.stalled", 0)
    graph.wait_source("policy")
    graph.assert_limits()


def test_a_start_that_was_answered_with_no_does_not_happen_later(graph: ControlGraph, tmp_path: Path) -> None:
    held = tmp_path / "fault.held"
    held.touch()
    (tmp_path / "fault").write_text("hold")
    wait_for(lambda: not (tmp_path / "fault").exists(), 10.0, "the commanding thread to be held")
    response = graph.call("start")
    assert not response.success and "did not answer" in response.message
    held.unlink()
    graph.wait_count("overruns", 90)
    before = graph.count("refused_chunks.not_started")
    graph.send(graph.joint_chunk())
    graph.wait_count("refused_chunks.not_started", before)


def test_a_commanding_thread_that_dies_ends_the_process_and_the_arm_comes_to_rest(
    graph: ControlGraph, tmp_path: Path
) -> None:
    follow(graph)
    (tmp_path / "fault").write_text("crash")
    assert graph.process.wait(20.0) == 1
    assert "RuntimeError: a mistake in the code" in graph.process.output
    message = graph.driver_messages[-1][1]
    assert isinstance(message, JointTrajectory)
    assert len(message.points) > 1
    assert list(message.points[-1].velocities) == [0.0] * 7
    end = np.array(message.points[-1].positions)
    order = [message.joint_names.index(name) for name in graph.arm.joints]
    wait_for(lambda: np.allclose(graph.q, end[order], atol=1e-3), 5.0, "the arm to rest at the way's end")
