from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from mcap.reader import make_reader

from tests.recording.messages import chunk, franka, image, joint_state, text
from vla_ros.observation.views import view
from vla_ros.recording.episode import read_episode
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import EpisodeWriter
from vla_ros.recording.topics import ACTION_CHUNK, COMMAND, TASK, recorded_topics
from vla_ros.robot.config import Robot
from vla_ros.robot.load import load_robot
from vla_ros.robot.show import effective_yaml

CONFIGS = Path(__file__).parents[2] / "robot_configs"
T0 = 1_700_000_000_000_000_000


def test_an_episode_comes_back_by_name(tmp_path: Path) -> None:
    robot = franka()
    arm = robot.arms["arm"]
    path = tmp_path / "episode.mcap"
    positions = np.arange(7) / 10
    order = [3, 1, 0, 2, 6, 5, 4]
    targets = np.arange(10.0).reshape(5, 2)
    with EpisodeWriter(path, recorded_topics(robot)) as writer:
        # Any order of names on the wire; a message without all joints is left out.
        writer.write(
            arm.states.topic,
            joint_state(T0, [arm.joints[k] for k in order], [positions[k] for k in order]),
            T0 + 5,
            T0,
        )
        writer.write(arm.states.topic, joint_state(T0 + 1, arm.joints[:6], [0.0] * 6), T0 + 6, T0)
        writer.write(COMMAND, joint_state(T0 + 2, ["arm/joint1"], [0.5]), T0 + 7, T0)
        writer.write(COMMAND, joint_state(T0 + 3, ["arm/joint1", "arm/gripper"], [0.6, 0.08]), T0 + 8, T0)
        writer.write(ACTION_CHUNK, chunk(T0, ["arm/joint1", "arm/gripper"], targets, 100_000_000), T0 + 9, T0)
        writer.write(TASK, text("success"), T0 + 10, T0)
        picture = image(T0 + 4, np.full((48, 64, 3), 90, np.uint8))
        writer.write("/front/color/image_raw/compressed", image_to_jpeg(picture), T0 + 11, T0)
        writer.close({})
    episode = read_episode(path, robot)
    joints = episode.joints["arm"]
    assert joints.names == tuple(arm.joints)
    np.testing.assert_array_equal(joints.values, [positions])
    assert joints.stamps_ns.tolist() == [T0]
    np.testing.assert_array_equal(episode.command.column("arm/joint1"), [0.5, 0.6])
    np.testing.assert_array_equal(episode.command.column("arm/gripper"), [np.nan, 0.08])
    with pytest.raises(KeyError, match="joint9"):
        episode.command.column("arm/joint9")
    (recorded,) = episode.chunks
    np.testing.assert_array_equal(recorded.targets, targets)
    assert recorded.due_ns.tolist() == [T0 + (k + 1) * 100_000_000 for k in range(5)]
    assert recorded.received_ns == T0 + 9
    assert episode.texts[TASK] == [(T0 + 10, "success")]
    assert [stamp for stamp, _ in episode.images["front"]] == [T0 + 4]
    assert episode.images["wrist"] == []
    assert episode.gripper["arm"].values.shape == (0, 2)


def test_topics_are_found_whatever_namespace_the_nodes_were_in(tmp_path: Path) -> None:
    fields = franka().model_dump()
    fields["arms"]["arm"]["states"]["topic"] = "joint_states"
    fields["cameras"]["front"]["topic"] = "front/image_raw"
    robot = Robot.model_validate(fields)
    topics = {topic.topic for topic in recorded_topics(robot, "/left")}
    assert {"/left/joint_states", "/left/vla/command", "/left/sim_node/task", "/diagnostics"} <= topics
    assert robot.arms["arm"].drivers.joint_trajectory is not None
    assert robot.arms["arm"].drivers.joint_trajectory.topic in topics, "named from the root"
    joints = robot.arms["arm"].joints
    with EpisodeWriter(tmp_path / "episode.mcap", recorded_topics(robot, "/left")) as writer:
        writer.write("/left/joint_states", joint_state(T0, joints, [0.1] * 7), T0, T0)
        writer.write("/left/vla/command", joint_state(T0, ["arm/joint1"], [0.5]), T0, T0)
        writer.write("/left/vla/action_chunk", chunk(T0, ["arm/joint1"], np.ones((1, 1)), 1), T0, T0)
        writer.write("/left/sim_node/task", text("running"), T0, T0)
        picture = image_to_jpeg(image(T0, np.full((48, 64, 3), 90, np.uint8)))
        writer.write("/left/front/image_raw/compressed", picture, T0, T0)
        writer.close({})
    episode = read_episode(tmp_path / "episode.mcap", robot)
    assert episode.joints["arm"].values.tolist() == [[0.1] * 7]
    assert episode.command.column("arm/joint1").tolist() == [0.5]
    assert len(episode.chunks) == len(episode.images["front"]) == 1
    assert episode.texts[TASK] == [(T0, "running")]


def test_a_recording_says_how_its_pictures_were_shown(tmp_path: Path) -> None:
    """Stored as the camera sent them; with the robot that is stored beside, as a policy saw them."""
    base = CONFIGS / "franka.yaml"
    (tmp_path / "lab.yaml").write_text(
        f"extends: {base}\nname: lab\ncameras:\n  front: "
        "{rotate: 90, flip: horizontal, crop: {x: 20, y: 40, width: 400, height: 300}}\n"
    )
    robot = load_robot(tmp_path / "lab.yaml")
    front = robot.cameras["front"]
    ramp = np.mgrid[0 : front.height, 0 : front.width].astype(np.uint8)
    sent = np.stack([ramp[0], ramp[1], ramp[0] // 2 + ramp[1] // 2], axis=-1)
    path, yaml_text = tmp_path / "episode.mcap", effective_yaml(robot, tmp_path / "lab.yaml")
    with EpisodeWriter(path, recorded_topics(robot), {"robot.yaml": yaml_text}) as writer:
        writer.write(f"{front.topic}/compressed", image_to_jpeg(image(T0, sent), 98), T0, T0)
        writer.close({})
    (tmp_path / "lab.yaml").unlink()

    with open(path, "rb") as file:
        (attached,) = make_reader(file).iter_attachments()
    (tmp_path / "stored.yaml").write_bytes(attached.data)
    stored = load_robot(tmp_path / "stored.yaml")
    ((_, jpeg),) = read_episode(path, stored).images["front"]
    whole = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    assert whole.shape == sent.shape
    seen, shown = view(whole, stored.cameras["front"]), view(sent, front)
    assert seen.shape == shown.shape == (300, 400, 3)
    assert np.abs(seen.astype(int) - shown.astype(int)).mean() < 6
