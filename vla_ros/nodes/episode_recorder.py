"""Records episodes off the wire: a thread of low priority that reads serialised messages and files them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.nodes.topic_types import message_class
from vla_ros.nodes.transport import polled_subscription
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import EpisodeWriter, message_definition, typestore
from vla_ros.recording.topics import RecordedTopic

POLL_PERIOD_S = 0.01
NICENESS = 10


@dataclass
class _Stream:
    topic: RecordedTopic
    subscription: Any
    due_s: float = 0.0
    latched: tuple[bytes, int] | None = None


class EpisodeRecorder:
    """Writes what the graph says between :meth:`begin` and :meth:`finish` to one MCAP file.

    Nothing is decoded but images on their way to JPEG. The subscriptions are polled by the recorder's
    own thread, never executed by `node`'s executor, and images and fast states are asked for best
    effort with depth 1: a slow disk costs recorded samples, and no publisher ever waits for it.
    `begin`, `finish` and `close` may be called from one other thread.
    """

    def __init__(self, node: Node, topics: tuple[RecordedTopic, ...]) -> None:
        self._topics = topics
        _warm_up(topics)
        self._streams = [
            _Stream(topic, polled_subscription(node, message_class(topic.type), topic.topic, _qos(topic)))
            for topic in topics
        ]
        # Guards the writer and every stream's bookkeeping.
        self._lock = threading.Lock()
        self._writer: EpisodeWriter | None = None
        self._began_ns = 0
        self._error: BaseException | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def begin(self, path: Path) -> None:
        """Start a file. What was latched before (prompt, robot description) becomes its first messages."""
        with self._lock:
            if self._writer is not None:
                raise RuntimeError(f"{self._writer.path} is still being recorded")
            self._writer = EpisodeWriter(path, self._topics)
            self._began_ns = now = time.time_ns()
            for stream in self._streams:
                if stream.latched is not None:
                    cdr, sent_ns = stream.latched
                    self._writer.write(stream.topic.stored_topic, cdr, now, sent_ns)

    def finish(self, notes: dict[str, str]) -> None:
        """Complete the file.

        Raises whatever went wrong while recording (a full disk, an image without a JPEG form); the
        file is then dropped.
        """
        with self._lock:
            writer, self._writer = self._writer, None
            error, self._error = self._error, None
            if writer is None:
                raise RuntimeError("no episode is being recorded") from error
            if error is not None:
                writer.abort()
                raise error
            writer.close(notes)

    def drop(self) -> None:
        """Drop the episode in progress, if there is one."""
        with self._lock:
            writer, self._writer = self._writer, None
            self._error = None
            if writer is not None:
                writer.abort()

    def close(self) -> None:
        """End the thread; an episode in progress is dropped."""
        self._closing.set()
        self._thread.join()
        self.drop()

    def _run(self) -> None:
        # Linux gives every thread its own niceness.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while not self._closing.wait(POLL_PERIOD_S):
            now_s = time.monotonic()
            for stream in self._streams:
                if now_s >= stream.due_s:
                    rate = stream.topic.max_rate_hz
                    stream.due_s = now_s + (1.0 / rate - POLL_PERIOD_S / 2 if rate else 0.0)
                    self._read(stream)

    def _read(self, stream: _Stream) -> None:
        topic = stream.topic
        for cdr, received_ns, sent_ns in _take_stamped(stream.subscription):
            with self._lock:
                if topic.transient_local:
                    stream.latched = (cdr, sent_ns)
                # What still waited when the episode began belongs to the time before it.
                if self._writer is None or self._error is not None or received_ns < self._began_ns:
                    continue
                try:
                    stored = image_to_jpeg(cdr) if topic.jpeg else cdr
                    self._writer.write(topic.stored_topic, stored, received_ns, sent_ns)
                except Exception as error:
                    self._error = error


def _take_stamped(subscription: Any) -> list[tuple[bytes, int, int]]:
    """Waiting messages as (bytes, received, sent), times in ns of the system clock."""
    taken = []
    with subscription.handle:
        while (item := subscription.handle.take_message(subscription.msg_type, True)) is not None:
            cdr, info = item
            # An RMW without timestamps says 0.
            received = info["received_timestamp"] or time.time_ns()
            taken.append((cdr, received, info["source_timestamp"] or received))
    return taken


def _warm_up(topics: tuple[RecordedTopic, ...]) -> None:
    """Message definitions and decoders are made at their first use, which would cost the first episode
    its first half second."""
    for topic in topics:
        message_definition(topic.stored_type)
    store = typestore()
    blank = store.types["sensor_msgs/msg/Image"](
        header=store.types["std_msgs/msg/Header"](
            stamp=store.types["builtin_interfaces/msg/Time"](sec=0, nanosec=0), frame_id=""
        ),
        height=8,
        width=8,
        encoding="rgb8",
        is_bigendian=0,
        step=24,
        data=np.zeros(192, np.uint8),
    )
    image_to_jpeg(bytes(store.serialize_cdr(blank, "sensor_msgs/msg/Image")))


def _qos(topic: RecordedTopic) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=topic.depth,
        reliability=ReliabilityPolicy.RELIABLE if topic.reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if topic.transient_local else DurabilityPolicy.VOLATILE,
    )
