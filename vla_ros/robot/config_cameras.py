"""The cameras of a robot YAML."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vla_ros.robot.config_fields import (
    Angle,
    Coordinate,
    FrameRate,
    Milliseconds,
    Model,
    Name,
    Offset,
    Pixels,
    Text,
    Topic,
    unit,
)


class Mount(Model):
    """Where a camera's optical frame (x right, y down, z forward) lies: m, and roll, pitch, yaw in rad about
    fixed axes, in the tool frame of `arm`, or in the robot's common frame without one."""

    arm: Name | None = None
    position: tuple[Coordinate, Coordinate, Coordinate]
    rpy: tuple[Angle, Angle, Angle] = (0.0, 0.0, 0.0)


class Crop(Model):
    """A part of the picture as it is after rotate and flip: its upper left corner and its size."""

    x: Offset
    y: Offset
    width: Pixels
    height: Pixels


Exposure = Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False, json_schema_extra=unit("ms"))]


class V4l2Source(Model):
    """A Video4Linux camera. device: its path, best one that stays (/dev/v4l/by-id/...). fourcc: as in
    `v4l2-ctl --list-formats`, MJPG or YUYV. exposure_ms: automatic where not given. calibration: the file
    that ROS's camera_calibration wrote, relative to this YAML; without, camera_info says that there is none.
    """

    device: Text
    fourcc: Annotated[
        str,
        Field(
            pattern=r"^[A-Z0-9]{4}$",
            json_schema_extra={"expected": "four capital letters or digits such as MJPG or YUYV"},
        ),
    ] = "MJPG"
    exposure_ms: Exposure | None = None
    calibration: Text | None = None


class RealsenseSource(Model):
    """An Intel RealSense, by pyrealsense2. serial: needed where several are plugged in. format: of the
    colours, as they are published; yuyv is what the camera itself sends, in two thirds of the bytes.
    exposure_ms: of the colours, automatic where not given. depth_aligned: the topic for depth as the colour
    camera sees it (16UC1, mm), where wanted."""

    serial: Text | None = None
    format: Literal["rgb8", "bgr8", "yuyv"] = "rgb8"
    exposure_ms: Exposure | None = None
    depth_aligned: Topic | None = None


class Source(Model):
    """The device whose pictures camera_node publishes on the camera's topics. Exactly one of them."""

    v4l2: V4l2Source | None = None
    realsense: RealsenseSource | None = None


class Camera(Model):
    """One camera topic. `transport: compressed` reads sensor_msgs/CompressedImage on `topic`.

    width, height: of the pictures on `topic`. What policies are shown is made of them in this order:
    undistort (by what `camera_info` publishes, as image_proc rectifies), rotate (clockwise, degrees), flip
    (horizontal: left and right change places), crop. source: where camera_node is to publish them; without,
    someone else does.
    """

    topic: Topic
    camera_info: Topic
    transport: Literal["raw", "compressed"] = "raw"
    width: Pixels
    height: Pixels
    rate_hz: FrameRate
    max_age_ms: Milliseconds
    mount: Mount | None = None
    undistort: bool = False
    rotate: Literal[0, 90, 180, 270] = 0
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    crop: Crop | None = None
    source: Source | None = None
