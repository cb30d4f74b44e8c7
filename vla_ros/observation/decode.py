"""CDR bytes of camera and joint messages -> frames and joint samples, without copying pixels.

The bytes are what a raw subscription hands over: a serialised ROS 2 message with its four bytes of
encapsulation. An image's pixels stay a view of them until something resizes them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.typesys import Stores, get_typestore

from vla_ros.errors import Refused
from vla_ros.types import FloatArray, ImageArray

NS = 1_000_000_000

# The messages used here are the same in every ROS 2 distribution that is supported.
_STORE = get_typestore(Stores.ROS2_HUMBLE)

# encoding: (channels, order of red, green and blue among them)
_ENCODINGS: dict[str, tuple[int, slice | None]] = {
    "rgb8": (3, slice(0, 3)),
    "bgr8": (3, slice(None, None, -1)),
    "rgba8": (4, slice(0, 3)),
    "bgra8": (4, slice(2, None, -1)),
    "mono8": (1, None),
}


@dataclass(frozen=True)
class RawFrame:
    """A sensor_msgs/Image. pixels: uint8 [H, W, 3] RGB view of the message's bytes (mono: a copy-free
    repetition of its one channel)."""

    stamp_ns: int
    encoding: str
    pixels: ImageArray = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]

    def rgb(self) -> ImageArray:
        """The view itself."""
        return self.pixels


@dataclass(frozen=True)
class CompressedFrame:
    """A sensor_msgs/CompressedImage (JPEG, PNG: what OpenCV reads), decoded only when it is used.

    encoding: the message's `format`.
    """

    stamp_ns: int
    encoding: str
    data: NDArray[np.uint8] = field(repr=False)

    @property
    def size(self) -> None:
        """Only decoding tells."""
        return None

    def rgb(self) -> ImageArray:
        """Decode to uint8 [H, W, 3] RGB (a view of OpenCV's BGR). Raises Refused("undecodable")."""
        # OpenCV takes an empty buffer for a programming error and raises; any other rubbish gives None.
        pixels = cv2.imdecode(self.data, cv2.IMREAD_COLOR) if self.data.size else None
        if pixels is None:
            raise Refused("undecodable", f"{self.data.size} bytes of '{self.encoding}' that are no image")
        return pixels[:, :, ::-1]  # type: ignore[return-value]


Frame = RawFrame | CompressedFrame


@dataclass(frozen=True)
class JointSample:
    """A sensor_msgs/JointState: names and positions as sent (rad, or m for prismatic joints)."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: FloatArray


def decode_image(cdr: bytes) -> RawFrame:
    """A sensor_msgs/Image with encoding rgb8, bgr8, rgba8, bgra8 or mono8.

    Raises Refused: "undecodable" (not such a message), "unsupported_encoding", "malformed_image" (rows
    shorter than the width needs, or fewer bytes than the rows need).
    """
    message = _deserialise(cdr, "sensor_msgs/msg/Image")
    encoding = message.encoding
    if encoding not in _ENCODINGS:
        raise Refused(
            "unsupported_encoding", f"image encoding '{encoding}'; supported are {sorted(_ENCODINGS)}"
        )
    channels, order = _ENCODINGS[encoding]
    width, height, step, data = message.width, message.height, message.step, message.data
    if not width or not height or step < width * channels or data.size < step * height:
        raise Refused(
            "malformed_image",
            f"{width}x{height} {encoding} with rows of {step} bytes and {data.size} bytes in all",
        )
    rows = data[: step * height].reshape(height, step)[:, : width * channels]
    pixels = np.lib.stride_tricks.as_strided(
        rows, (height, width, channels), (step, channels, 1), writeable=False
    )
    rgb = np.broadcast_to(pixels, (height, width, 3)) if order is None else pixels[:, :, order]
    return RawFrame(_stamp(message), encoding, rgb)


def decode_compressed_image(cdr: bytes) -> CompressedFrame:
    """A sensor_msgs/CompressedImage; its pixels are not decoded yet. Raises Refused("undecodable")."""
    message = _deserialise(cdr, "sensor_msgs/msg/CompressedImage")
    return CompressedFrame(_stamp(message), message.format, message.data)


def decode_joint_state(cdr: bytes) -> JointSample:
    """A sensor_msgs/JointState. Raises Refused("undecodable")."""
    message = _deserialise(cdr, "sensor_msgs/msg/JointState")
    return JointSample(_stamp(message), tuple(message.name), message.position)


def _deserialise(cdr: bytes, kind: str) -> Any:
    try:
        # A memoryview: rosbags slices what it is given, and a slice of bytes would copy the picture.
        return _STORE.deserialize_cdr(memoryview(cdr), kind)
    except Exception as error:  # the generated readers raise whatever a short buffer leads to
        raise Refused("undecodable", f"{len(cdr)} bytes that are no {kind} ({error!r})") from error


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * NS + int(stamp.nanosec)
