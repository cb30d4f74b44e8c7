from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.recording.messages import image
from vla_ros.errors import Refused
from vla_ros.observation.decode import decode_image
from vla_ros.observation.encodings import ENCODINGS
from vla_ros.recording.images import image_to_jpeg
from vla_ros.recording.mcap_file import typestore


def _picture(channels: int) -> np.ndarray:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    picture = np.zeros((48, 64, channels), np.uint8)
    picture[..., 0] = ramp
    picture[:24, :, channels - 1] = 200
    return picture


@pytest.mark.parametrize("padding", [0, 13])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_pixels_survive(encoding: str, padding: int) -> None:
    pixels = _picture(1 if encoding == "mono8" else 3)
    cdr = image_to_jpeg(image(1_700_000_000_123_456_789, pixels, encoding, padding), quality=98)
    message = typestore().deserialize_cdr(cdr, "sensor_msgs/msg/CompressedImage")
    assert message.format.startswith(f"{encoding}; jpeg compressed")
    assert message.header.stamp.nanosec == 123_456_789 and message.header.frame_id == "front"
    seen = cv2.imdecode(message.data, cv2.IMREAD_COLOR)
    expected = {"rgb8": pixels[..., ::-1], "bgr8": pixels, "mono8": np.repeat(pixels, 3, axis=2)}[encoding]
    assert np.abs(seen.astype(int) - expected.astype(int)).mean() < 3


@pytest.mark.parametrize("encoding", ["rgba8", "bgra8", "mono16", "yuv422_yuy2", "bayer_rggb8"])
def test_whatever_a_policy_can_be_shown_is_recorded_as_it_is_shown(encoding: str) -> None:
    known = ENCODINGS[encoding]
    ramp = np.linspace(60, 190, 64 * known.bytes_per_pixel).astype(np.uint8)
    cdr = image(5, np.tile(ramp, (48, 1)).reshape(48, 64, known.bytes_per_pixel), encoding)
    message = typestore().deserialize_cdr(image_to_jpeg(cdr, quality=98), "sensor_msgs/msg/CompressedImage")
    seen = cv2.imdecode(message.data, cv2.IMREAD_COLOR)[:, :, ::-1]
    shown = decode_image(cdr).rgb()
    # JPEG keeps colours at half the resolution.
    assert np.abs(seen.astype(int) - shown.astype(int)).mean() < 8


def test_what_has_no_jpeg_form_is_refused() -> None:
    with pytest.raises(Refused, match="32FC1"):
        image_to_jpeg(image(0, _picture(1), "32FC1"))


def test_a_short_image_is_refused() -> None:
    whole = typestore().deserialize_cdr(image(0, _picture(3)), "sensor_msgs/msg/Image")
    whole.height += 1
    with pytest.raises(Refused, match="64x49"):
        image_to_jpeg(bytes(typestore().serialize_cdr(whole, "sensor_msgs/msg/Image")))
