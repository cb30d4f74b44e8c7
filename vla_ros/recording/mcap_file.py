"""One episode as one MCAP file of profile `ros2`: raw CDR bytes with their message definitions.

The layout is rosbag2's own (rosbag2_storage_mcap): schemas in `ros2msg`, messages in `cdr`, the QoS
that was recorded in each channel's metadata, and the bag's metadata as a metadata record, so that
`ros2 bag info episode.mcap`, `ros2 bag play episode.mcap` and Foxglove open the file as it is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import TracebackType

import yaml
from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

import vla_ros.interfaces
from vla_ros.recording.topics import RecordedTopic

INTERFACES = Path(vla_ros.interfaces.__file__).parent

# rosbag2's metadata of this version writes QoS policies as numbers, which Humble and Jazzy both read.
METADATA_VERSION = 8
# What a process that is killed may lose at most; and how finely a reader can seek.
CHUNK_BYTES = 1 << 20
INFINITE = {"sec": 9223372036, "nsec": 854775807}


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """The message definitions of ROS 2 Jazzy (Humble's are the same for every type recorded here), and the
    vendors' that `vla_ros.interfaces` restates."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for file in sorted(INTERFACES.glob("*/msg/*.msg")):
        kind = f"{file.parent.parent.name}/msg/{file.stem}"
        store.register(get_types_from_msg(file.read_text(encoding="utf-8"), kind))
    return store


@lru_cache(maxsize=64)
def message_definition(kind: str) -> str:
    """The `.msg` text of `kind` with those of every type it holds, as MCAP's `ros2msg` wants it."""
    text, _ = typestore().generate_msgdef(kind, ros_version=2)
    return text


class EpisodeWriter:
    """Writes one episode. Not thread-safe: one thread writes.

    The file gets its name only when it is complete: until :meth:`close` it is `<name>.part`, so a
    reader never meets half an episode. What was flushed to that can be read, or recovered (`mcap recover`),
    after this process was killed.
    """

    def __init__(
        self, path: Path, topics: tuple[RecordedTopic, ...], attachments: Mapping[str, str] | None = None
    ) -> None:
        """attachments: {name: text} of YAML files that are stored with the messages."""
        self.path = path
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._part, "wb")  # noqa: SIM115 - closed by close() or abort()
        self._writer = Writer(self._file, chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._writer.start(profile="ros2", library="vla_ros")
        self._topics = {topic.stored_topic: topic for topic in topics}
        self._channels: dict[str, int] = {}
        self._schemas: dict[str, int] = {}
        self._counts: dict[str, int] = {topic.stored_topic: 0 for topic in topics}
        self._first_ns: int | None = None
        self._last_ns = 0
        for name, text in (attachments or {}).items():
            self._writer.add_attachment(0, 0, name, "application/yaml", text.encode())
        for topic in topics:
            self._add_channel(topic)

    def _add_channel(self, topic: RecordedTopic) -> None:
        kind = topic.stored_type
        if kind not in self._schemas:
            self._schemas[kind] = self._writer.register_schema(
                name=kind, encoding="ros2msg", data=message_definition(kind).encode()
            )
        self._channels[topic.stored_topic] = self._writer.register_channel(
            topic=topic.stored_topic,
            message_encoding="cdr",
            schema_id=self._schemas[kind],
            metadata={"offered_qos_profiles": _qos(topic)},
        )

    def write(self, stored_topic: str, cdr: bytes, log_ns: int, publish_ns: int) -> None:
        """Append one message: its CDR bytes (encapsulation header included), unchanged.

        log_ns: when it was received; publish_ns: when it was sent (ns, ROS system clock).

        Raises:
            KeyError: a topic that was not named when the file was opened.
        """
        channel = self._channels[stored_topic]
        sequence = self._counts[stored_topic]
        self._writer.add_message(
            channel, log_time=log_ns, publish_time=publish_ns, data=cdr, sequence=sequence
        )
        self._counts[stored_topic] = sequence + 1
        self._first_ns = log_ns if self._first_ns is None else min(self._first_ns, log_ns)
        self._last_ns = max(self._last_ns, log_ns)

    def close(self, notes: dict[str, str]) -> None:
        """Finish the file and give it its name.

        notes: short facts about the episode (prompt, seed, outcome, ...), kept as rosbag2's custom data.
        """
        self._writer.add_metadata(
            "rosbag2",
            {
                "serialized_metadata": yaml.safe_dump(self._metadata(notes), sort_keys=False),
                "ROS_DISTRO": "jazzy",
            },
        )
        self._writer.finish()
        self._file.close()
        self._part.replace(self.path)

    def flush(self) -> None:
        """Hand what is whole to the operating system."""
        self._file.flush()

    def leave(self) -> None:
        """Give up and leave `<name>.part` as it is, for what can be read of it."""
        # What the disk did not take is not tried again.
        with contextlib.suppress(OSError):
            self._file.close()

    def abort(self) -> None:
        """Drop the episode and its file."""
        self._file.close()
        self._part.unlink(missing_ok=True)

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._file.closed:
            self.abort()

    def _metadata(self, notes: dict[str, str]) -> dict[str, object]:
        first = self._first_ns or 0
        duration = self._last_ns - first if self._first_ns is not None else 0
        span = {
            "starting_time": {"nanoseconds_since_epoch": first},
            "duration": {"nanoseconds": duration},
            "message_count": sum(self._counts.values()),
        }
        return {
            "version": METADATA_VERSION,
            "storage_identifier": "mcap",
            **span,
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": name,
                        "type": topic.stored_type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": _qos(topic),
                        "type_description_hash": "",
                    },
                    "message_count": self._counts[name],
                }
                for name, topic in self._topics.items()
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": [self.path.name],
            "files": [{"path": self.path.name, **span}],
            "custom_data": notes,
            "ros_distro": "jazzy",
        }


def _qos(topic: RecordedTopic) -> str:
    """The QoS a player should offer, as rosbag2 serialises it (numbers of rmw/types.h)."""
    return yaml.safe_dump(
        [
            {
                "history": 1,  # keep last
                "depth": topic.depth,
                "reliability": 1 if topic.reliable else 2,
                "durability": 1 if topic.transient_local else 2,
                "deadline": dict(INFINITE),
                "lifespan": dict(INFINITE),
                "liveliness": 1,  # automatic
                "liveliness_lease_duration": dict(INFINITE),
                "avoid_ros_namespace_conventions": False,
            }
        ],
        sort_keys=False,
    )
