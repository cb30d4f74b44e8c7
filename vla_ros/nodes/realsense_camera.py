"""An Intel RealSense camera, through pyrealsense2 (the extra `realsense`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.nodes.capture import CameraLost, Captured, HardwareClock, Now, on_ros_clock
from vla_ros.observation.views import Lens
from vla_ros.robot.config_cameras import Camera, RealsenseSource

_NO_FRAME_MS = 2000
_MS_IN_NS = 1_000_000
# {format in the YAML: encoding of the message}. yuyv goes by the name that ROS before Iron knows too.
_ENCODINGS = {"rgb8": "rgb8", "bgr8": "bgr8", "yuyv": "yuv422_yuy2"}


def load_sdk() -> Any:
    """pyrealsense2. Raises ConfigError where it is not installed."""
    try:
        import pyrealsense2
    except ImportError as error:
        raise ConfigError(
            f"source.realsense needs pyrealsense2 ({error}): pip install 'vla_ros[realsense]', and libusb-1.0"
        ) from None
    return pyrealsense2


def plugged_in(sdk: Any, serial: str | None) -> Any:
    """The camera of that serial number; without one the only camera there is. Raises CameraLost."""
    return chosen(sdk.context().query_devices(), sdk.camera_info.serial_number, serial)


def chosen(devices: Any, key: Any, serial: str | None) -> Any:
    """As `plugged_in`, of these devices; key: the SDK's name for the serial number."""
    found: dict[str, Any] = {}
    silent: list[str] = []
    for index in range(len(devices)):
        try:
            # Looking at a camera opens it, which fails for one that another process has just now.
            device = devices[index]
            found[device.get_info(key)] = device
        except RuntimeError as error:
            silent.append(str(error))
    there = ", ".join(found) or "none"
    if silent:
        there += f", and {len(silent)} that cannot be looked at ({'; '.join(silent)})"
    if serial is None and len(devices) == 0:
        raise CameraLost("RealSense: none is plugged in")
    if serial is None and len(devices) > 1:
        raise CameraLost(
            f"RealSense: {len(devices)} cameras ({there}), so source.realsense.serial must say which"
        )
    if serial is not None and serial not in found:
        raise CameraLost(f"RealSense {serial}: not plugged in; there are: {there}")
    if not found:
        raise CameraLost(f"RealSense: {there}; another process may hold it")
    return found[serial] if serial is not None else next(iter(found.values()))


class RealsenseCamera:
    """Colours in the YAML's format and, where wanted, depth as seen by the colour camera."""

    def __init__(
        self, sdk: Any, camera: Camera, source: RealsenseSource, now: Now, find: Callable[[], Any]
    ) -> None:
        """sdk: pyrealsense2; now: the ROS clock, ns; find: the device, as `plugged_in` does."""
        self._sdk, self._camera, self._source, self._now, self._find = sdk, camera, source, now, find
        self.encoding = _ENCODINGS[source.format]
        self._sensors: list[Any] = []
        self._frames: Any = None
        self._align: Any = None
        self._depth_unit_mm = 1.0

    def open(self) -> Lens | None:
        """Start the streams with size, rate and exposure of the YAML. Raises CameraLost."""
        self.close()
        sdk, source = self._sdk, self._source
        aligned = source.depth_aligned is not None
        try:
            sensors = list(self._find().query_sensors())
            colour_at, colour = self._chosen(sensors, sdk.stream.color, source.format)
            profiles = {colour_at: [colour]}
            if aligned:
                depth_at, depth = self._chosen(sensors, sdk.stream.depth, "z16")
                # One sensor gives both in cameras such as the D405.
                profiles.setdefault(depth_at, []).append(depth)
                self._align = sdk.align(sdk.stream.color)
                self._depth_unit_mm = sensors[depth_at].get_option(sdk.option.depth_units) * 1000.0
            self._clock = HardwareClock()
            self._frames = sdk.syncer() if aligned else sdk.frame_queue(2)
            self._expose(sensors[colour_at])
            for index, wanted in profiles.items():
                sensors[index].open(wanted)
                self._sensors.append(sensors[index])
                sensors[index].start(self._frames)
        except RuntimeError as error:
            self.close()
            raise CameraLost(f"RealSense: {error}") from error
        return lens_of(colour.as_video_stream_profile().get_intrinsics())

    def _chosen(self, sensors: list[Any], stream: Any, layout: str) -> tuple[int, Any]:
        """(index of the sensor, profile) of the stream with the YAML's size and rate, and that format."""
        camera = self._camera
        offered: list[str] = []
        for index, sensor in enumerate(sensors):
            for profile in sensor.get_stream_profiles():
                if profile.stream_type() != stream or profile.format().name != layout:
                    continue
                video = profile.as_video_stream_profile()
                size = (video.width(), video.height())
                offered.append(f"{size[0]}x{size[1]} at {profile.fps()} Hz")
                if size == (camera.width, camera.height) and profile.fps() == camera.rate_hz:
                    return index, profile
        raise CameraLost(
            f"RealSense: no {stream.name} of {camera.width}x{camera.height} at {camera.rate_hz:g} Hz as "
            f"{layout}, which the robot YAML says; it has {', '.join(dict.fromkeys(offered)) or 'none'}"
        )

    def _expose(self, sensor: Any) -> None:
        option, exposure = self._sdk.option, self._source.exposure_ms
        if sensor.supports(option.auto_exposure_priority):
            # Else the camera halves its rate in the dark, to expose for longer than a frame takes.
            sensor.set_option(option.auto_exposure_priority, 0)
        if exposure is None:
            if sensor.supports(option.enable_auto_exposure):
                sensor.set_option(option.enable_auto_exposure, 1)
            return
        if not sensor.supports(option.exposure):
            raise CameraLost("RealSense: this camera takes no exposure_ms; leave it out")
        # A colour sensor of its own is a USB video camera, which counts in 0.1 ms; the stereo module, which
        # gives the colours of cameras such as the D405, counts in microseconds.
        per_ms = 1000 if sensor.is_depth_sensor() else 10
        if sensor.supports(option.enable_auto_exposure):
            sensor.set_option(option.enable_auto_exposure, 0)
        sensor.set_option(option.exposure, round(exposure * per_ms))

    def read(self) -> Captured:
        """The next frame of colours, with depth where one of the same moment has come. Raises CameraLost."""
        if self._frames is None:
            raise CameraLost("RealSense: not open")
        try:
            colour, depth = self._waited()
        except RuntimeError as error:
            raise CameraLost(
                f"RealSense: no frame within {_NO_FRAME_MS} ms ({error}); plug the camera in"
            ) from error
        pixels = np.asanyarray(colour.get_data())
        # Of yuyv it makes one uint16 a pixel.
        return Captured(self._stamp(colour), pixels.view(np.uint8).reshape(*pixels.shape[:2], -1), depth)

    def _waited(self) -> tuple[Any, Any]:
        """(frame of colours, depth in mm or None). Raises RuntimeError (librealsense's) or CameraLost."""
        if self._align is None:
            return self._frames.wait_for_frame(_NO_FRAME_MS), None
        begin = time.monotonic()
        while True:
            both = self._frames.wait_for_frames(_NO_FRAME_MS)
            if not both.get_color_frame():
                # Depth may go on where the colours have ended.
                if (time.monotonic() - begin) * 1e3 > _NO_FRAME_MS:
                    raise CameraLost(f"RealSense: depth, but no colours within {_NO_FRAME_MS} ms")
                continue
            if not both.get_depth_frame():
                return both.get_color_frame(), None
            both = self._align.process(both)
            return both.get_color_frame(), self._millimetres(both.get_depth_frame())

    def _millimetres(self, frame: Any) -> Any:
        depth = np.asanyarray(frame.get_data())
        if abs(self._depth_unit_mm - 1.0) < 1e-6:
            return depth
        return np.rint(depth * self._depth_unit_mm).clip(0, 65535).astype(np.uint16)

    def _stamp(self, frame: Any) -> int:
        captured_ns = round(frame.get_timestamp() * _MS_IN_NS)
        if frame.get_frame_timestamp_domain() == self._sdk.timestamp_domain.hardware_clock:
            return self._clock.stamp(captured_ns, self._now())
        # librealsense has put it on this machine's clock.
        return on_ros_clock(captured_ns, time.time_ns(), self._now())

    def close(self) -> None:
        """Stop the streams."""
        for sensor in self._sensors:
            for end in (sensor.stop, sensor.close):
                try:
                    end()
                except RuntimeError:  # unplugged
                    continue
        self._sensors, self._frames, self._align = [], None, None


def lens_of(intrinsics: Any) -> Lens:
    """librealsense's intrinsics as camera_info says them; other models than ROS's under their own name."""
    model, d = intrinsics.model.name, np.array(intrinsics.coeffs, np.float64)
    if model == "kannala_brandt4":
        model, d = "equidistant", d[:4]
    elif model in ("none", "brown_conrady") or not d.any():
        model = "plumb_bob"
    k = np.array(
        [[intrinsics.fx, 0.0, intrinsics.ppx], [0.0, intrinsics.fy, intrinsics.ppy], [0.0, 0.0, 1.0]]
    )
    p = np.column_stack([k, np.zeros(3)])
    return Lens(intrinsics.width, intrinsics.height, model, d, k, np.eye(3), p, True)
