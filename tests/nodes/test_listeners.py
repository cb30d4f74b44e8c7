"""A driver that dies is noticed although others listen to its commands: real processes, really killed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from trajectory_msgs.msg import JointTrajectory

from tests.nodes.control_graph import ControlGraph, robot_yaml
from tests.support import Started, Starter, claimed_domain, wait_for

pytestmark = pytest.mark.graph

SUBSCRIBER = """
import sys
import rclpy
from trajectory_msgs.msg import JointTrajectory
rclpy.init()
node = rclpy.create_node(sys.argv[1])
node.create_subscription(JointTrajectory, sys.argv[2], lambda _: None, 10)
print("listens", flush=True)
rclpy.spin(node)
"""


@pytest.fixture
def graph(start_process: Starter, tmp_path: Path) -> Iterator[ControlGraph]:
    """Without a driver: joint states only."""
    with claimed_domain() as domain:
        graph = ControlGraph(start_process, domain, robot_yaml(tmp_path), launch=False)
        try:
            graph.disconnect_driver()
            graph.process = graph.start_node()
            yield graph
        finally:
            graph.close()


def topic(graph: ControlGraph) -> str:
    assert graph.arm.drivers.joint_trajectory is not None
    return graph.arm.drivers.joint_trajectory.topic


def environment(graph: ControlGraph) -> dict[str, str]:
    return {"ROS_DOMAIN_ID": str(graph.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def subscriber(graph: ControlGraph, name: str) -> Started:
    argv = [sys.executable, "-c", SUBSCRIBER, name, topic(graph)]
    process = graph.starter(argv, name, **environment(graph))
    process.wait_for_text("listens")
    return process


def recorder(graph: ControlGraph, folder: Path) -> Started:
    arguments = ("-p", f"robot:={graph.file}", "-p", f"folder:={folder}")
    process = graph.starter.node("record_node", *arguments, **environment(graph))
    process.wait_for_text("recordings go to")
    return process


def seen(graph: ControlGraph, *names: str) -> None:
    def listed() -> bool:
        infos = graph.node.get_subscriptions_info_by_topic(topic(graph))
        return {info.node_name for info in infos} == set(names)

    wait_for(listed, 20.0, f"{names} to subscribe")


def stay(graph: ControlGraph) -> None:
    graph.send(graph.chunk(graph.joint_chunk().channels, np.tile([*graph.home, 0.08], (200, 1))))


def test_a_driver_that_is_killed_while_others_record_is_noticed(graph: ControlGraph, tmp_path: Path) -> None:
    recorder(graph, tmp_path / "recordings")
    subscriber(graph, "rosbag2_recorder")
    driver = subscriber(graph, "arm_controller")
    seen(graph, "record_node", "rosbag2_recorder", "arm_controller")
    graph.start()
    stay(graph)
    graph.wait_source("policy")
    driver.kill()
    graph.wait_source("hold", 30.0)
    wait_for(lambda: "driver_gone" in graph.diagnostics["hold_reason"], 10.0, "the reason")
    text = "but record_node, rosbag2_recorder, which only listens"
    assert text in graph.diagnostics["hold_reason"]
    # A new one is taken up, as without any recorder.
    subscriber(graph, "arm_controller")

    def taken_up() -> bool:
        stay(graph)
        return graph.sources[-1] == "policy"

    wait_for(taken_up, 20.0, "chunks to be followed again")


def test_a_start_with_nobody_but_a_recorder_is_refused(graph: ControlGraph, tmp_path: Path) -> None:
    recorder(graph, tmp_path / "recordings")
    seen(graph, "record_node")
    text = f"nobody subscribes to {topic(graph)} but record_node, which only listens"
    wait_for(lambda: text in graph.call("start").message, 20.0, "start to be refused")


def test_who_listens_to_joint_states_is_no_driver(graph: ControlGraph) -> None:
    """Piper_ros's launch files have its commands sent on /joint_states, where these listen too."""
    names = ("joint_state_publisher_gui", "robot_state_publisher", "rosbridge_websocket", "vla_operator")
    nodes = [rclpy.create_node(name, context=graph.context) for name in names]
    try:
        for node in nodes:
            node.create_subscription(JointTrajectory, topic(graph), lambda _: None, 10)
        seen(graph, *names)
        text = f"nobody subscribes to {topic(graph)} but {', '.join(names)}, which only listens"
        wait_for(lambda: text in graph.call("start").message, 20.0, "start to be refused")
    finally:
        for node in nodes:
            node.destroy_node()


def test_a_subscriber_of_any_other_name_is_a_driver(graph: ControlGraph) -> None:
    subscriber(graph, "my_recorder")
    seen(graph, "my_recorder")
    graph.start()
