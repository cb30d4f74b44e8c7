"""Whether a driver takes the commands that are published for it. A recorder or a plot subscribes to them as
well, and would hide that the driver is gone."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node

# How the names of nodes begin that are known to look on only: ours, rosbag2, what is there to see with, and
# `ros2 topic echo`; and who listens to /joint_states, where Piper_ros's launch files have its commands sent.
# Every other node counts as a driver, one whose name is not known yet too.
LISTENERS = (
    "record_node",
    "vla_operator",
    "demo_recorder",
    "rosbag2_recorder",
    "rviz",
    "rqt_",
    "plotjuggler",
    "foxglove_bridge",
    "rosbridge_websocket",
    "robot_state_publisher",
    "joint_state_publisher",
    "_ros2cli_",
)


def only_listens(node: str) -> bool:
    """Whether a node of this name, with or without its namespace, is known to look on only."""
    return node.rpartition("/")[2].startswith(LISTENERS)


def unheard(node: Node, publisher: Any) -> str:
    """Why nobody acts on what `publisher` (of `node`) publishes, for people; "" where somebody does.

    Costs 0.04 ms where somebody subscribes: for the executor's thread.
    """
    topic = publisher.topic_name
    if not publisher.get_subscription_count():
        return f"nobody subscribes to {topic}"
    names = {info.node_name for info in node.get_subscriptions_info_by_topic(topic)}
    # None: the graph is told of its nodes a moment after the subscription is matched.
    if not names or not all(only_listens(name) for name in names):
        return ""
    return f"nobody subscribes to {topic} but {', '.join(sorted(names))}, which only listens"
