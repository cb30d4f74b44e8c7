from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from tests.recording.messages import franka, joint_state, text
from vla_ros.recording.mcap_file import EpisodeWriter, message_definition, typestore
from vla_ros.recording.topics import PROMPT, recorded_topics

T0 = 1_700_000_000_000_000_000


def _write(path: Path) -> tuple[bytes, bytes]:
    robot = franka()
    states = robot.arms["arm"].states.topic
    first = joint_state(T0, robot.arms["arm"].joints, [0.1] * 7)
    with EpisodeWriter(path, recorded_topics(robot)) as writer:
        writer.write(PROMPT, text("lift the red block"), T0 - 5, T0 - 9)
        for k in range(10):
            writer.write(states, first, T0 + k * 10_000_000, T0)
        writer.close({"seed": "1000007", "outcome": "success"})
    return first, text("lift the red block")


def test_messages_come_back_byte_for_byte_with_their_definitions(tmp_path: Path) -> None:
    path = tmp_path / "out" / "episode.mcap"
    joints, prompt = _write(path)
    with open(path, "rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        found = [(channel.topic, schema, message) for schema, channel, message in reader.iter_messages()]
    assert found[0][0] == PROMPT and found[0][2].data == prompt
    assert found[0][2].log_time == T0 - 5 and found[0][2].publish_time == T0 - 9
    assert all(message.data == joints for topic, _, message in found if topic != PROMPT)
    for _, schema, _ in found:
        assert schema.encoding == "ros2msg"
        assert schema.data.decode() == message_definition(schema.name)
    assert "MSG: std_msgs/Header" in message_definition("sensor_msgs/msg/JointState")


def test_rosbag2_readers_open_it(tmp_path: Path) -> None:
    path = tmp_path / "episode.mcap"
    _write(path)
    robot = franka()
    with Reader(path) as reader:
        topics = {connection.topic: connection for connection in reader.connections}
        assert reader.message_count == 11
        states = topics[robot.arms["arm"].states.topic]
        assert states.msgtype == "sensor_msgs/msg/JointState"
        assert [qos.reliability.name for qos in states.ext.offered_qos_profiles] == ["BEST_EFFORT"]
        assert [q.durability.name for q in topics[PROMPT].ext.offered_qos_profiles] == ["TRANSIENT_LOCAL"]
        for connection, _, cdr in reader.messages():
            typestore().deserialize_cdr(cdr, connection.msgtype)


def test_the_metadata_record_is_a_whole_rosbag2_metadata(tmp_path: Path) -> None:
    path = tmp_path / "episode.mcap"
    _write(path)
    with open(path, "rb") as file:
        records = {record.name: record.metadata for record in make_reader(file).iter_metadata()}
    bag = yaml.safe_load(records["rosbag2"]["serialized_metadata"])
    # The keys that rosbag2_storage/yaml.hpp reads for this version.
    assert bag["version"] == 8 and bag["storage_identifier"] == "mcap"
    assert bag["starting_time"] == {"nanoseconds_since_epoch": T0 - 5}
    assert bag["duration"] == {"nanoseconds": 90_000_005}
    assert bag["message_count"] == 11
    assert bag["relative_file_paths"] == ["episode.mcap"] == [bag["files"][0]["path"]]
    assert (bag["compression_format"], bag["compression_mode"]) == ("", "")
    assert bag["custom_data"] == {"seed": "1000007", "outcome": "success"}
    for topic in bag["topics_with_message_count"]:
        assert set(topic["topic_metadata"]) == {
            "name",
            "type",
            "serialization_format",
            "offered_qos_profiles",
            "type_description_hash",
        }
        assert isinstance(yaml.safe_load(topic["topic_metadata"]["offered_qos_profiles"])[0]["history"], int)


def test_attachments_are_kept_and_disturb_no_reader(tmp_path: Path) -> None:
    path = tmp_path / "episode.mcap"
    with EpisodeWriter(path, recorded_topics(franka()), {"robot.yaml": "name: franka\n"}) as writer:
        writer.write(PROMPT, text("lift the red block"), T0, T0)
        writer.close({})
    with open(path, "rb") as file:
        (attached,) = make_reader(file, validate_crcs=True).iter_attachments()
    assert (attached.name, attached.media_type) == ("robot.yaml", "application/yaml")
    assert attached.data == b"name: franka\n"
    with Reader(path) as reader:
        assert [connection.topic for connection, _, _ in reader.messages()] == [PROMPT]


def test_an_episode_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "episode.mcap"
    with pytest.raises(RuntimeError), EpisodeWriter(path, recorded_topics(franka())):
        assert not path.exists()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_topic_is_an_error(tmp_path: Path) -> None:
    writer = EpisodeWriter(tmp_path / "episode.mcap", recorded_topics(franka()))
    with writer, pytest.raises(KeyError):
        writer.write("/nothing", b"", 0, 0)


def test_every_recorded_type_has_a_definition() -> None:
    topics = recorded_topics(franka())
    assert len({topic.stored_topic for topic in topics}) == len(topics)
    for topic in topics:
        assert message_definition(topic.type) and message_definition(topic.stored_type)
