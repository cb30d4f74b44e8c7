"""The recorder on real topics: publishers and recorder in one process, through the real middleware."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data

from tests.recording.messages import franka, image, joint_state, text
from tests.recording.notes import notes
from tests.support import wait_for
from vla_ros.errors import VlaRosError
from vla_ros.nodes.episode_recorder import EpisodeRecorder, take_stamped
from vla_ros.nodes.topic_types import message_class
from vla_ros.nodes.transport import polled_subscription
from vla_ros.recording.episode import read_episode
from vla_ros.recording.topics import COMMAND, PROMPT, TASK, recorded_topics

pytestmark = pytest.mark.graph

ROBOT_YAML = "name: franka\n"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture
def node(ros_domain: int) -> Iterator[Node]:
    rclpy.init(args=[])
    node = rclpy.create_node("recorder_test")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture
def recorder(node: Node) -> Iterator[EpisodeRecorder]:
    recorder = EpisodeRecorder(node, recorded_topics(franka()), ROBOT_YAML)
    recorder.start()
    yield recorder
    recorder.close()


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow beyond: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def publisher(node: Node, kind: str, topic: str, qos: QoSProfile | int = 10) -> Callable[[bytes], None]:
    made = node.create_publisher(message_class(kind), topic, qos)
    wait_for(lambda: made.get_subscription_count() >= 1, what=f"the recorder on {topic}")
    return made.publish


def test_an_episode_is_recorded_from_the_wire(node: Node, recorder: EpisodeRecorder, tmp_path: Path) -> None:
    robot = franka()
    arm = robot.arms["arm"]
    states = publisher(node, "sensor_msgs/msg/JointState", arm.states.topic, qos_profile_sensor_data)
    commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    front = publisher(node, "sensor_msgs/msg/Image", robot.cameras["front"].topic)
    prompt = publisher(node, "std_msgs/msg/String", PROMPT, LATCHED)
    task = publisher(node, "std_msgs/msg/String", TASK, LATCHED)
    prompt(text("lift the red block"))
    commands(joint_state(1, ["arm/joint1"], [9.0]))
    time.sleep(0.3)  # what is said before the episode does not belong to it

    recorder.begin(tmp_path / "episode.mcap")
    began = time.time_ns()
    picture = np.full((480, 640, 3), (200, 30, 30), np.uint8)
    for k in range(1000):
        now = time.time_ns()
        states(joint_state(now, arm.joints, [k / 1000] * 7))
        if k % 10 == 0:
            commands(joint_state(now, ["arm/joint1"], [k / 1000]))
        if k % 33 == 0:
            front(image(now, picture))
        time.sleep(0.001)
    elapsed_s = (time.time_ns() - began) / 1e9
    task(text("success"))
    time.sleep(0.3)
    recorder.finish({"outcome": "success"})

    episode = read_episode(tmp_path / "episode.mcap", robot)
    # Every command, in order; what came before the episode is not in it.
    np.testing.assert_allclose(episode.command.column("arm/joint1"), np.arange(100) / 100)
    # Fast streams are thinned, not decimated to nothing, and their order holds.
    joints = episode.joints["arm"]
    assert 30 * elapsed_s <= len(joints.stamps_ns) <= 105 * elapsed_s
    assert (np.diff(joints.stamps_ns) > 0).all()
    assert 4 * elapsed_s <= len(episode.images["front"]) <= 11 * elapsed_s + 1
    assert [value for _, value in episode.texts[TASK]] == ["success"]


def test_what_was_latched_before_is_in_every_episode(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path
) -> None:
    task = publisher(node, "std_msgs/msg/String", TASK, LATCHED)
    task(text("running"))
    time.sleep(0.3)
    for name in ("a.mcap", "b.mcap"):
        recorder.begin(tmp_path / name)
        recorder.finish({})
        assert [value for _, value in read_episode(tmp_path / name, franka()).texts[TASK]] == ["running"]


def test_an_image_that_cannot_be_stored_is_missing_aloud(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path
) -> None:
    front = publisher(node, "sensor_msgs/msg/Image", franka().cameras["front"].topic)
    commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    recorder.begin(tmp_path / "episode.mcap")
    front(image(1, np.zeros((4, 4, 1), np.uint8), "32FC1"))
    time.sleep(0.5)
    commands(joint_state(time.time_ns(), ["arm/joint1"], [0.5]))
    time.sleep(0.2)
    with pytest.raises(VlaRosError, match=r"1 messages of /front.*32FC1"):
        recorder.finish({})
    assert "32FC1" in notes(tmp_path / "episode.mcap")["messages_not_stored"]
    episode = read_episode(tmp_path / "episode.mcap", franka())
    assert episode.command.column("arm/joint1").tolist() == [0.5] and not episode.images["front"]
    recorder.begin(tmp_path / "next.mcap")
    recorder.finish({})
    assert not notes(tmp_path / "next.mcap")["messages_not_stored"]


def test_a_full_disk_is_told_and_what_was_written_stays(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path
) -> None:
    commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    recorder.begin(tmp_path / "episode.mcap")
    commands(joint_state(time.time_ns(), ["arm/joint1"], [0.5]))
    wait_for(lambda: (tmp_path / "episode.mcap.part").stat().st_size > 0, what="something to be written")
    with file_size_limit((tmp_path / "episode.mcap.part").stat().st_size + 10_000):
        for _ in range(2000):
            commands(joint_state(time.time_ns(), ["arm/joint1"] * 50, np.random.default_rng(1).random(50)))
            time.sleep(0.001)
        wait_for(lambda: recorder.error is not None, what="the error")
    with pytest.raises(OSError, match="File too large"):
        recorder.finish({})
    assert [file.name for file in tmp_path.iterdir()] == ["episode.mcap.part"]
    recorder.begin(tmp_path / "next.mcap")
    recorder.finish({})


def test_what_was_published_and_did_not_arrive_is_counted(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path
) -> None:
    commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    recorder.begin(tmp_path / "episode.mcap")
    commands(joint_state(1, ["arm/joint1"], [0.0]))
    time.sleep(0.2)
    assert recorder.lost == 0
    with recorder._lock:  # its thread stands still with the next message, and the queue holds 1000
        commands(joint_state(1, ["arm/joint1"], [0.0]))
        time.sleep(0.2)
        for k in range(1060):
            commands(joint_state(1, ["arm/joint1"], [float(k)]))
        time.sleep(0.3)
    wait_for(lambda: recorder.lost > 0, what="the loss to be seen")
    time.sleep(0.3)
    recorder.finish({})
    stored = read_episode(tmp_path / "episode.mcap", franka()).command.values.ravel()
    assert stored[-1] == 1059.0 and len(stored) + recorder.lost == 1062
    assert notes(tmp_path / "episode.mcap")["messages_lost"] == str(recorder.lost)


def test_numbers_of_several_publishers_tell_no_loss(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path
) -> None:
    early = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    late = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    for k in range(50):
        early(joint_state(k, ["arm/joint1"], [9.0]))
    time.sleep(0.3)
    # Whoever else published before the file began does not matter.
    recorder.begin(tmp_path / "one.mcap")
    for k in range(5):
        late(joint_state(k, ["arm/joint1"], [float(k)]))
    time.sleep(0.3)
    assert (recorder.lost, recorder.not_counted) == (0, ())
    recorder.finish({})
    # Nor does what was published between two files.
    late(joint_state(5, ["arm/joint1"], [5.0]))
    time.sleep(0.1)
    recorder.begin(tmp_path / "next.mcap")
    late(joint_state(6, ["arm/joint1"], [6.0]))
    time.sleep(0.3)
    assert (recorder.lost, recorder.not_counted) == (0, ())
    recorder.finish({})
    recorder.begin(tmp_path / "both.mcap")
    for k in range(5):
        late(joint_state(k, ["arm/joint1"], [float(k)]))
        early(joint_state(k, ["arm/joint1"], [float(k)]))
        time.sleep(0.02)
    time.sleep(0.3)
    recorder.finish({})
    one, both = notes(tmp_path / "one.mcap"), notes(tmp_path / "both.mcap")
    assert (one["messages_lost"], one["messages_not_counted"]) == ("0", "")
    assert (both["messages_lost"], both["messages_not_counted"]) == ("0", COMMAND)
    assert len(read_episode(tmp_path / "both.mcap", franka()).command.values) == 10


@pytest.mark.parametrize("set_back_s", [0, 3600])
def test_a_clock_that_is_set_back_costs_no_message(
    node: Node, recorder: EpisodeRecorder, tmp_path: Path, set_back_s: int
) -> None:
    commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
    # As after the file's beginning the machine's clock is set back.
    recorder.begin(tmp_path / "episode.mcap", time.time_ns() + set_back_s * 10**9)
    time.sleep(0.2)
    for k in range(100):
        commands(joint_state(k, ["arm/joint1"], [float(k)]))
        time.sleep(0.005)
    time.sleep(0.3)
    recorder.finish({})
    stored = read_episode(tmp_path / "episode.mcap", franka()).command.values.ravel()
    np.testing.assert_array_equal(stored, np.arange(100.0))


def test_what_arrives_with_the_beginning_is_in_it_and_what_came_before_is_not(
    node: Node, tmp_path: Path
) -> None:
    """A file that `watch` begins on what it hears, as record_node does."""
    heard: list[int] = []

    def watch() -> None:
        for _, received_ns, _, _ in take_stamped(begins):
            recorder.begin(tmp_path / f"{len(heard)}.mcap", received_ns)
            heard.append(received_ns)

    qos = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    begins = polled_subscription(node, message_class("std_msgs/msg/String"), TASK, qos)
    recorder = EpisodeRecorder(node, recorded_topics(franka()), ROBOT_YAML, watch)
    try:
        commands = publisher(node, "sensor_msgs/msg/JointState", COMMAND)
        task = publisher(node, "std_msgs/msg/String", TASK, LATCHED)
        time.sleep(0.3)
        recorder.start()
        for k in range(20):
            commands(joint_state(1, ["arm/joint1"], [-1.0]))
            task(text(f"start {k}"))
            commands(joint_state(1, ["arm/joint1"], [float(k)]))
            wait_for(lambda k=k: len(heard) == k + 1, what="the file")  # type: ignore[misc]
            time.sleep(0.05)
            recorder.finish({})
            episode = read_episode(tmp_path / f"{k}.mcap", franka())
            assert episode.command.values.ravel().tolist() == [float(k)]
            assert [value for _, value in episode.texts[TASK]][-1] == f"start {k}"
            assert [value for _, value in episode.texts[TASK]][:-1] == [f"start {k - 1}"] * (k > 0)
            time.sleep(0.002 * k)
    finally:
        recorder.close()


def test_begin_and_finish_go_together(recorder: EpisodeRecorder, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no episode"):
        recorder.finish({})
    recorder.begin(tmp_path / "episode.mcap")
    with pytest.raises(RuntimeError, match="still being recorded"):
        recorder.begin(tmp_path / "other.mcap")
