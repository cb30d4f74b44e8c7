"""ActionChunk <-> the serialised trajectory_msgs/JointTrajectory, without message objects in between.

The same messages as `vla_ros.action.message` makes and takes, at a third of the time: an object per point
costs more than the rest of a chunk's way. Layout: XCDR1 (OMG DDSI-RTPS 2.5, 10.2), which every RMW of ROS 2
uses for plain messages; alignment counts from behind the four bytes of encapsulation.
"""

from __future__ import annotations

import struct
from collections.abc import Collection

import numpy as np

from vla_ros.action.message import NS, checked_chunk
from vla_ros.errors import Refused
from vla_ros.types import ActionChunk, FloatArray

_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
_ENCAPSULATION = len(_LITTLE_ENDIAN)


def to_cdr(chunk: ActionChunk) -> bytes:
    """The chunk as a serialised JointTrajectory."""
    out = bytearray(_LITTLE_ENDIAN)
    # Header: stamp, and an empty frame_id (its terminating zero, padded).
    out += struct.pack("<iIII", *divmod(int(chunk.stamp_ns), NS), 1, 0)
    out += struct.pack("<I", len(chunk.channels))
    for name in chunk.channels:
        text = name.encode() + b"\0"
        out += struct.pack("<I", len(text)) + text + bytes(-len(text) % 4)
    out += struct.pack("<I", len(chunk.targets))
    rows = np.ascontiguousarray(chunk.targets, dtype="<f8")
    for row, after in zip(rows, (chunk.due_ns - chunk.stamp_ns).tolist(), strict=True):
        out += struct.pack("<I", len(row))
        out += bytes((_ENCAPSULATION - len(out)) % 8)
        # Velocities, accelerations and effort are empty.
        out += row.tobytes() + struct.pack("<IIIiI", 0, 0, 0, *divmod(after, NS))
    return bytes(out)


def from_cdr(cdr: bytes, channels: Collection[str]) -> ActionChunk:
    """The chunk in a serialised JointTrajectory, whoever sent it.

    channels: what this robot has. Raises Refused: "undecodable", and as `message.from_message` does.
    """
    try:
        stamp, names, rows, after = _read(cdr)
    except (struct.error, ValueError, IndexError) as error:
        raise Refused("undecodable", f"{len(cdr)} bytes that are no JointTrajectory ({error})") from error
    return checked_chunk(names, stamp, rows, after, channels)


def _read(cdr: bytes) -> tuple[int, tuple[str, ...], list[FloatArray], list[int]]:
    """(stamp_ns, joint names, positions of each point, time_from_start of each point in ns)."""
    if cdr[:2] not in (b"\x00\x00", b"\x00\x01"):
        raise ValueError("not XCDR1")
    order = "<" if cdr[1] else ">"
    word, words, real = struct.Struct(order + "I"), struct.Struct(order + "iI"), np.dtype(order + "f8")
    body = memoryview(cdr)[_ENCAPSULATION:]

    def aligned(offset: int, size: int) -> int:
        return offset + -offset % size

    def text(offset: int) -> tuple[str, int]:
        offset = aligned(offset, 4)
        (length,) = word.unpack_from(body, offset)
        end = offset + 4 + length
        if end > len(body):
            raise ValueError("it ends within a name")
        return bytes(body[offset + 4 : end - 1]).decode(), end

    def reals(offset: int) -> tuple[FloatArray, int]:
        offset = aligned(offset, 4)
        (count,) = word.unpack_from(body, offset)
        offset += 4
        if count == 0:
            return np.empty(0), offset
        offset = aligned(offset, 8)
        return np.frombuffer(body, real, count, offset), offset + 8 * count

    seconds, nanoseconds = words.unpack_from(body, 0)
    _, offset = text(8)
    offset = aligned(offset, 4)
    (count,) = word.unpack_from(body, offset)
    offset += 4
    names = []
    for _ in range(count):
        name, offset = text(offset)
        names.append(name)
    offset = aligned(offset, 4)
    (count,) = word.unpack_from(body, offset)
    offset += 4
    rows, after = [], []
    for _ in range(count):
        positions, offset = reals(offset)
        for _ in ("velocities", "accelerations", "effort"):
            _, offset = reals(offset)
        offset = aligned(offset, 4)
        second, nanosecond = words.unpack_from(body, offset)
        offset += 8
        rows.append(positions)
        after.append(second * NS + nanosecond)
    return seconds * NS + nanoseconds, tuple(names), rows, after
