from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.recording.messages import image
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


def test_what_has_no_jpeg_form_is_refused() -> None:
    with pytest.raises(ValueError, match="32FC1"):
        image_to_jpeg(image(0, _picture(1), "32FC1"))


def test_a_short_image_is_refused() -> None:
    whole = typestore().deserialize_cdr(image(0, _picture(3)), "sensor_msgs/msg/Image")
    whole.height += 1
    with pytest.raises(ValueError, match="64x49"):
        image_to_jpeg(bytes(typestore().serialize_cdr(whole, "sensor_msgs/msg/Image")))
