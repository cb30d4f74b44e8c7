"""Serialised camera and joint messages, as a driver sends them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_JAZZY)
TYPES = STORE.types
NS = 1_000_000_000


def header(stamp_ns: int):
    sec, nanosec = divmod(stamp_ns, NS)
    stamp = TYPES["builtin_interfaces/msg/Time"](sec, nanosec)
    return TYPES["std_msgs/msg/Header"](stamp, "frame")


def image(stamp_ns: int, pixels: np.ndarray, encoding: str = "rgb8", padding: int = 0) -> bytes:
    """pixels [H, W, channels] as sent; `padding` bytes at the end of each row."""
    height, width = pixels.shape[:2]
    rows = np.pad(pixels.reshape(height, -1), ((0, 0), (0, padding)), constant_values=99)
    message = TYPES["sensor_msgs/msg/Image"](
        header(stamp_ns), height, width, encoding, 0, rows.shape[1], np.ascontiguousarray(rows).ravel()
    )
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/Image"))


def compressed(stamp_ns: int, rgb: np.ndarray, extension: str = ".png", kind: str = "png") -> bytes:
    _, data = cv2.imencode(extension, np.ascontiguousarray(rgb[:, :, ::-1]))
    return compressed_bytes(stamp_ns, data.ravel(), kind)


def compressed_bytes(stamp_ns: int, data: np.ndarray, kind: str = "png") -> bytes:
    message = TYPES["sensor_msgs/msg/CompressedImage"](header(stamp_ns), kind, data)
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/CompressedImage"))


def joint_state(stamp_ns: int, names: Sequence[str], positions: Sequence[float]) -> bytes:
    values = np.asarray(positions, dtype=np.float64)
    nothing = np.zeros(0)
    message = TYPES["sensor_msgs/msg/JointState"](header(stamp_ns), list(names), values, nothing, nothing)
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/JointState"))


def odometry(stamp_ns: int, forward: float, turning: float) -> bytes:
    """As a base's driver sends it: also where the base is, by its own reckoning."""
    point, vector = TYPES["geometry_msgs/msg/Point"], TYPES["geometry_msgs/msg/Vector3"]
    pose = TYPES["geometry_msgs/msg/Pose"](
        point(7.0, 8.0, 0.0), TYPES["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    )
    twist = TYPES["geometry_msgs/msg/Twist"](vector(forward, 0.0, 0.0), vector(0.0, 0.0, turning))
    message = TYPES["nav_msgs/msg/Odometry"](
        header(stamp_ns),
        "base_link",
        TYPES["geometry_msgs/msg/PoseWithCovariance"](pose, np.zeros(36)),
        TYPES["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36)),
    )
    return bytes(STORE.serialize_cdr(message, "nav_msgs/msg/Odometry"))


def camera_info(
    stamp_ns: int,
    *,
    width: int,
    height: int,
    model: str,
    d: Sequence[float],
    k: np.ndarray,
    r: np.ndarray | None = None,
    p: np.ndarray | None = None,
    binning: int = 0,
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> bytes:
    """r: of no rotation, p: with k's intrinsics, where not given; roi: x, y, width, height."""
    x, y, roi_width, roi_height = roi
    message = TYPES["sensor_msgs/msg/CameraInfo"](
        header(stamp_ns),
        height,
        width,
        model,
        np.asarray(d, np.float64),
        np.asarray(k, np.float64).ravel(),
        (np.eye(3) if r is None else r).ravel(),
        (np.column_stack([k, np.zeros(3)]) if p is None else p).ravel(),
        binning,
        binning,
        TYPES["sensor_msgs/msg/RegionOfInterest"](x, y, roi_height, roi_width, False),
    )
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/CameraInfo"))
