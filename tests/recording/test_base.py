from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from tests.mobile_base import MOBILE
from tests.observation.messages import odometry
from tests.recording.messages import build
from vla_ros.observation.decode import decode_odometry
from vla_ros.recording.mcap_file import EpisodeWriter, typestore
from vla_ros.recording.topics import recorded_topics

T0 = 1_700_000_000_000_000_000


def test_a_base_is_recorded_as_it_is_measured_and_driven(tmp_path: Path) -> None:
    topics = recorded_topics(MOBILE)
    kinds = {topic.topic: topic.type for topic in topics}
    assert kinds["/mobile_base/odom"] == "nav_msgs/msg/Odometry"
    assert kinds["/mobile_base/cmd_vel"] == "geometry_msgs/msg/Twist"
    vector = typestore().types["geometry_msgs/msg/Vector3"]
    command = build("geometry_msgs/msg/Twist", linear=vector(0.2, 0, 0), angular=vector(0, 0, -0.4))
    path = tmp_path / "episode.mcap"
    with EpisodeWriter(path, topics) as writer:
        writer.write("/mobile_base/odom", odometry(T0, 0.25, -0.5), T0, T0)
        writer.write("/mobile_base/cmd_vel", command, T0 + 1, T0)
        writer.close({})
    with Reader(path) as reader:
        found = {c.topic: (c.msgtype, data) for c, _, data in reader.messages()}
    kind, data = found["/mobile_base/odom"]
    assert kind == "nav_msgs/msg/Odometry"
    assert decode_odometry(data).velocity.tolist() == [0.25, -0.5]
    kind, data = found["/mobile_base/cmd_vel"]
    sent = typestore().deserialize_cdr(data, kind)
    assert (sent.linear.x, sent.angular.z) == pytest.approx((0.2, -0.4))
