"""RealSense cameras, by librealsense's own software device in place of hardware; needs pyrealsense2."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vla_ros.nodes.capture import CameraLost
from vla_ros.nodes.realsense_camera import RealsenseCamera, plugged_in
from vla_ros.observation.views import undistortion
from vla_ros.robot.config_cameras import Camera

rs = pytest.importorskip("pyrealsense2", exc_type=ImportError)

WIDTH, HEIGHT = 640, 480
MS = 1_000_000
BROWN = [0.1, -0.2, 0.001, 0.002, 0.05]


def camera(**source: Any) -> Camera:
    fields: dict[str, Any] = {"topic": "/c/image", "camera_info": "/c/info", "rate_hz": 30, "max_age_ms": 100}
    return Camera.model_validate(
        {**fields, "width": WIDTH, "height": HEIGHT, "source": {"realsense": source}, "undistort": True}
    )


class Soft:
    """A software device with a colour and a depth sensor, fed with frames as the hardware would be."""

    def __init__(self, domain: Any = None) -> None:
        self.device = rs.software_device()
        self.domain = rs.timestamp_domain.hardware_clock if domain is None else domain
        self._sensors = []
        for name, kind, layout, size in (
            ("RGB Camera", rs.stream.color, rs.format.rgb8, 3),
            ("Stereo Module", rs.stream.depth, rs.format.z16, 2),
        ):
            sensor = self.device.add_sensor(name)
            stream = rs.video_stream()
            stream.type, stream.fmt, stream.bpp, stream.fps = kind, layout, size, 30
            stream.index, stream.uid, stream.width, stream.height = 0, size, WIDTH, HEIGHT
            lens = rs.intrinsics()
            lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = WIDTH, HEIGHT, 600, 601, 321, 239
            lens.model, lens.coeffs = rs.distortion.brown_conrady, BROWN
            stream.intrinsics = lens
            self._sensors.append((sensor, sensor.add_video_stream(stream, True), size))
        self._sensors[1][0].add_read_only_option(rs.option.depth_units, 0.0005)
        here = rs.extrinsics()
        here.rotation, here.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
        self._sensors[1][1].register_extrinsics_to(self._sensors[0][1], here)
        # Depth and colours are paired by their times and the rate that frames tell of, as with a D400.
        self.device.create_matcher(rs.matchers.di_c)
        for sensor, _, _ in self._sensors:
            sensor.set_metadata(rs.frame_metadata_value.actual_fps, 30_000)
        self._number = 0
        self._ended = threading.Event()

    def send(self, device_ms: float) -> None:
        """A frame of each sensor: colours of the number of the frame, depth of 1 m."""
        self._number += 1
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        pixels[..., 0], pixels[..., 2] = self._number % 256, 200
        depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
        for (sensor, profile, size), values in zip(self._sensors, (pixels, depth), strict=True):
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp, frame.stride = values, size, WIDTH * size
            frame.timestamp, frame.domain, frame.frame_number = device_ms, self.domain, self._number
            frame.profile = profile.as_video_stream_profile()
            if size == 2:
                frame.depth_units = 0.0005
            sensor.on_video_frame(frame)

    def send_on(self, first_ms: float) -> None:
        """Frames at 30 Hz from now on, until `stop`."""
        self._ended.clear()
        begin = time.monotonic()

        def feed() -> None:
            while not self._ended.wait(0.033):
                self.send(first_ms + (time.monotonic() - begin) * 1e3)

        self._thread = threading.Thread(target=feed)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def soft() -> Iterator[Soft]:
    yield Soft()


def opened(declared: Camera, soft: Soft) -> RealsenseCamera:
    assert declared.source is not None and declared.source.realsense is not None
    device = RealsenseCamera(rs, declared, declared.source.realsense, time.time_ns, lambda: soft.device)
    lens = device.open()
    assert lens is not None and (lens.width, lens.height, lens.model) == (WIDTH, HEIGHT, "plumb_bob")
    assert lens.k.ravel().tolist() == [600, 0, 321, 0, 601, 239, 0, 0, 1]
    assert lens.d == pytest.approx(BROWN)
    undistortion("camera/c", lens, declared)
    return device


def test_colours_come_with_the_hardwares_time_on_our_clock(soft: Soft) -> None:
    device = opened(camera(), soft)
    begin = time.time_ns()
    soft.send_on(5_000.0)
    try:
        frames = [device.read() for _ in range(20)]
    finally:
        soft.stop()
    assert all(frame.depth is None for frame in frames)
    numbers = [int(frame.pixels[7, 7, 0]) for frame in frames]
    assert numbers == sorted(numbers) and frames[0].pixels[7, 7].tolist()[1:] == [0, 200]
    stamps = [frame.stamp_ns for frame in frames]
    assert begin <= stamps[0] and stamps[-1] <= time.time_ns()
    # The spacing is that of the hardware, not of how late each frame came here.
    assert stamps[-1] - stamps[10] == pytest.approx((numbers[-1] - numbers[10]) * 33 * MS, rel=0.5)
    device.close()


def test_depth_comes_aligned_and_in_millimetres(soft: Soft) -> None:
    device = opened(camera(depth_aligned="/c/depth"), soft)
    soft.send_on(5_000.0)
    try:
        frames = [device.read() for _ in range(30)]
    finally:
        soft.stop()
    with_depth = [frame for frame in frames if frame.depth is not None]
    assert len(with_depth) > 20
    depth = with_depth[-1].depth
    assert depth is not None and depth.shape == (HEIGHT, WIDTH) and depth.dtype == np.uint16
    assert depth[HEIGHT // 2, WIDTH // 2] == 1000
    device.close()


def test_times_that_librealsense_has_put_on_our_clock_are_kept() -> None:
    soft = Soft(rs.timestamp_domain.global_time)
    device = opened(camera(), soft)
    sent_ns = time.time_ns() - 40 * MS
    soft.send(sent_ns / 1e6)
    assert abs(device.read().stamp_ns - sent_ns) < 2 * MS
    device.close()


def test_a_camera_that_falls_silent_is_lost_and_opened_again(
    soft: Soft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_ros.nodes.realsense_camera._NO_FRAME_MS", 300)
    device = opened(camera(), soft)
    soft.send(5_000.0)
    device.read()
    with pytest.raises(CameraLost, match="RealSense: "):
        device.read()
    device.close()
    device.open()
    soft.send(100.0)
    assert device.read().stamp_ns <= time.time_ns()
    device.close()
    device.close()


def test_streams_that_there_are_not_are_named(soft: Soft) -> None:
    declared = camera().model_copy(update={"rate_hz": 60.0})
    with pytest.raises(CameraLost, match=r"no color of 640x480 at 60 Hz.* it has 640x480 at 30 Hz"):
        opened(declared, soft)
    with pytest.raises(CameraLost, match="takes no exposure_ms"):
        opened(camera(exposure_ms=8), soft)


def test_exposure_is_set_by_hand_or_left_to_the_camera(soft: Soft) -> None:
    sensor = soft._sensors[0][0]
    for option, highest in ((rs.option.exposure, 10_000), (rs.option.enable_auto_exposure, 1)):
        extent = rs.option_range()
        extent.min, extent.max, extent.default, extent.step = 0, highest, 1, 1
        sensor.add_option(option, extent, True)
    opened(camera(exposure_ms=8.3), soft).close()
    # 0.1 ms, as of every USB video camera.
    assert sensor.get_option(rs.option.exposure) == 83
    assert sensor.get_option(rs.option.enable_auto_exposure) == 0
    opened(camera(), soft).close()
    assert sensor.get_option(rs.option.enable_auto_exposure) == 1


def test_what_is_plugged_in() -> None:
    with pytest.raises(CameraLost, match="RealSense 123: not plugged in; there are: "):
        plugged_in(rs, "123")
