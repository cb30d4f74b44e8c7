"""`vla robot check --live` against real nodes: the twin, and drivers of two arms with a fault each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
import yaml
from geometry_msgs.msg import PoseStamped
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, String

from tests.support import Starter
from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.nodes.graph_look import look
from vla_ros.nodes.qos import LATCHED
from vla_ros.robot.config import Robot
from vla_ros.robot.graph_check import Line
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf

pytestmark = pytest.mark.graph

CONFIGS = Path(__file__).parents[2] / "robot_configs"
RATE_HZ = 20.0


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    """Two Frankas that are commanded in joint positions and publish their tools' poses, and one camera."""
    file = tmp_path / "two.yaml"
    stream = {"rate_hz": RATE_HZ, "max_age_ms": 500, "reliability": "reliable"}
    arms = {
        side: {
            "driver": "joint_position",
            "published_pose": {"topic": f"/{side}/pose", "type": "pose_stamped"},
            "states": {"topic": f"/{side}/joint_states", **stream},
            "gripper": None,
        }
        for side in ("left", "right")
    }
    camera = {"topic": "/front/image", "width": 64, "height": 48, "rate_hz": 10}
    fields = {
        "extends": str(CONFIGS / "franka_dual.yaml"),
        "name": "two",
        "arms": arms,
        "cameras": {"front": camera, "left_wrist": None, "right_wrist": None},
        "safety": {"joint_states_timeout_ms": 100},
        "control": {"rate_hz": RATE_HZ},
    }
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    return file


class Drivers:
    """What the two arms' drivers and the camera publish; each attribute is what a test makes wrong."""

    def __init__(self, context: Context, robot: Robot, file: Path, name: str = "drivers") -> None:
        self.node = Node(name, context=context)
        self.robot = robot
        self.states = {"left": "/left/joint_states", "right": "/right/joint_states"}
        self.kinematics = {}
        self.turn = {"left": 0.3, "right": -0.3}
        for name, arm in robot.arms.items():
            xml = read_urdf(file, arm)
            self.kinematics[name] = Kinematics(xml, arm.joints, arm.base_frame, arm.tool_frame)
            assert arm.robot_description is not None
            self.publisher(String, arm.robot_description, LATCHED).publish(String(data=xml))
            topic = f"/{name}/forward_position_controller/commands"
            self.node.create_subscription(Float64MultiArray, topic, lambda _: None, 10)

    def publisher(self, kind: type, topic: str, qos: QoSProfile | int = 10):
        return self.node.create_publisher(kind, topic, qos)

    def now(self):
        return self.node.get_clock().now().to_msg()

    def publish_states(self, name: str, topic: str, qos: QoSProfile | int = 10, scale: float = 1.0) -> None:
        arm, publisher = self.robot.arms[name], self.publisher(JointState, topic, qos)

        def publish() -> None:
            message = JointState(name=arm.joints, position=[scale * float(value) for value in self.q(name)])
            message.header.stamp = self.now()
            publisher.publish(message)

        self.node.create_timer(1 / RATE_HZ, publish)

    def publish_pose(self, name: str) -> None:
        publisher = self.publisher(PoseStamped, f"/{name}/pose", QoSProfile(depth=1))

        def publish() -> None:
            pose = self.kinematics[name].forward(self.q(name))
            message = PoseStamped()
            message.header.stamp = self.now()
            position, orientation = message.pose.position, message.pose.orientation
            position.x, position.y, position.z = pose[:3, 3].tolist()
            orientation.x, orientation.y, orientation.z, orientation.w = matrix_to_quaternion(
                pose[:3, :3]
            ).tolist()
            publisher.publish(message)

        self.node.create_timer(1 / RATE_HZ, publish)

    def publish_images(self, width: int, height: int, rate_hz: float) -> None:
        publisher = self.publisher(Image, "/front/image")
        data = np.zeros(width * height * 3, np.uint8).tobytes()

        def publish() -> None:
            message = Image(width=width, height=height, step=3 * width, encoding="rgb8", data=data)
            message.header.stamp = self.now()
            publisher.publish(message)

        self.node.create_timer(1 / rate_hz, publish)

    def q(self, name: str) -> list[float]:
        return [self.turn[name], *self.robot.arms[name].home[1:]]


@pytest.fixture
def context(ros_domain: int) -> Iterator[Context]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    yield context
    context.try_shutdown()


def look_at(context: Context, drivers: Drivers, file: Path, namespace: str = "/") -> dict[str, Line]:
    """{what: line} with the drivers spinning meanwhile."""
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(drivers.node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, daemon=True)
    thread.start()
    node = Node("looker", context=context, namespace=namespace)
    try:
        return {line.what: line for line in look(node, drivers.robot, file)}
    finally:
        node.destroy_node()
        executor.shutdown(2.0)
        thread.join(5.0)
        drivers.node.destroy_node()


def wrong(lines: dict[str, Line]) -> dict[str, Line]:
    return {what: line for what, line in lines.items() if line.ok is False}


def test_two_arms_as_the_yaml_says(context: Context, robot_file: Path) -> None:
    robot = load_robot(robot_file)
    drivers = Drivers(context, robot, robot_file)
    for name in robot.arms:
        drivers.publish_states(name, drivers.states[name])
        drivers.publish_pose(name)
    drivers.publish_images(64, 48, 10.0)
    lines = look_at(context, drivers, robot_file)
    # Nothing publishes the camera's info. (Rates are the machine's as much as the drivers'.)
    others = [what for what, line in wrong(lines).items() if " Hz, declared" not in line.found]
    assert others == ["cameras.front.camera_info /front/color/camera_info"], lines
    assert lines["arms.left kinematics against /left/pose"].ok
    assert lines["arms.right frames and joints in /right/robot_description"].ok
    assert lines["arms.left.drivers.joint_position.topic /left/forward_position_controller/commands"].ok
    assert lines["cameras.front"].found == "64×48"


def test_a_recorder_of_the_commands_is_no_driver(context: Context, robot_file: Path) -> None:
    robot = load_robot(robot_file)
    lines = look_at(context, Drivers(context, robot, robot_file, "record_node"), robot_file)
    command = lines["arms.left.drivers.joint_position.topic /left/forward_position_controller/commands"]
    assert command.ok is False and command.found == "no subscriber"


def test_swapped_namespaces_and_other_faults(context: Context, robot_file: Path) -> None:
    robot = load_robot(robot_file)
    drivers = Drivers(context, robot, robot_file)
    drivers.publish_states("left", "/right/joint_states")
    drivers.publish_states(
        "right", "/left/joint_states", QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
    )
    for name in robot.arms:
        drivers.publish_pose(name)
    drivers.publish_images(128, 48, 5.0)
    lines = wrong(look_at(context, drivers, robot_file))
    states = lines["arms.left.states.topic /left/joint_states"]
    assert states.found == "/drivers is best effort: a reliable subscriber gets nothing"
    assert states.fix == "write reliability: best_effort beside arms.left.states.topic"
    assert lines["cameras.front"].fix.startswith("write width: 128 and height: 48")
    assert "declared 10 Hz" in lines["cameras.front.topic /front/image"].found
    # What the left arm's states say is not known, so only the right arm's tool is found elsewhere.
    assert "kinematics against /right/pose" in " ".join(lines)


def test_arms_measured_in_each_others_namespace(context: Context, robot_file: Path) -> None:
    robot = load_robot(robot_file)
    drivers = Drivers(context, robot, robot_file)
    drivers.publish_states("left", "/right/joint_states")
    drivers.publish_states("right", "/left/joint_states")
    for name in robot.arms:
        drivers.publish_pose(name)
    lines = wrong(look_at(context, drivers, robot_file))
    for name, other in (("left", "right"), ("right", "left")):
        line = lines[f"arms.{name} kinematics against /{name}/pose"]
        assert f"it fits the joint states of arm '{other}'" in line.found
        assert line.fix.startswith(
            f"the two arms are swapped: swap arms.{name}.states.topic and arms.{other}"
        )


def test_degrees_another_type_and_another_urdf(context: Context, robot_file: Path) -> None:
    robot = load_robot(robot_file)
    drivers = Drivers(context, robot, robot_file)
    drivers.publish_states("left", "/left/joint_states", scale=57.29578)
    xml = read_urdf(robot_file, robot.arms["right"]).replace("fr3_hand_tcp", "hand_tcp")
    drivers.publisher(String, "/right/robot_description", LATCHED).publish(String(data=xml))
    drivers.publisher(CompressedImage, "/front/image")
    drivers.publisher(JointState, "/arm_2/joint_states")
    lines = wrong(look_at(context, drivers, robot_file))
    assert "degrees?" in lines["arms.left.joints"].fix
    assert lines["cameras.front.topic /front/image"].fix == (
        "write transport: compressed beside cameras.front.topic"
    )
    missing = lines["arms.right.states.topic /right/joint_states"]
    assert missing.found == "no publisher" and "/arm_2/joint_states" in missing.fix


def test_relative_names_are_looked_for_in_the_namespace(context: Context, robot_file: Path) -> None:
    text = robot_file.read_text(encoding="utf-8")
    robot_file.write_text(
        text.replace("topic: /left/joint_states", "topic: left/joint_states"), encoding="utf-8"
    )
    robot = load_robot(robot_file)
    drivers = Drivers(context, robot, robot_file)
    drivers.publish_states("left", "/cell/left/joint_states")
    lines = look_at(context, drivers, robot_file, "/cell")
    assert " Hz, declared 20 Hz" in lines["arms.left.states.topic /cell/left/joint_states"].found
    assert lines["arms.left.joints"].ok


def test_the_twin_is_as_its_yaml_says(start_process: Starter, ros_domain: int) -> None:
    """The whole command, on the simulated Franka."""
    sim = start_process.node("sim_node", "-p", "robot:=franka")
    sim.wait_for_text("sim_node]: seed", 60)
    done = check("franka", "--live")
    # Rates are the machine's as much as the twin's.
    lines = [
        line for line in done.stdout.split("\n") if line.startswith("│ no") and " Hz, declared" not in line
    ]
    assert lines == [], done.stdout
    for text in ("arms.arm frames and joints in /robot_description", "/franka_gripper/gripper_action"):
        assert text in done.stdout
    assert done.returncode == ("│ no" in done.stdout), done.stderr


def test_an_aggregated_topic_is_told_by_its_rate(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    """franka_ros2's /joint_states holds the same joints, at 30 Hz."""
    sim = start_process.node("sim_node", "-p", "robot:=franka")
    sim.wait_for_text("sim_node]: seed", 60)
    file = tmp_path / "mine.yaml"
    states = {"topic": "/joint_states", "reliability": "reliable", "max_age_ms": 100}
    fields = {"extends": str(CONFIGS / "franka.yaml"), "name": "mine", "arms": {"arm": {"states": states}}}
    file.write_text(yaml.safe_dump(fields), encoding="utf-8")
    done = check(str(file), "--live")
    (line,) = [line for line in done.stdout.split("\n") if "arms.arm.states.topic /joint_states" in line]
    assert line.startswith("│ no") and "Hz, declared 1000 Hz" in line
    assert 24 < float(line.split("│")[3].split(" Hz")[0]) < 36
    assert "too slow for control.rate_hz = 100: name the arm's own broadcaster" in line
    assert "/franka_robot_state_broadcaster/measured_joint_states" in line
    assert done.returncode == 1


def test_nothing_runs(ros_domain: int) -> None:
    done = check("franka", "--live")
    assert done.returncode == 1
    assert "no publisher" in done.stdout and "no subscriber" in done.stdout and "no action" in done.stdout
    assert done.stderr.startswith("vla: 12 of 15 lines are wrong (") and "Traceback" not in done.stderr


def check(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", "robot", "check", *argv],
        env={**os.environ, "COLUMNS": "600"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
