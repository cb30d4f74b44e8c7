"""A camera of the Video4Linux kind (USB webcams and the like), through OpenCV."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import time
from typing import Any

import cv2

from vla_ros.nodes.capture import CameraLost, Captured, Now, on_ros_clock
from vla_ros.observation.views import Lens
from vla_ros.robot.config_cameras import Camera, V4l2Source

# V4L2_CID_EXPOSURE_AUTO: V4L2_EXPOSURE_MANUAL and V4L2_EXPOSURE_APERTURE_PRIORITY; exposure is in 0.1 ms.
_MANUAL, _AUTOMATIC = 1, 3
# linux/videodev2.h: VIDIOC_QUERYCAP fills a struct v4l2_capability, with capabilities and device_caps from
# byte 84 on; the latter counts where V4L2_CAP_DEVICE_CAPS says so. V4L2_CAP_VIDEO_CAPTURE(_MPLANE).
_QUERYCAP, _CAPABILITY_BYTES, _FLAGS = 0x80685600, 104, struct.Struct("<84x2I")
_DEVICE_CAPS, _CAPTURES = 0x80000000, 0x1 | 0x1000
# 29.97 Hz for 30.
_RATE_OFF = 0.01
# How long a camera that is there may give no frame, s; OpenCV looks when it first reads from one.
os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", "2")


class V4l2Camera:
    """One device, read as BGR."""

    encoding = "bgr8"

    def __init__(self, camera: Camera, source: V4l2Source, lens: Lens | None, now: Now) -> None:
        """lens: from its calibration file; now: the ROS clock, ns."""
        self._camera, self._source, self._lens, self._now = camera, source, lens, now
        self._capture: cv2.VideoCapture | None = None

    def open(self) -> Lens | None:
        """Open the device with format, size, rate and exposure of the YAML. Raises CameraLost."""
        self.close()
        device = self._source.device
        try:
            is_device = stat.S_ISCHR(os.stat(device).st_mode)
        except OSError as error:
            raise CameraLost(f"{device}: {error.strerror}; plug the camera in, or correct device") from None
        if is_device:
            wrong = why_not(device)
            if wrong:
                raise CameraLost(f"{device}: {wrong}")
        # Anything else that has a name is a recorded video.
        self._capture = cv2.VideoCapture(device, cv2.CAP_V4L2 if is_device else cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            self.close()
            raise CameraLost(f"{device}: cannot be opened; see whether another process holds it (fuser -v)")
        if is_device:
            self._configure(self._capture)
        return self._lens

    def _configure(self, capture: cv2.VideoCapture) -> None:
        camera, source = self._camera, self._source
        code = cv2.VideoWriter.fourcc(*source.fourcc)
        wanted = {
            cv2.CAP_PROP_FOURCC: (f"fourcc {source.fourcc}", float(code)),
            cv2.CAP_PROP_FRAME_WIDTH: (f"width {camera.width}", float(camera.width)),
            cv2.CAP_PROP_FRAME_HEIGHT: (f"height {camera.height}", float(camera.height)),
            cv2.CAP_PROP_FPS: (f"rate_hz {camera.rate_hz:g}", camera.rate_hz),
        }
        # A size counts once both its numbers are set, and each of these may change the others.
        for key, (_, value) in wanted.items():
            capture.set(key, value)
        for key, (what, value) in wanted.items():
            found = capture.get(key)
            if key == cv2.CAP_PROP_FPS and found <= 0:  # a driver that does not tell
                continue
            if abs(found - value) > (_RATE_OFF * value if key == cv2.CAP_PROP_FPS else 0):
                raise CameraLost(
                    f"{source.device}: does not take {what}; choose of what "
                    f"`v4l2-ctl -d {source.device} --list-formats-ext` lists"
                )
        exposure = source.exposure_ms
        took = capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _AUTOMATIC if exposure is None else _MANUAL)
        if exposure is not None and not (took and capture.set(cv2.CAP_PROP_EXPOSURE, round(exposure * 10))):
            raise CameraLost(
                f"{source.device}: does not take exposure_ms {exposure:g}; leave it out or change it"
            )

    def read(self) -> Captured:
        """The next frame. Raises CameraLost when the device is gone or gives another size."""
        capture, device = self._capture, self._source.device
        if capture is None:
            raise CameraLost(f"{device}: not open")
        pixels: Any
        there, pixels = capture.read()
        if not there:
            raise CameraLost(f"{device}: gives no more frames")
        # V4L2 drivers stamp buffers on the monotonic clock.
        captured_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
        stamp_ns = on_ros_clock(captured_ns, time.monotonic_ns(), self._now())
        height, width = pixels.shape[:2]
        if (width, height) != (self._camera.width, self._camera.height):
            raise CameraLost(
                f"{device}: gives {width}x{height}, the robot YAML says "
                f"{self._camera.width}x{self._camera.height}; correct width and height there"
            )
        return Captured(stamp_ns, pixels)

    def close(self) -> None:
        """Release the device."""
        if self._capture is not None:
            self._capture.release()
            self._capture = None


def why_not(device: str) -> str:
    """Why a device file is no camera to read from, and what to do; "" where it is one."""
    try:
        file = os.open(device, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            return "may not be opened by this user; add it to the group video (usermod -aG video NAME)"
        if error.errno == errno.EBUSY:
            return "another process holds it; `fuser -v` says which"
        return f"cannot be opened ({error.strerror}); plug the camera in again"
    capability = bytearray(_CAPABILITY_BYTES)
    try:
        fcntl.ioctl(file, _QUERYCAP, capability)
    except OSError as error:
        return f"is no Video4Linux device ({error.strerror}); `v4l2-ctl --list-devices` lists those there are"
    finally:
        os.close(file)
    if captures(bytes(capability)):
        return ""
    return "gives no pictures (webcams have a second device, for metadata); name its other one"


def captures(capability: bytes) -> bool:
    """Whether a struct v4l2_capability is of a device that pictures come from."""
    every, own = _FLAGS.unpack_from(capability)
    return bool((own if every & _DEVICE_CAPS else every) & _CAPTURES)
