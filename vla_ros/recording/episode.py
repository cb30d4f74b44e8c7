"""An episode file read back as arrays, for reports and for the data sets that come later."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import Reader

from vla_ros.recording.mcap_file import typestore
from vla_ros.recording.topics import ACTION_CHUNK, COMMAND, CONTROL_SOURCE, TASK, on_graph
from vla_ros.robot.config import Robot

FloatArray = NDArray[np.float64]
StampArray = NDArray[np.int64]


@dataclass(frozen=True)
class Signal:
    """Samples of named values over time. stamps_ns: int64 [N]; values: float64 [N, len(names)]."""

    names: tuple[str, ...]
    stamps_ns: StampArray
    values: FloatArray

    def column(self, name: str) -> FloatArray:
        """float64 [N] of one name; raises KeyError when the signal has no such name."""
        if name not in self.names:
            raise KeyError(f"no '{name}' among {', '.join(self.names) or 'no names'}")
        return self.values[:, self.names.index(name)]


@dataclass(frozen=True)
class RecordedChunk:
    """A chunk as it was published, and when it reached the recorder."""

    stamp_ns: int
    received_ns: int
    due_ns: StampArray
    channels: tuple[str, ...]
    targets: FloatArray


@dataclass(frozen=True)
class Episode:
    """What a report needs of one file. Times are ns on the ROS clock.

    images: {camera: [(stamp_ns, JPEG bytes)]}; joints, gripper: {arm: Signal}; command: what
    control_node sent, by channel; texts: {topic: [(received_ns, text)]} of control source and task.
    """

    images: dict[str, list[tuple[int, bytes]]]
    joints: dict[str, Signal]
    gripper: dict[str, Signal]
    command: Signal
    chunks: list[RecordedChunk]
    texts: dict[str, list[tuple[int, str]]] = field(default_factory=dict)


def read_episode(path: Path, robot: Robot) -> Episode:
    """Read the file of an episode of `robot`, whatever namespace its nodes were in. Topics that are absent or
    empty give empty signals."""
    store = typestore()
    chunks = []
    with Reader(path) as reader:
        in_file = [each.topic for each in reader.connections]
        namespace = next((topic.removesuffix(COMMAND) for topic in in_file if topic.endswith(COMMAND)), "")
        command = namespace + COMMAND
        camera_of = {
            on_graph(camera.topic, namespace) + ("/compressed" if camera.transport == "raw" else ""): name
            for name, camera in robot.cameras.items()
        }
        states = {on_graph(topic, namespace) for topic in _joint_state_topics(robot)}
        samples: dict[str, list[tuple[int, Any]]] = {topic: [] for topic in (*states, command)}
        images: dict[str, list[tuple[int, bytes]]] = {name: [] for name in robot.cameras}
        texts: dict[str, list[tuple[int, str]]] = {CONTROL_SOURCE: [], TASK: []}
        known = {*samples, *camera_of, *(namespace + topic for topic in (*texts, ACTION_CHUNK))}
        connections = [each for each in reader.connections if each.topic in known]
        for connection, received_ns, cdr in reader.messages(connections):
            message: Any = store.deserialize_cdr(cdr, connection.msgtype)
            topic = connection.topic
            if topic in samples:
                samples[topic].append((_stamp(message.header), message))
            elif topic in camera_of:
                images[camera_of[topic]].append((_stamp(message.header), bytes(message.data)))
            elif topic == namespace + ACTION_CHUNK:
                chunks.append(_chunk(message, received_ns))
            else:
                texts[topic.removeprefix(namespace)].append((received_ns, message.data))
    return Episode(
        images=images,
        joints={
            name: _signal(samples[on_graph(arm.states.topic, namespace)], tuple(arm.joints))
            for name, arm in robot.arms.items()
        },
        gripper={
            name: _signal(samples[on_graph(arm.gripper.states.topic, namespace)], tuple(arm.gripper.joints))
            for name, arm in robot.arms.items()
            if arm.gripper is not None
        },
        command=_signal(samples[command], None),
        chunks=chunks,
        texts=texts,
    )


def _joint_state_topics(robot: Robot) -> set[str]:
    topics = {arm.states.topic for arm in robot.arms.values()}
    return topics | {arm.gripper.states.topic for arm in robot.arms.values() if arm.gripper is not None}


def _stamp(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _signal(samples: list[tuple[int, Any]], names: tuple[str, ...] | None) -> Signal:
    """Columns by name: a message that lacks a wanted name is left out, never filled in.

    `names` None takes every name that any message holds; a sample without one is NaN there (a gripper
    that nothing was ever asked of has no command).
    """
    if names is None:
        names = tuple(dict.fromkeys(name for _, message in samples for name in message.name))
        kept = samples
    else:
        kept = [sample for sample in samples if set(names) <= set(sample[1].name)]
    values = np.full((len(kept), len(names)), np.nan)
    for row, (_, message) in enumerate(kept):
        found = dict(zip(message.name, message.position, strict=False))
        values[row] = [found.get(name, np.nan) for name in names]
    return Signal(names, np.array([stamp for stamp, _ in kept], dtype=np.int64), values)


def _chunk(message: Any, received_ns: int) -> RecordedChunk:
    stamp = _stamp(message.header)
    steps = [
        int(p.time_from_start.sec) * 1_000_000_000 + int(p.time_from_start.nanosec) for p in message.points
    ]
    return RecordedChunk(
        stamp_ns=stamp,
        received_ns=received_ns,
        due_ns=stamp + np.array(steps, dtype=np.int64),
        channels=tuple(message.joint_names),
        targets=np.array([np.asarray(p.positions, dtype=np.float64) for p in message.points]),
    )
