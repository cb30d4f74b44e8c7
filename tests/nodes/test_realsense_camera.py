"""RealSense cameras, by librealsense's own software device in place of hardware; needs pyrealsense2."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from vla_ros.nodes.capture import CameraLost
from vla_ros.nodes.cdr import ImageWriter
from vla_ros.nodes.realsense_camera import RealsenseCamera, chosen, plugged_in
from vla_ros.observation.decode import decode_image
from vla_ros.observation.views import undistortion
from vla_ros.robot.config_cameras import Camera

try:
    import pyrealsense2 as rs
except ImportError as missing:
    pytest.skip(
        f"RealSense cameras are untested here: {missing}; pip install pyrealsense2, apt install libusb-1.0-0",
        allow_module_level=True,
    )

from tests.nodes.soft_realsense import BROWN, HEIGHT, WIDTH, Soft

MS = 1_000_000


def camera(**source: Any) -> Camera:
    fields: dict[str, Any] = {"topic": "/c/image", "camera_info": "/c/info", "rate_hz": 30, "max_age_ms": 100}
    return Camera.model_validate(
        {**fields, "width": WIDTH, "height": HEIGHT, "source": {"realsense": source}, "undistort": True}
    )


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
    # The spacing is that of the hardware, not of how late each frame came here: only a frame that came
    # sooner than all before it moves the two clocks against each other.
    apart = np.array([stamp - soft.sent[number] * MS for stamp, number in zip(stamps, numbers, strict=True)])
    assert (np.diff(apart) < 1_000).all() and (np.abs(np.diff(apart)) < 1_000).any()
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
    with pytest.raises(CameraLost, match=r"no color of 640x480 at 30 Hz as yuyv, .* it has none"):
        opened(camera(format="yuyv"), soft)
    with pytest.raises(CameraLost, match="takes no exposure_ms"):
        opened(camera(exposure_ms=8), soft)


def test_exposure_is_set_by_hand_or_left_to_the_camera(soft: Soft) -> None:
    sensor = soft._sensors[0][0]
    for option, highest in (
        (rs.option.exposure, 10_000),
        (rs.option.enable_auto_exposure, 1),
        (rs.option.auto_exposure_priority, 1),
    ):
        extent = rs.option_range()
        extent.min, extent.max, extent.default, extent.step = 0, highest, 1, 1
        sensor.add_option(option, extent, True)
    opened(camera(exposure_ms=8.3), soft).close()
    # 0.1 ms, as of every USB video camera.
    assert sensor.get_option(rs.option.exposure) == 83
    assert sensor.get_option(rs.option.enable_auto_exposure) == 0
    opened(camera(), soft).close()
    assert sensor.get_option(rs.option.enable_auto_exposure) == 1
    # Or a D435 halves its rate in the dark.
    assert sensor.get_option(rs.option.auto_exposure_priority) == 0


@pytest.mark.parametrize(
    ("layout", "encoding", "size"), [("rgb8", "rgb8", 3), ("bgr8", "bgr8", 3), ("yuyv", "yuv422_yuy2", 2)]
)
def test_colours_come_in_the_format_that_the_yaml_names(layout: str, encoding: str, size: int) -> None:
    soft = Soft(colours=getattr(rs.format, layout))
    device = opened(camera(format=layout), soft)
    soft.send(5_000.0)
    pixels = device.read().pixels
    assert device.encoding == encoding
    assert pixels.shape == (HEIGHT, WIDTH, size) and pixels.dtype == np.uint8
    assert pixels[7, 7].tolist() == [1, *[0] * (size - 2), 200]
    message = ImageWriter("c", WIDTH, HEIGHT, encoding).serialise(0, pixels)
    decoded = decode_image(message).rgb()
    # BT.601 of Y = 1 (below black) and U or V = 200; the others as they were sent.
    expected = {"rgb8": [1, 0, 200], "bgr8": [200, 0, 1]}.get(layout)
    assert decoded.shape == (HEIGHT, WIDTH, 3)
    assert expected is None or decoded[7, 7].tolist() == expected
    device.close()


def test_a_camera_whose_colours_end_while_its_depth_goes_on_is_lost(
    soft: Soft, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vla_ros.nodes.realsense_camera._NO_FRAME_MS", 300)
    device = opened(camera(depth_aligned="/c/depth"), soft)
    soft.send_on(5_000.0, colours=False)
    begin = time.monotonic()
    try:
        with pytest.raises(CameraLost, match="RealSense: depth, but no colours within 300 ms"):
            device.read()
    finally:
        soft.stop()
    assert time.monotonic() - begin < 5.0
    with pytest.raises(CameraLost, match="not open"):
        device.close()
        device.read()


class Plugged(list[Any]):
    """Devices, of which None is one that another process holds: librealsense raises on looking at it."""

    def __getitem__(self, index: Any) -> Any:
        if super().__getitem__(index) is None:
            raise RuntimeError("failed to set power state")
        return super().__getitem__(index)


def numbered(serial: str) -> Any:
    device = rs.software_device()
    device.register_info(rs.camera_info.serial_number, serial)
    return device


def test_the_camera_of_a_serial_number_is_found_beside_others() -> None:
    one, other, key = numbered("111"), numbered("222"), rs.camera_info.serial_number
    assert chosen(Plugged([one, other]), key, "222") is other
    assert chosen(Plugged([one]), key, None) is one
    with pytest.raises(CameraLost, match=r"RealSense: 2 cameras \(111, 222\), so source.realsense.serial"):
        chosen(Plugged([one, other]), key, None)
    with pytest.raises(CameraLost, match="RealSense 333: not plugged in; there are: 111, 222"):
        chosen(Plugged([one, other]), key, "333")
    with pytest.raises(CameraLost, match="RealSense: none is plugged in"):
        chosen(Plugged(), key, None)


def test_a_camera_that_cannot_be_looked_at_does_not_hide_the_others() -> None:
    one, key = numbered("111"), rs.camera_info.serial_number
    assert chosen(Plugged([None, one]), key, "111") is one
    silent = r"1 that cannot be looked at \(failed to set power state\)"
    with pytest.raises(CameraLost, match=rf"333: not plugged in; there are: 111, and {silent}"):
        chosen(Plugged([None, one]), key, "333")
    # Which of two it is cannot be known, nor what the only one is.
    with pytest.raises(CameraLost, match=r"2 cameras \(111, and 1 that"):
        chosen(Plugged([None, one]), key, None)
    with pytest.raises(CameraLost, match=rf"{silent}; another process may hold it"):
        chosen(Plugged([None]), key, None)


def test_what_is_plugged_in() -> None:
    with pytest.raises(CameraLost, match="RealSense 123: not plugged in; there are: "):
        plugged_in(rs, "123")
