from __future__ import annotations

import numpy as np
import pytest

from tests.observation.messages import STORE, compressed, compressed_bytes, image, joint_state
from vla_ros.errors import Refused
from vla_ros.observation.decode import (
    decode_compressed_image,
    decode_image,
    decode_joint_state,
)

STAMP = 1_700_000_000_123_456_789


def picture(channels: int = 3, width: int = 64, height: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("rgb8", 3, [0, 1, 2]),
        ("bgr8", 3, [2, 1, 0]),
        ("rgba8", 4, [0, 1, 2]),
        ("bgra8", 4, [2, 1, 0]),
        ("mono8", 1, [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("padding", [0, 5])
def test_each_encoding_becomes_rgb(encoding: str, channels: int, order: list[int], padding: int) -> None:
    sent = picture(channels)
    frame = decode_image(image(STAMP, sent, encoding, padding))
    assert frame.stamp_ns == STAMP
    assert frame.size == (64, 48)
    assert frame.encoding == encoding
    assert np.array_equal(frame.rgb(), sent[:, :, order])


@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("bgra8", 4), ("mono8", 1)])
def test_pixels_are_a_read_only_view_of_the_message(encoding: str, channels: int) -> None:
    cdr = image(STAMP, picture(channels), encoding)
    pixels = decode_image(cdr).rgb()
    assert np.shares_memory(pixels, np.frombuffer(cdr, np.uint8))
    assert not pixels.flags.writeable


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "8UC3", "nv21", "RGB8", ""])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(Refused, match=f"image encoding '{encoding}'; supported are") as caught:
        decode_image(image(STAMP, picture(), encoding))
    assert caught.value.reason == "unsupported_encoding"


def test_rows_too_short_for_the_width_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        decode_image(image(STAMP, picture(1), "rgb8"))
    assert caught.value.reason == "malformed_image"


def changed(cdr: bytes, **fields: int) -> bytes:
    """The same image message with other numbers in it."""
    message = STORE.deserialize_cdr(cdr, "sensor_msgs/msg/Image")
    for name, value in fields.items():
        setattr(message, name, value)
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/Image"))


@pytest.mark.parametrize(
    ("encoding", "channels", "fields", "says"),
    [
        ("rgb8", 3, {"height": 47}, "rows of 192 bytes and 9216 bytes in all"),
        ("rgb8", 3, {"height": 49}, "rows of 192 bytes"),
        ("rgb8", 3, {"step": 191}, "rows of 191 bytes"),
        ("rgb8", 3, {"width": 65}, "65x48 rgb8 with rows of 192 bytes"),
        ("rgb8", 3, {"width": 0}, "0x48"),
        ("rgb8", 3, {"is_bigendian": 7}, "is_bigendian 7"),
        ("mono16", 1, {}, "rows of 64 bytes"),
        ("uyvy", 2, {"width": 63}, "an odd width"),
    ],
)
def test_what_does_not_add_up_is_refused(
    encoding: str, channels: int, fields: dict[str, int], says: str
) -> None:
    with pytest.raises(Refused, match=says) as caught:
        decode_image(changed(image(STAMP, picture(channels), encoding), **fields))
    assert caught.value.reason == "malformed_image"


def test_truncated_messages_are_refused() -> None:
    cdr = image(STAMP, picture())
    for length in (0, 3, 4, 11, 40, len(cdr) // 2, len(cdr) - 1):
        with pytest.raises(Refused) as caught:
            decode_image(cdr[:length])
        assert caught.value.reason in ("undecodable", "malformed_image")
    for length in (0, 4, 20):
        with pytest.raises(Refused):
            decode_joint_state(joint_state(STAMP, ["a", "b"], [1, 2])[:length])


def test_a_compressed_image_is_decoded_on_demand() -> None:
    sent = picture()
    frame = decode_compressed_image(compressed(STAMP, sent))
    assert frame.stamp_ns == STAMP
    assert frame.size is None
    assert np.array_equal(frame.rgb(), sent)


def test_a_jpeg_is_the_picture_but_for_what_jpeg_loses() -> None:
    x, y = np.meshgrid(np.arange(64), np.arange(48))
    sent = np.stack([4 * x, 5 * y, 255 - 2 * x - 2 * y], axis=2).astype(np.uint8)
    frame = decode_compressed_image(compressed(STAMP, sent, ".jpg", "rgb8; jpeg compressed bgr8"))
    assert np.abs(frame.rgb().astype(int) - sent).max() < 20
    assert np.abs(frame.rgb().astype(int) - sent).mean() < 3


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff rubbish"])
def test_a_compressed_image_that_is_none_is_refused(data: bytes) -> None:
    frame = decode_compressed_image(compressed_bytes(STAMP, np.frombuffer(data, np.uint8), "jpeg"))
    with pytest.raises(Refused, match="of 'jpeg' that are no image") as caught:
        frame.rgb()
    assert caught.value.reason == "undecodable"


def test_joint_states_keep_their_names() -> None:
    sample = decode_joint_state(joint_state(STAMP, ["b", "a"], [0.5, -1.5]))
    assert sample.stamp_ns == STAMP
    assert sample.names == ("b", "a")
    assert sample.positions.tolist() == [0.5, -1.5]
