"""A process that publishes chunks until it is killed: arms at home, and a base at an even velocity.

Arguments: robot YAML, forward m/s, turning rad/s.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import rclpy
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.message import to_message
from vla_ros.robot.channels import BASE_CHANNELS, joint_channels
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk

ROWS, STEP_NS, PERIOD_S = 10, 100_000_000, 0.2


def main() -> None:
    """Publish for ever."""
    file, forward, turning = sys.argv[1:]
    channels: list[str] = []
    target: list[float] = []
    for name, arm in load_robot(file).arms.items():
        channels += joint_channels(name, len(arm.joints))
        target += arm.home
    row = np.array([*target, float(forward), float(turning)])
    rclpy.init()
    node = rclpy.create_node("chunk_source")
    chunks = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
    while True:
        now = node.get_clock().now().nanoseconds
        due = now + np.arange(1, ROWS + 1, dtype=np.int64) * STEP_NS
        chunk = ActionChunk((*channels, *BASE_CHANNELS), np.tile(row, (ROWS, 1)), due, now)
        chunks.publish(to_message(chunk))
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main()
