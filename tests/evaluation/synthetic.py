"""An episode made up for tests, with the shapes and rates of a real one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.recording.messages import chunk, image, joint_state, text
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import EpisodeWriter
from vla_ros.recording.topics import ACTION_CHUNK, COMMAND, TASK, recorded_topics
from vla_ros.robot.channels import joint_channels, tool_channels
from vla_ros.robot.config import Robot

T0 = 1_700_000_000_000_000_000
HOME = np.array([0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785])


def joints_at(t: float) -> np.ndarray:
    return HOME + 0.3 * np.sin(0.8 * t + np.arange(7))


def forward(q: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = [0.5 + 0.2 * q[0], 0.2 * q[2], 0.3 + 0.1 * q[1]]
    return pose


def write_episode(path: Path, robot: Robot, duration_s: float = 6.0) -> None:
    arm = robot.arms["arm"]
    assert arm.gripper is not None
    events: list[tuple[int, str, bytes]] = []
    channels = [*joint_channels("arm", 7), "arm/gripper"]
    for k in range(int(duration_s * 100)):
        t, ns = k / 100, T0 + k * 10_000_000
        events.append((ns, arm.states.topic, joint_state(ns, arm.joints, list(joints_at(t - 0.04)))))
        width = 0.08 if t < duration_s / 2 else 0.04
        events.append((ns, COMMAND, joint_state(ns, channels, [*joints_at(t), width])))
        if k % 7 == 0:
            fingers = joint_state(ns, arm.gripper.joints, [width / 2, width / 2])
            events.append((ns, arm.gripper.states.topic, fingers))
        if k % 10 == 0:
            picture = np.full((480, 640, 3), 60, np.uint8)
            picture[200:280, int(60 * t) : int(60 * t) + 80] = (200, 40, 40)
            for camera in robot.cameras.values():
                jpeg = image_to_jpeg(image(ns, picture))
                events.append((ns, f"{camera.topic}/compressed", jpeg))
            rows = np.zeros((16, 8))
            for step in range(16):
                rows[step, :3] = forward(joints_at(t + 0.1 * (step + 1)))[:3, 3] + 0.002 * np.sin(k)
                rows[step, 6] = 1.0
                rows[step, 7] = width
            names = [*tool_channels("arm"), "arm/gripper"]
            events.append((ns + 80_000_000, ACTION_CHUNK, chunk(ns, names, rows, 100_000_000)))
    events.append((T0 + int(duration_s * 1e9), TASK, text("success")))
    with EpisodeWriter(path, recorded_topics(robot)) as writer:
        for ns, topic, cdr in sorted(events):
            writer.write(topic, cdr, ns, ns)
        writer.close({"outcome": "success"})
