"""CDR bytes of camera, joint and odometry messages -> frames and samples, without copying pixels.

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
from vla_ros.observation.encodings import ENCODINGS
from vla_ros.observation.views import Lens
from vla_ros.types import FloatArray, ImageArray

NS = 1_000_000_000

# The messages used here are the same in every ROS 2 distribution that is supported.
_STORE = get_typestore(Stores.ROS2_HUMBLE)


@dataclass(frozen=True)
class RawFrame:
    """A sensor_msgs/Image. sent: [H, W, channels] in the message's encoding, a view of its bytes."""

    stamp_ns: int
    encoding: str
    sent: NDArray[Any] = field(repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.sent.shape[1], self.sent.shape[0]

    def rgb(self) -> ImageArray:
        """uint8 [H, W, 3] RGB: still a read-only view of the message where colours are only in another order
        (mono: a repetition of its one channel), converted now where they are not (16 bits, Bayer, YUV)."""
        return ENCODINGS[self.encoding].to_rgb(self.sent)


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


@dataclass(frozen=True)
class OdometrySample:
    """A nav_msgs/Odometry of a base that drives forward and turns. velocity: float64 [2], m/s along its x and
    rad/s about its z axis; where it is, is relative to where its driver was started, and not kept."""

    stamp_ns: int
    velocity: FloatArray


def decode_image(cdr: bytes) -> RawFrame:
    """A sensor_msgs/Image in one of `encodings.ENCODINGS`; its colours are not converted yet.

    Raises Refused: "undecodable" (not such a message), "unsupported_encoding", "malformed_image" (rows
    shorter than the width needs, other than height times step bytes, an odd width where pixels come in
    pairs, or an is_bigendian that is neither 0 nor 1).
    """
    message = _deserialise(cdr, "sensor_msgs/msg/Image")
    name = message.encoding
    if name not in ENCODINGS:
        raise Refused("unsupported_encoding", f"image encoding '{name}'; supported are {sorted(ENCODINGS)}")
    encoding = ENCODINGS[name]
    width, height, step, data = message.width, message.height, message.step, message.data
    wrong = ""
    if not width or not height or step < width * encoding.bytes_per_pixel or data.size != step * height:
        wrong = f"rows of {step} bytes and {data.size} bytes in all"
    elif encoding.pairs and width % 2:
        wrong = "an odd width, though its pixels come in pairs"
    elif message.is_bigendian not in (0, 1):
        wrong = f"is_bigendian {message.is_bigendian}, which is neither 0 nor 1"
    if wrong:
        raise Refused("malformed_image", f"{width}x{height} {name} with {wrong}")
    size = encoding.dtype.itemsize
    dtype = encoding.dtype.newbyteorder(">") if size > 1 and message.is_bigendian else encoding.dtype
    # A row may be longer than its pixels, and by any number of bytes.
    pixels: NDArray[Any] = np.ndarray(
        (height, width, encoding.channels), dtype, data, 0, (step, encoding.bytes_per_pixel, size)
    )
    pixels.flags.writeable = False
    return RawFrame(_stamp(message), name, pixels)


def decode_compressed_image(cdr: bytes) -> CompressedFrame:
    """A sensor_msgs/CompressedImage; its pixels are not decoded yet. Raises Refused("undecodable")."""
    message = _deserialise(cdr, "sensor_msgs/msg/CompressedImage")
    return CompressedFrame(_stamp(message), message.format, message.data)


def decode_camera_info(cdr: bytes) -> Lens:
    """A sensor_msgs/CameraInfo. Raises Refused("undecodable")."""
    message = _deserialise(cdr, "sensor_msgs/msg/CameraInfo")
    region = message.roi
    part = (region.x_offset, region.y_offset, region.width, region.height)
    full = part in ((0, 0, 0, 0), (0, 0, message.width, message.height))
    return Lens(
        width=message.width,
        height=message.height,
        model=message.distortion_model,
        d=np.array(message.d, np.float64),
        k=np.array(message.k, np.float64).reshape(3, 3),
        r=np.array(message.r, np.float64).reshape(3, 3),
        p=np.array(message.p, np.float64).reshape(3, 4),
        whole=full and message.binning_x <= 1 and message.binning_y <= 1,
    )


def decode_joint_state(cdr: bytes) -> JointSample:
    """A sensor_msgs/JointState. Raises Refused("undecodable")."""
    message = _deserialise(cdr, "sensor_msgs/msg/JointState")
    return JointSample(_stamp(message), tuple(message.name), message.position)


def decode_odometry(cdr: bytes) -> OdometrySample:
    """A nav_msgs/Odometry. Raises Refused: "undecodable", "nan" (a velocity that is not finite)."""
    message = _deserialise(cdr, "nav_msgs/msg/Odometry")
    twist = message.twist.twist
    velocity = np.array([twist.linear.x, twist.angular.z])
    if not np.isfinite(velocity).all():
        raise Refused("nan", f"the base's velocity is not finite: {velocity[0]} m/s, {velocity[1]} rad/s")
    return OdometrySample(_stamp(message), velocity)


def _deserialise(cdr: bytes, kind: str) -> Any:
    try:
        # A memoryview: rosbags slices what it is given, and a slice of bytes would copy the picture.
        return _STORE.deserialize_cdr(memoryview(cdr), kind)
    except Exception as error:  # the generated readers raise whatever a short buffer leads to
        raise Refused("undecodable", f"{len(cdr)} bytes that are no {kind} ({error!r})") from error


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * NS + int(stamp.nanosec)
