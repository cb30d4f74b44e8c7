"""Records episodes off the wire: a thread of low priority that reads serialised messages and files them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.errors import Refused, VlaRosError
from vla_ros.nodes.topic_types import message_class
from vla_ros.nodes.transport import polled_subscription
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import EpisodeWriter, message_definition, typestore
from vla_ros.recording.topics import RecordedTopic

POLL_PERIOD_S = 0.01
FLUSH_PERIOD_S = 1.0
NICENESS = 10
ROBOT_YAML = "robot.yaml"


@dataclass
class _Stream:
    topic: RecordedTopic
    subscription: Any
    due_s: float = 0.0
    latched: tuple[bytes, int] | None = None
    # Of the present file: how often it was read, and the publisher's number of the message stored last.
    reads: int = 0
    number: int | None = None
    lost: int = 0
    several: bool = False


class EpisodeRecorder:
    """Writes what the graph says between :meth:`begin` and :meth:`finish` to one MCAP file.

    Nothing is decoded but images on their way to JPEG. The subscriptions are polled by the recorder's
    own thread, never executed by `node`'s executor, and images and fast states are asked for best
    effort with depth 1: a slow disk costs recorded samples, and no publisher ever waits for it.
    `begin`, `finish` and `drop` may be called from `watch` and from one other thread.

    error: what keeps the present file from being written; None while nothing does.
    """

    def __init__(
        self,
        node: Node,
        topics: tuple[RecordedTopic, ...],
        robot_yaml: str,
        watch: Callable[[], None] | None = None,
    ) -> None:
        """Subscribes to the topics; they are read from :meth:`start` on.

        robot_yaml: the robot as `vla robot show` prints it, stored in every file.

        watch: called by the recorder's thread about 100 times a second. A file that it begins holds all that
        was received since the time it names, as long as that is after its last call.
        """
        self.error: OSError | None = None
        self._node = node
        self._topics = topics
        self._attachments = {ROBOT_YAML: robot_yaml}
        self._watch = watch
        _warm_up(topics)
        self._streams = [
            _Stream(topic, polled_subscription(node, message_class(topic.type), topic.topic, _qos(topic)))
            for topic in topics
        ]
        # Guards the writer and every stream's bookkeeping; `watch` is called with it held.
        self._lock = threading.RLock()
        self._writer: EpisodeWriter | None = None
        self._began_ns = 0
        # {topic: how many of its messages could not be stored, and why the first one could not}
        self._unstored: dict[str, tuple[int, Refused]] = {}
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to read the topics, and to call `watch`. Once."""
        self._thread.start()

    @property
    def lost(self) -> int:
        """Messages of the present file that were published and did not get here, of topics of which all are
        kept and where that can be told."""
        return sum(stream.lost for stream in self._streams if not stream.several)

    @property
    def not_counted(self) -> tuple[str, ...]:
        """Topics of which all are kept, and of which it cannot be told what the present file lacks: their
        numbers went back, as several publishers', or one's that was started again, do."""
        return tuple(stream.topic.topic for stream in self._streams if stream.several)

    def begin(self, path: Path, began_ns: int | None = None) -> None:
        """Start a file. What was latched before (prompt, robot description) becomes its first messages.

        began_ns: from when on messages belong to it, by when they were received (ns, system clock); now,
        where it is not given. Raises OSError where the file cannot be made.
        """
        with self._lock:
            if self._writer is not None:
                raise RuntimeError(f"{self._writer.path} is still being recorded")
            self._writer = EpisodeWriter(path, self._topics, self._attachments)
            self._began_ns = time.time_ns() if began_ns is None else began_ns
            self.error, self._unstored = None, {}
            for stream in self._streams:
                stream.reads, stream.number, stream.lost, stream.several = 0, None, 0, False
                if stream.latched is not None:
                    cdr, sent_ns = stream.latched
                    self._writer.write(stream.topic.stored_topic, cdr, self._began_ns, sent_ns)

    def finish(self, notes: dict[str, str]) -> None:
        """Complete the file, with `notes` and with what it lacks.

        Raises:
            OSError: the file could not be written, now or before (a full disk): it stays `<name>.part`.
            VlaRosError: messages that could not be stored are missing; the file is complete but for them.
        """
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is None:
                raise RuntimeError("no episode is being recorded")
            try:
                if self.error is not None:
                    raise self.error
                missing = "; ".join(
                    f"{count} messages of {topic}: {refused}"
                    for topic, (count, refused) in self._unstored.items()
                )
                lacks = {
                    "messages_lost": str(self.lost),
                    "messages_not_counted": ", ".join(self.not_counted),
                    "messages_not_stored": missing,
                }
                writer.close({**notes, **lacks})
            except OSError:
                writer.leave()
                raise
        if missing:
            raise VlaRosError(f"{writer.path} is without {missing}")

    def drop(self) -> None:
        """Drop the episode in progress, if there is one."""
        with self._lock:
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.abort()

    def stop(self) -> None:
        """End the thread; an episode in progress may then be finished. May be called twice."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """End the thread and give up the topics; an episode in progress is dropped."""
        self.stop()
        self.drop()
        for stream in self._streams:
            self._node.destroy_subscription(stream.subscription)
        self._streams = []

    @property
    def alive(self) -> bool:
        """Whether the thread still reads; where it does not, it has logged why."""
        return self._thread.is_alive()

    def _run(self) -> None:
        # Linux gives every thread its own niceness.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        try:
            self._poll_forever()
        except Exception:
            self._node.get_logger().fatal(f"recording ended: {traceback.format_exc()}")

    def _poll_forever(self) -> None:
        flushed_s = time.monotonic()
        while not self._closing.wait(POLL_PERIOD_S):
            now_s = time.monotonic()
            with self._lock:
                # Before `watch`, and stored after it: what arrives with what begins a file is in it.
                taken = [(stream, self._take(stream)) for stream in self._streams if _due(stream, now_s)]
                if self._watch is not None:
                    self._watch()
                for stream, messages in taken:
                    for message in messages:
                        self._store(stream, *message)
            if now_s - flushed_s >= FLUSH_PERIOD_S:
                flushed_s = now_s
                self._flush()

    def _take(self, stream: _Stream) -> list[tuple[bytes, int, int, int | None]]:
        stream.reads += 1
        return take_stamped(stream.subscription)

    def _store(self, stream: _Stream, cdr: bytes, received_ns: int, sent_ns: int, number: int | None) -> None:
        topic = stream.topic
        if topic.transient_local:
            stream.latched = (cdr, sent_ns)
        if self._writer is None or self.error is not None:
            return
        # What waits when the file begins is from before it. All that is taken later is its own, whatever the
        # clock says, which may have been set back.
        if stream.reads <= 1 and received_ns < self._began_ns:
            if not topic.transient_local:
                return
            # What holds from its beginning on. That may be the very status that began it: each reader of a
            # topic gets a message at a time of its own.
            received_ns = self._began_ns
        if topic.counted and number:
            self._count(stream, number)
        try:
            stored = image_to_jpeg(cdr) if topic.jpeg else cdr
            self._writer.write(topic.stored_topic, stored, received_ns, sent_ns)
        except Refused as refused:
            count, first = self._unstored.get(topic.topic, (0, refused))
            self._unstored[topic.topic] = (count + 1, first)
        except OSError as error:
            self.error = error

    def _count(self, stream: _Stream, number: int) -> None:
        # Every publisher has numbers of its own, and a message does not say whose it is.
        if stream.number is not None:
            stream.several = stream.several or number <= stream.number
            stream.lost += max(number - stream.number - 1, 0)
        stream.number = number

    def _flush(self) -> None:
        with self._lock:
            if self._writer is not None and self.error is None:
                try:
                    self._writer.flush()
                except OSError as error:
                    self.error = error


def _due(stream: _Stream, now_s: float) -> bool:
    """Whether `stream` is to be read now; it then is not before its next time."""
    if now_s < stream.due_s:
        return False
    rate = stream.topic.max_rate_hz
    stream.due_s = now_s + (1.0 / rate - POLL_PERIOD_S / 2 if rate else 0.0)
    return True


def take_stamped(subscription: Any) -> list[tuple[bytes, int, int, int | None]]:
    """Waiting messages as (bytes, received, sent, the publisher's number of it where the RMW tells), times in
    ns of the system clock."""
    taken = []
    with subscription.handle:
        while (item := subscription.handle.take_message(subscription.msg_type, True)) is not None:
            cdr, info = item
            # An RMW without timestamps says 0.
            received = info["received_timestamp"] or time.time_ns()
            number = info.get("publication_sequence_number")
            taken.append((cdr, received, info["source_timestamp"] or received, number))
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
