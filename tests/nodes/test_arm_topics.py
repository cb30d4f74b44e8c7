"""What an arm's driver is told, on a real topic."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from trajectory_msgs.msg import JointTrajectory

from tests.support import wait_for
from vla_ros.nodes.arm_topics import ArmTopics
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.output import HandedLog
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import Command, Motion

FRANKA = Path(__file__).parents[2] / "robot_configs" / "franka.yaml"
ARM = load_robot(FRANKA).arms["arm"]
BEGIN_NS, PERIOD_NS = 1_700_000_000_000_000_000, 10_000_000


def command(tick: int, away: float = 0.0) -> Command:
    """Of an arm in motion, `away` rad from its way."""
    after_s = 0.01 * np.arange(1, 6)
    at = (tick * 0.01 + after_s)[:, None] * np.ones(len(ARM.joints))
    motion = Motion(
        after_s, np.array(ARM.home) + away + 0.2 * np.sin(at), 0.2 * np.cos(at), -0.2 * np.sin(at)
    )
    stamp_ns = BEGIN_NS + tick * PERIOD_NS
    return Command(stamp_ns, stamp_ns, "hold", motion.q[0], motion, None, None)


def test_a_message_that_was_prepared_and_not_sent_leaves_no_trace(ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = rclpy.create_node("control", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    spin = partial(executor.spin_once, timeout_sec=0.05)
    arm = ARM.model_copy(update={"gripper": None})
    heard: list[JointTrajectory] = []
    driver = driver_for(arm)
    node.create_subscription(JointTrajectory, driver.topic, heard.append, 10)
    topics = ArmTopics(
        node, "arm", arm, driver, read_urdf(FRANKA, ARM), DiagnosticsPublisher(node), HandedLog(None)
    )
    try:
        wait_for(lambda: not topics.unheard(), 10.0, "the subscription to be discovered")
        sent = [command(0), command(1), command(3)]
        for each in sent[:2]:
            topics.send(topics.message(each))
        topics.message(command(2, away=0.3))
        topics.send(topics.message(sent[2]))
        wait_for(lambda: len(heard) == 3, 10.0, "three messages", spin)
    finally:
        topics.destroy()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    other = driver_for(arm)
    pose = topics.kinematics.forward
    assert heard == [other.message(each.motion, pose(each.sent), None, each.stamp_ns) for each in sent]
