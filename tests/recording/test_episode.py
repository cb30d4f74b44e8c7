from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.recording.messages import chunk, franka, image, joint_state, text
from vla_ros.recording.episode import read_episode
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import EpisodeWriter
from vla_ros.recording.topics import ACTION_CHUNK, COMMAND, TASK, recorded_topics

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
