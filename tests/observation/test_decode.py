from __future__ import annotations

import numpy as np
import pytest

from tests.observation.messages import compressed, compressed_bytes, image, joint_state
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


@pytest.mark.parametrize("encoding", ["16UC1", "32FC1", "bayer_rggb8", "yuv422", ""])
def test_other_encodings_are_named(encoding: str) -> None:
    with pytest.raises(Refused, match=f"image encoding '{encoding}'; supported are") as caught:
        decode_image(image(STAMP, picture(), encoding))
    assert caught.value.reason == "unsupported_encoding"


def test_rows_too_short_for_the_width_are_refused() -> None:
    with pytest.raises(Refused) as caught:
        decode_image(image(STAMP, picture(1), "rgb8"))
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
