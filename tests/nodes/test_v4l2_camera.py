"""What is asked of a V4L2 device. There is none here: `Device` keeps OpenCV's rules (cap_v4l.cpp), by which a
size counts once both its numbers are set, a format that there is not is not taken, and rates are rounded."""

from __future__ import annotations

import errno
import os
import struct
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from vla_ros.nodes.capture import CameraLost
from vla_ros.nodes.v4l2_camera import V4l2Camera, captures
from vla_ros.robot.config_cameras import Camera


class Device:
    SIZES = ((640, 480), (1280, 720))
    FORMATS = ("MJPG", "YUYV")

    def __init__(self, manual: bool = True, rate: float | None = None) -> None:
        self.now: dict[int, float] = {
            cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"YUYV"),
            cv2.CAP_PROP_FRAME_WIDTH: 1280,
            cv2.CAP_PROP_FRAME_HEIGHT: 720,
            cv2.CAP_PROP_FPS: 10,
        }
        self._manual, self._rate, self._size = manual, rate, {}

    def set(self, key: int, value: float) -> bool:
        if key in (cv2.CAP_PROP_AUTO_EXPOSURE, cv2.CAP_PROP_EXPOSURE):
            self.now[key] = value
            return self._manual
        if key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT):
            self._size[key] = value
            if len(self._size) == 2:
                wanted = self._size[cv2.CAP_PROP_FRAME_WIDTH]
                size = min(self.SIZES, key=lambda each: abs(each[0] - wanted))
                self.now |= dict(
                    zip((cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT), size, strict=True)
                )
                self._size = {}
            return True
        formats = [cv2.VideoWriter.fourcc(*each) for each in self.FORMATS]
        if key == cv2.CAP_PROP_FOURCC and value not in formats:
            return False
        if key == cv2.CAP_PROP_FPS and self._rate is not None:
            value = self._rate
        self.now[key] = value
        return True

    def get(self, key: int) -> float:
        return self.now[key]


def configured(device: Any, v4l2: dict[str, Any], **changes: Any) -> None:
    fields = {"topic": "/c/image", "camera_info": "/c/info", "width": 640, "height": 480, "rate_hz": 30}
    source = {"v4l2": {"device": "/dev/video9", **v4l2}}
    camera = Camera.model_validate({**fields, "max_age_ms": 100, "source": source, **changes})
    assert camera.source is not None and camera.source.v4l2 is not None
    V4l2Camera(camera, camera.source.v4l2, None, time.time_ns)._configure(device)


def test_format_size_rate_and_exposure_are_set() -> None:
    device = Device()
    configured(device, {"exposure_ms": 12.5})
    assert device.now == {
        cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"),
        cv2.CAP_PROP_FRAME_WIDTH: 640,
        cv2.CAP_PROP_FRAME_HEIGHT: 480,
        cv2.CAP_PROP_FPS: 30,
        cv2.CAP_PROP_AUTO_EXPOSURE: 1,
        cv2.CAP_PROP_EXPOSURE: 125,
    }


def test_exposure_is_automatic_unless_said_and_need_not_be_settable() -> None:
    device = Device(manual=False)
    configured(device, {})
    assert device.now[cv2.CAP_PROP_AUTO_EXPOSURE] == 3
    with pytest.raises(CameraLost, match="/dev/video9: does not take exposure_ms 8"):
        configured(Device(manual=False), {"exposure_ms": 8})


@pytest.mark.parametrize("rate", [29.97, -1.0])
def test_a_rate_that_is_nearly_so_or_not_told_will_do(rate: float) -> None:
    configured(Device(rate=rate), {})


@pytest.mark.parametrize(
    ("v4l2", "changes", "says"),
    [
        ({"fourcc": "NV12"}, {}, "fourcc NV12"),
        ({}, {"width": 800}, "width 800"),
        ({}, {"height": 400}, "height 400"),
    ],
)
def test_what_the_device_does_not_take_is_named(
    v4l2: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(CameraLost, match=f"/dev/video9: does not take {says}; choose of what `v4l2-ctl"):
        configured(Device(), v4l2, **changes)
    with pytest.raises(CameraLost, match="does not take rate_hz 30"):
        configured(Device(rate=15), {})


def unopened(device: str) -> V4l2Camera:
    fields = {"topic": "/c/i", "camera_info": "/c/n", "width": 640, "height": 480, "rate_hz": 30}
    source = {"v4l2": {"device": device}}
    camera = Camera.model_validate({**fields, "max_age_ms": 100, "source": source})
    assert camera.source is not None and camera.source.v4l2 is not None
    return V4l2Camera(camera, camera.source.v4l2, None, time.time_ns)


def test_a_device_that_is_not_there_is_named() -> None:
    device = unopened("/dev/no_such_camera")
    with pytest.raises(
        CameraLost, match="/dev/no_such_camera: No such file or directory; plug the camera in"
    ):
        device.open()
    with pytest.raises(CameraLost, match="not open"):
        device.read()
    device.close()


def test_a_device_that_is_no_camera_is_named(tmp_path: Path) -> None:
    """By the kernel's own answer."""
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    with pytest.raises(
        CameraLost, match=rf"{link}: is no Video4Linux device \(.+\); `v4l2-ctl --list-devices`"
    ):
        unopened(str(link)).open()


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "may not be opened by this user; add it to the group video"),
        (errno.EBUSY, "another process holds it; `fuser -v`"),
        (errno.ENODEV, r"cannot be opened \(No such device\); plug the camera in again"),
    ],
)
def test_why_a_device_cannot_be_opened_is_told(
    monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number), path)

    monkeypatch.setattr("vla_ros.nodes.v4l2_camera.os.open", refuse)
    with pytest.raises(CameraLost, match=f"/dev/null: {says}"):
        unopened("/dev/null").open()


@pytest.mark.parametrize(
    ("capabilities", "device_caps", "gives_pictures"),
    [
        # uvcvideo: all nodes of the camera together, and this node's own: pictures, or metadata.
        (0x84A00001, 0x04200001, True),
        (0x84A00001, 0x04A00000, False),
        (0x84003000, 0x04001000, True),  # of several planes
        (0x05000001, 0, True),  # a driver that tells of no node
        (0x05000000, 0, False),
    ],
)
def test_which_device_gives_pictures(capabilities: int, device_caps: int, gives_pictures: bool) -> None:
    told = struct.pack(
        "<16s32s32s6I", b"uvcvideo", b"Webcam", b"usb-1", 0, capabilities, device_caps, 0, 0, 0
    )
    assert len(told) == 104 and captures(told) is gives_pictures
