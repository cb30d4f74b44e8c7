"""record_node as a process, and around it what it listens to: the robot's status and commands."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from mcap.reader import make_reader
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from tests.recording.messages import franka
from tests.recording.notes import notes
from tests.support import Started, Starter, claimed_domain, wait_for
from vla_ros.nodes.policy_report import shown
from vla_ros.nodes.qos import LATCHED
from vla_ros.recording.episode import read_episode

pytestmark = pytest.mark.graph

# record_node with a disk that has as many bytes left as a file says.
SMALL_DISK = """
import pathlib, sys
from vla_ros.nodes import record_node
left = pathlib.Path(sys.argv.pop(1))
record_node.free_bytes = lambda folder: int(left.read_text())
sys.exit(record_node.main())
"""


class Robot:
    """What record_node listens to, in `namespace`, and what it says of itself."""

    def __init__(self, starter: Starter, domain: int, folder: Path, namespace: str = "") -> None:
        self.folder, self.namespace = folder, namespace
        self._starter = starter
        self._environment = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node: Node = rclpy.create_node("robot", context=self.context, namespace=namespace)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.commands = self.node.create_publisher(JointState, "vla/command", 10)
        self.diagnostics = self.node.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._heard, 10)
        self.level, self.message, self.values = b"", "", dict[str, str]()
        self.appear()

    def appear(self) -> None:
        self.status = self.node.create_publisher(String, "vla/control_status", LATCHED)

    def say(self, status: str) -> None:
        self.status.publish(String(data=status))

    def follow(self, prompt: str, namespace: str | None = None) -> None:
        """As policy_node's diagnostics say it."""
        prefix = (self.namespace if namespace is None else namespace).strip("/")
        values = {"prompt": shown(prompt), "policy": "tiny", "policy_sha256": "12ab", "other": "x"}
        status = DiagnosticStatus(name=f"{prefix}/policy_node".lstrip("/"))
        status.values = [KeyValue(key=key, value=value) for key, value in values.items()]
        self.diagnostics.publish(DiagnosticArray(status=[status]))

    def command(self, value: float) -> None:
        stamp = self.node.get_clock().now().to_msg()
        message = JointState(name=["arm/joint1"], position=[value])
        message.header.stamp = stamp
        self.commands.publish(message)

    def record(self, *argv: str) -> Started:
        """Start record_node, or the program `argv` in its place, and wait until it hears the robot."""
        arguments = ["-p", "robot:=franka", "-p", f"folder:={self.folder}", "-r", f"__ns:=/{self.namespace}"]
        program = argv or ("-m", "vla_ros.nodes.record_node")
        command = [sys.executable, *program, "--ros-args", *arguments]
        process = self._starter(command, "record_node", **self._environment)
        process.wait_for_text("recordings go to")
        # Of status and command it has two readers, one to file them and one to follow them.
        for publisher, readers in ((self.status, 2), (self.commands, 2), (self.diagnostics, 1)):
            self.until(
                lambda each=publisher, count=readers: each.get_subscription_count() >= count, "record_node"
            )
        self.until(lambda: self.message != "", "its diagnostics")
        return process

    def until(self, condition: Callable[[], object], what: str) -> None:
        wait_for(condition, 20.0, what, lambda: self._executor.spin_once(timeout_sec=0.02))

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._executor.spin_once(timeout_sec=0.01)

    def recording(self) -> None:
        self.until(lambda: self.message.startswith("recording "), "the recording to begin")

    def idle(self) -> None:
        self.until(lambda: self.message == "waits for a start", "the recording to end")

    def files(self) -> list[Path]:
        return sorted(self.folder.iterdir()) if self.folder.is_dir() else []

    def _heard(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("record_node"):
                self.level, self.message = status.level, status.message
                self.values = {pair.key: pair.value for pair in status.values}

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def robot(start_process: Starter, tmp_path: Path) -> Iterator[Robot]:
    with claimed_domain() as domain:
        robot = Robot(start_process, domain, tmp_path / "recordings")
        try:
            yield robot
        finally:
            robot.close()


def statuses(file: Path) -> list[str]:
    with open(file, "rb") as stream:
        found = make_reader(stream).iter_messages(topics=["/vla/control_status"])
        return [deserialize_message(message.data, String).data for _, _, message in found]


def commands(file: Path) -> list[float]:
    return [float(value) for value in read_episode(file, franka()).command.values.ravel()]


def test_one_file_from_each_start_to_the_stop(robot: Robot) -> None:
    robot.record()
    robot.say("idle")
    robot.command(0.0)
    robot.follow("an old prompt")
    time.sleep(0.5)
    # Whatever follows the start at once is in the file.
    robot.say("waiting")
    robot.command(1.0)
    robot.recording()
    assert robot.files()[0].name == Path(robot.values["file"]).name + ".part"
    robot.follow("lift the 'red' block")
    robot.say("policy")
    robot.command(2.0)
    time.sleep(0.2)
    robot.say("waiting: stale_chunk: none reaches further")
    robot.command(3.0)
    time.sleep(0.2)
    robot.follow("lift the blue block")
    robot.follow("somebody else's", namespace="other")
    robot.say("policy")
    robot.command(4.0)
    robot.until(lambda: float(robot.values["seconds"]) > 1.0, "its length to be told")
    assert float(robot.values["disk_left_gb"]) > 0 and robot.values["messages_lost"] == "0"
    robot.say("stopping")
    robot.say("idle")
    time.sleep(0.3)
    robot.command(5.0)
    robot.idle()
    robot.command(6.0)
    robot.say("policy")
    robot.recording()
    robot.say("estop: pressed on vla/estop")
    robot.idle()
    first, second = robot.files()
    assert first.name.endswith("_0001.mcap") and second.name.endswith("_0002.mcap")
    assert commands(first) == [1.0, 2.0, 3.0, 4.0, 5.0] and commands(second) == []
    assert notes(first) == {
        "robot": "franka",
        "policy": "tiny",
        "policy_sha256": "12ab",
        "prompt": "lift the 'red' block\nlift the blue block",
        "ended": "stopped",
        "policy_acted": "true",
        "messages_lost": "0",
        "messages_not_counted": "",
        "messages_not_stored": "",
    }
    assert statuses(first)[:3] == ["idle", "waiting", "policy"]
    assert statuses(second) == ["idle", "policy", "estop: pressed on vla/estop"]
    assert notes(second)["ended"] == "emergency stop: pressed on vla/estop"
    assert robot.values["recordings"] == "2" and robot.level == DiagnosticStatus.OK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_file_is_completed_when_the_node_is_ended(robot: Robot, number: int) -> None:
    process = robot.record()
    robot.say("policy")
    robot.recording()
    robot.command(1.0)
    time.sleep(0.3)
    os.kill(process.pid, number)
    assert process.wait() == 0, process.output
    (file,) = robot.files()
    assert commands(file) == [1.0] and notes(file)["ended"] == "record_node was ended"
    # Started anew while the robot moves, it goes on with the next.
    robot.message = ""
    robot.record()
    robot.recording()
    assert [file.suffix for file in robot.files()] == [".mcap", ".part"]


def test_a_killed_node_leaves_a_part(robot: Robot) -> None:
    process = robot.record()
    robot.say("policy")
    robot.recording()
    process.kill()
    assert [file.name.split("_")[-1] for file in robot.files()] == ["0001.mcap.part"]


def test_a_control_node_that_is_gone_ends_the_file(robot: Robot) -> None:
    robot.record()
    robot.say("policy")
    robot.recording()
    robot.node.destroy_publisher(robot.status)
    robot.idle()
    (file,) = robot.files()
    assert notes(file)["ended"] == "control_node is gone"
    robot.appear()
    robot.say("policy")
    robot.recording()


def test_a_full_disk_ends_the_recording_and_nothing_else(robot: Robot, tmp_path: Path) -> None:
    left = tmp_path / "left"
    left.write_text("900000000")
    process = robot.record("-c", SMALL_DISK, str(left))
    robot.say("policy")
    robot.recording()
    robot.command(1.0)
    time.sleep(0.3)
    left.write_text("400000000")
    robot.until(lambda: robot.level == DiagnosticStatus.ERROR, "the error")
    assert robot.message.startswith("no more is recorded: disk full: 0.4 GB left where ")
    (file,) = robot.files()
    assert commands(file) == [1.0] and notes(file)["ended"].startswith("disk full: 0.4 GB left")
    # With room again, the rest of this run is none of its own.
    left.write_text("900000000")
    robot.say("waiting: stale_chunk: none")
    robot.say("policy")
    time.sleep(0.5)
    assert robot.files() == [file]
    left.write_text("400000000")
    robot.say("idle")
    robot.say("policy")
    robot.until(lambda: robot.message.startswith("not recorded: disk full"), "that it is not recorded")
    assert process.returncode is None and robot.files() == [file]
    left.write_text("900000000")
    robot.say("idle")
    robot.say("policy")
    robot.recording()
    assert robot.level == DiagnosticStatus.OK


def test_an_emergency_stop_is_recorded_until_the_robot_rests(robot: Robot) -> None:
    robot.record()
    robot.say("policy")
    robot.recording()
    robot.say("estop: pressed")
    for k in range(1, 26):
        robot.command(float(k))
        time.sleep(0.1)
    rested = time.monotonic()
    while robot.message != "waits for a start":
        robot.command(25.0)
        robot.spin(0.05)
        assert time.monotonic() - rested < 10.0
    (file,) = robot.files()
    assert [value for value in commands(file) if value != 25.0] == [float(k) for k in range(1, 25)]
    assert commands(file).count(25.0) >= 5


def test_a_policy_that_is_gone_is_not_noted(robot: Robot) -> None:
    robot.record()
    robot.follow("lift the red block")
    time.sleep(0.3)
    robot.say("policy")
    robot.recording()
    robot.say("idle")
    robot.idle()
    time.sleep(3.2)
    robot.say("policy")
    robot.recording()
    robot.say("idle")
    robot.idle()
    with_it, without = (notes(file) for file in robot.files())
    assert (with_it["policy"], with_it["policy_sha256"]) == ("tiny", "12ab")
    assert "policy" not in without and "policy_sha256" not in without


def test_a_start_while_it_is_activated_is_recorded(robot: Robot) -> None:
    robot.say("policy")
    for count in range(3):
        robot.message = ""
        process = robot.record()
        robot.recording()
        process.kill()
        assert len(robot.files()) == count + 1 and "Traceback" not in process.output


def test_no_robot_is_refused(start_process: Starter, tmp_path: Path) -> None:
    arguments = ["--ros-args", "-p", f"folder:={tmp_path}"]
    with claimed_domain() as domain:
        started = start_process(
            [sys.executable, "-m", "vla_ros.nodes.record_node", *arguments],
            "record_node",
            ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        )
        assert started.wait() == 1
    assert "record_node: parameter 'robot' is not set; start with -p robot:=..." in started.output
    assert "Traceback" not in started.output


def test_a_folder_that_is_taken_away_is_told(robot: Robot) -> None:
    process = robot.record()
    robot.folder.rmdir()
    robot.say("policy")
    robot.until(lambda: robot.level == DiagnosticStatus.ERROR, "the error")
    assert str(robot.folder) in robot.message and process.returncode is None


def test_a_folder_that_cannot_be_is_refused_by_name(robot: Robot) -> None:
    robot.folder.touch()
    with pytest.raises(AssertionError, match=r"ended \(1\)"):
        robot.record()
    output = robot._starter.started[-1].output
    assert f"recordings' folder {robot.folder}: cannot be made" in output and "Traceback" not in output


def test_a_robot_in_a_namespace(start_process: Starter, tmp_path: Path) -> None:
    with claimed_domain() as domain:
        robot = Robot(start_process, domain, tmp_path / "recordings", "left")
        try:
            robot.record()
            robot.say("policy")
            robot.recording()
            robot.follow("lift the red block")
            robot.follow("lift another", namespace="right")
            robot.command(1.0)
            time.sleep(0.5)
            robot.say("idle")
            robot.idle()
            (file,) = robot.files()
            assert commands(file) == [1.0] and notes(file)["prompt"] == "lift the red block"
        finally:
            robot.close()
