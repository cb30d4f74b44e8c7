"""Episodes of robots that are commanded in their vendors' own messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from tests.recording.messages import build
from vla_ros.recording.mcap_file import EpisodeWriter, message_definition, typestore
from vla_ros.recording.topics import recorded_topics
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"
T0 = 1_700_000_000_000_000_000


def test_alohas_commands_come_back(tmp_path: Path) -> None:
    topics = recorded_topics(load_robot(CONFIGS / "aloha.yaml"))
    kinds = {topic.topic: topic.type for topic in topics}
    group, single = "/follower_right/commands/joint_group", "/follower_right/commands/joint_single"
    assert kinds[group] == "interbotix_xs_msgs/msg/JointGroupCommand"
    assert kinds[single] == "interbotix_xs_msgs/msg/JointSingleCommand"
    assert [topic.topic for topic in topics].count("/follower_right/joint_states") == 1
    path = tmp_path / "episode.mcap"
    command = build(kinds[group], name="arm", cmd=np.arange(6, dtype=np.float32))
    with EpisodeWriter(path, topics) as writer:
        writer.write(group, command, T0, T0)
        writer.write(single, build(kinds[single], name="gripper", cmd=1.5), T0 + 1, T0)
        writer.close({})
    store = typestore()
    with Reader(path) as reader:
        found = {c.topic: store.deserialize_cdr(data, c.msgtype) for c, _, data in reader.messages()}
    np.testing.assert_array_equal(found[group].cmd, np.arange(6))
    assert (found[group].name, found[single].name, found[single].cmd) == ("arm", "gripper", 1.5)
    assert "float32[] cmd" in message_definition(kinds[group])


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_an_episode_of_every_robot_can_be_begun(file: Path, tmp_path: Path) -> None:
    topics = recorded_topics(load_robot(file))
    EpisodeWriter(tmp_path / "episode.mcap", topics).abort()


def test_a_pose_for_piper_is_recorded_as_it_is_sent(tmp_path: Path) -> None:
    robot = load_robot(CONFIGS / "agilex_piper.yaml")
    arm = robot.arms["arm"].model_copy(update={"driver": "piper_pose"})
    topics = recorded_topics(robot.model_copy(update={"arms": {"arm": arm}}))
    assert {topic.topic: topic.type for topic in topics}["/pos_cmd"] == "piper_msgs/msg/PosCmd"
    EpisodeWriter(tmp_path / "episode.mcap", topics).abort()
