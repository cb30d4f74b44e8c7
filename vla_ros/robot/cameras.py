"""What a camera's YAML makes of its pictures, and the mistakes in it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.yaml_lines import KeyPath, Problem


def turned_size(camera: Camera) -> tuple[int, int]:
    """(width, height) in pixels of what `rotate` leaves of the topic's pictures."""
    if camera.rotate in (90, 270):
        return camera.height, camera.width
    return camera.width, camera.height


def shown_size(camera: Camera) -> tuple[int, int]:
    """(width, height) in pixels of what policies are shown: after rotate, flip and crop."""
    if camera.crop is not None:
        return camera.crop.width, camera.crop.height
    return turned_size(camera)


def source_problems(at: KeyPath, camera: Camera) -> Iterator[Problem]:
    """Mistakes in the device that camera_node is to publish; at: the camera's path."""
    source = camera.source
    if source is None:
        return
    if (source.v4l2 is None) == (source.realsense is None):
        yield Problem(
            (*at, "source"),
            "neither" if source.v4l2 is None else "both",
            "exactly one of v4l2 and realsense",
            "add v4l2: {device: /dev/video0}, or leave source out" if source.v4l2 is None else "remove one",
        )
    if camera.transport != "raw":
        yield Problem(
            (*at, "transport"),
            f"{camera.transport}, though there is a source",
            "raw, which is what camera_node publishes",
            "leave transport out",
        )
    if camera.undistort and source.v4l2 is not None and source.v4l2.calibration is None:
        yield Problem(
            (*at, "undistort"),
            "true, though nothing tells of the lens",
            "source.v4l2.calibration, the file that ROS's camera_calibration wrote",
            "calibrate the camera and name the file, or leave undistort out",
        )

    for kind, device in (("v4l2", source.v4l2), ("realsense", source.realsense)):
        exposure = device.exposure_ms if device is not None else None
        if exposure is not None and exposure > 1000 / camera.rate_hz:
            yield Problem(
                (*at, "source", kind, "exposure_ms"),
                f"{exposure:g} ms",
                f"at most the time from frame to frame, {1000 / camera.rate_hz:.4g} ms at rate_hz "
                f"{camera.rate_hz:g}",
                "expose for a shorter time, or lower rate_hz to one that the camera has",
            )


def device_problems(cameras: Mapping[str, Camera]) -> Iterator[Problem]:
    """Cameras of which two are one device, or are not told apart."""
    paths: dict[str, str] = {}
    serials: dict[str, str] = {}
    unnamed: list[str] = []
    for name, camera in cameras.items():
        v4l2, realsense = (camera.source.v4l2, camera.source.realsense) if camera.source else (None, None)
        if v4l2 is not None:
            # Where the device is there, its other names (/dev/v4l/by-id/...) are links to it.
            first = paths.setdefault(os.path.realpath(v4l2.device), name)
            if first != name:
                yield Problem(
                    ("cameras", name, "source", "v4l2", "device"),
                    f"{v4l2.device}, the device of camera '{first}' too",
                    "a device of its own for each camera",
                    "name this camera's; `ls -l /dev/v4l/by-path` shows which is plugged in where",
                )
        if realsense is not None and realsense.serial is None:
            unnamed.append(name)
        elif realsense is not None and realsense.serial is not None:
            first = serials.setdefault(realsense.serial, name)
            if first != name:
                yield Problem(
                    ("cameras", name, "source", "realsense", "serial"),
                    f"'{realsense.serial}', the serial number of camera '{first}' too",
                    "a camera of its own",
                    "correct one of the two; `rs-enumerate-devices -s` lists what is plugged in",
                )
    for name in unnamed:
        others = [each for each in (*serials.values(), *unnamed) if each != name]
        if others:
            yield Problem(
                ("cameras", name, "source", "realsense"),
                "no serial",
                f"one, as camera '{others[0]}' is a RealSense too",
                'add serial: "..."; `rs-enumerate-devices -s` lists what is plugged in',
            )


def view_problems(at: KeyPath, camera: Camera) -> Iterator[Problem]:
    """Mistakes in how a camera's pictures are turned and cut; at: the camera's path."""
    crop = camera.crop
    if crop is None:
        return
    width, height = turned_size(camera)
    turned = f" (rotated by {camera.rotate})" if camera.rotate else ""
    for offset, extent, begin, length, whole in (
        ("x", "width", crop.x, crop.width, width),
        ("y", "height", crop.y, crop.height, height),
    ):
        if begin + length > whole:
            yield Problem(
                (*at, "crop", extent),
                f"{length} from {offset} = {begin} on, which ends at {begin + length}",
                f"a part of the picture, which is {width}x{height}{turned}",
                f"keep {offset} + {extent} within {whole}",
            )
