"""The processes around the jitter benchmark.

`robot` feeds control_node, which `ordinary` starts without the right to real-time scheduling; `timer` and
`relative` are the plain contenders; `busy` burns a core; `cameras` and `viewer` send and receive images.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.message import to_message
from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.benchmarks.jitter import PERIOD_S, late_ms
from vla_ros.nodes.cdr import ImageWriter
from vla_ros.nodes.realtime import real_time_thread, sleep_until
from vla_ros.nodes.transport import RawReceiver, configure_dds, polled_subscription
from vla_ros.observation.decode import decode_image
from vla_ros.resources import robot_config
from vla_ros.robot.channels import gripper_channel, tool_channels
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import ActionChunk, FloatArray

CHUNK_EVERY, ROWS, STEP_NS = 20, 16, 100_000_000
PR_CAPBSET_DROP, CAP_SYS_NICE = 24, 23


def robot(file: str, joint_rate_hz: float) -> None:
    """Joint states of a resting arm, and at 10 Hz a chunk that has the tool sway by a centimetre."""
    path = robot_config(file)
    configuration = load_robot(path)
    (name, arm), *_ = configuration.arms.items()
    kinematics = Kinematics(read_urdf(path, arm), arm.joints, arm.base_frame, arm.tool_frame)
    home = kinematics.forward(arm.home)
    pose = np.concatenate([home[:3, 3], matrix_to_quaternion(home[:3, :3]), [0.08]])
    channels = (*tool_channels(name), gripper_channel(name))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("robot")
    qos = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    states = node.create_publisher(JointState, arm.states.topic, qos)
    chunks = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
    # Nobody obeys them here, but a start needs someone who takes the commands.
    driver = driver_for(arm)
    polled_subscription(node, driver.message_type, driver.topic, 1)
    start = node.create_client(Trigger, "control_node/start")
    # A driver shares no core with the policy.
    real_time_thread()
    period_ns = round(1e9 / joint_rate_hz)
    message = JointState(name=list(arm.joints), position=list(arm.home))
    deadline = time.monotonic_ns()
    tick = 0
    asked = None
    while True:
        deadline += period_ns
        sleep_until(deadline)
        now = node.get_clock().now()
        message.header.stamp = now.to_msg()
        states.publish(message)
        tick += 1
        if tick % CHUNK_EVERY == 0:
            chunks.publish(to_message(_chunk(channels, pose, now.nanoseconds)))
            rclpy.spin_once(node, timeout_sec=0)
            if asked is None and start.service_is_ready():
                asked = start.call_async(Trigger.Request())
            elif asked is not None and asked.done() and not asked.result().success:
                asked = None


def _chunk(channels: tuple[str, ...], pose: FloatArray, stamp_ns: int) -> ActionChunk:
    due = stamp_ns + np.arange(1, ROWS + 1) * STEP_NS
    targets = np.tile(pose, (ROWS, 1))
    targets[:, 1] += 0.01 * np.sin(2 * np.pi * 0.5 * (due % 10**12) / 1e9)
    return ActionChunk(channels, targets, due, stamp_ns)


def timer(duration_s: float) -> None:
    """A publisher on an rclpy timer, everything at its defaults."""
    node, publish = _publisher("timer")
    begins: list[int] = []

    def tick() -> None:
        begins.append(time.monotonic_ns())
        publish()

    node.create_timer(PERIOD_S, tick)
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        rclpy.spin_once(node, timeout_sec=0.1)
    _report(begins)


def relative(duration_s: float) -> None:
    """A publisher in a loop that sleeps for what is left of the period."""
    _, publish = _publisher("relative")
    begins: list[int] = []
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        begins.append(time.monotonic_ns())
        publish()
        time.sleep(max(0.0, PERIOD_S - (time.monotonic_ns() - begins[-1]) / 1e9))
    _report(begins)


def _publisher(name: str) -> tuple[Node, Callable[[], None]]:
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(name)
    publisher = node.create_publisher(Float64MultiArray, "commands", 10)
    return node, lambda: publisher.publish(Float64MultiArray(data=[0.0] * 7))


def _report(begins: list[int]) -> None:
    errors = np.abs(np.diff(begins) / 1e6 - PERIOD_S * 1e3)
    p50, p99 = np.percentile(errors, [50, 99])
    figures = {"p50": p50, "p99": p99, "max": errors.max(), "late": late_ms(begins), "ticks": len(begins)}
    print(json.dumps(figures))


def cameras(file: str) -> None:
    """Publish random pictures as the robot's cameras do."""
    configure_dds("sent")
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("cameras")
    every = list(load_robot(robot_config(file)).cameras.values())
    publishers = [node.create_publisher(Image, camera.topic, 10) for camera in every]
    writers = [ImageWriter("camera", camera.width, camera.height, "rgb8") for camera in every]
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8) for camera in every]
    due = [time.monotonic_ns()] * len(every)
    while True:
        index = int(np.argmin(due))
        sleep_until(due[index])
        publishers[index].publish(writers[index].serialise(time.time_ns(), pictures[index]))
        due[index] += round(1e9 / every[index].rate_hz)


def viewer(file: str) -> None:
    """Receive the cameras' images as policy_node does."""
    configure_dds("received")
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("viewer")
    receiver = RawReceiver(node)

    def look(data: bytes) -> None:
        decode_image(data).rgb()

    for camera in load_robot(robot_config(file)).cameras.values():
        receiver.subscribe(Image, camera.topic, 10, look)
    receiver.start()
    threading.Event().wait()


def busy() -> None:
    """Burn a core."""
    while True:
        pass


def ordinary(argv: list[str]) -> None:
    """Run a program that may not have real-time scheduling."""
    resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
    # What a process of root's may do after exec is bounded by this set; without the right to change it, or
    # the capability in it, nothing happens.
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    {
        "robot": lambda: robot(sys.argv[2], float(sys.argv[3])),
        "timer": lambda: timer(float(sys.argv[2])),
        "relative": lambda: relative(float(sys.argv[2])),
        "cameras": lambda: cameras(sys.argv[2]),
        "viewer": lambda: viewer(sys.argv[2]),
        "busy": busy,
        "ordinary": lambda: ordinary(sys.argv[2:]),
    }[sys.argv[1]]()
