"""Every encoding against what it means, written out here: no OpenCV conversion is used as its own judge,
except where the very rounding of cv_bridge's calls is compared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.observation.messages import STORE, image
from vla_ros.observation.decode import decode_image
from vla_ros.observation.encodings import ENCODINGS

STAMP = 1_700_000_000_000_000_000
WIDTH, HEIGHT = 32, 24


def smooth() -> np.ndarray:
    """A picture in which neighbours differ little and no two channels are alike."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    return np.stack([40 + 5 * x, 200 - 6 * y, 30 + 2 * x + 3 * y], axis=2).astype(np.uint8)


def sent_16(pixels: np.ndarray, encoding: str, big: bool, padding: int = 0) -> bytes:
    """uint16 pixels as a message, in either order of bytes."""
    values = pixels.astype(">u2" if big else "<u2")
    cdr = image(STAMP, values.reshape(*values.shape[:2], -1).view(np.uint8), encoding, padding)
    message = STORE.deserialize_cdr(cdr, "sensor_msgs/msg/Image")
    message.is_bigendian = int(big)
    return bytes(STORE.serialize_cdr(message, "sensor_msgs/msg/Image"))


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """One colour per pixel, as a sensor behind that pattern sees it: its 2x2 pixels row by row."""
    out = np.empty((*rgb.shape[:2], 1), rgb.dtype)
    for index, letter in enumerate(pattern):
        row, column = divmod(index, 2)
        out[row::2, column::2, 0] = rgb[row::2, column::2, "rgb".index(letter)]
    return out


def yuv_bt601(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """ITU-R BT.601-7, 3.5: Y of 16..235, U (Cb) and V (Cr) of 16..240 around 128."""
    r, g, b = np.moveaxis(rgb / 255.0, 2, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    u, v = (b - y) / 1.772, (r - y) / 1.402
    return tuple(np.rint(part).astype(np.uint8) for part in (16 + 219 * y, 128 + 224 * u, 128 + 224 * v))


@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_give_back_the_colours_behind_them(pattern: str, padding: int) -> None:
    rgb = smooth()
    frame = decode_image(image(STAMP, mosaic(rgb, pattern), f"bayer_{pattern}8", padding))
    assert frame.size == (WIDTH, HEIGHT)
    off = np.abs(frame.rgb().astype(int) - rgb)[2:-2, 2:-2]
    assert off.max() <= 2


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_of_16_bits_too(pattern: str, big: bool) -> None:
    rgb = smooth()
    wide = mosaic(rgb, pattern).astype(np.uint16) * 257
    off = np.abs(decode_image(sent_16(wide, f"bayer_{pattern}16", big)).rgb().astype(int) - rgb)
    assert off[2:-2, 2:-2].max() <= 2


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "order"),
    [("yuv422", "uyvy"), ("uyvy", "uyvy"), ("yuv422_yuy2", "yuyv"), ("yuyv", "yuyv")],
)
def test_yuv_is_bt601_with_two_pixels_sharing_their_colours(encoding: str, order: str, padding: int) -> None:
    rgb = np.repeat(smooth()[:, ::2], 2, axis=1)
    y, u, v = yuv_bt601(rgb)
    luma, chroma = order.index("y"), order.index("u")
    sent = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    sent[:, :, luma] = y
    sent[:, ::2, chroma], sent[:, 1::2, chroma] = u[:, ::2], v[:, ::2]
    got = decode_image(image(STAMP, sent, encoding, padding)).rgb()
    assert np.abs(got.astype(int) - rgb).max() <= 3


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [
        ("rgb16", 3, [0, 1, 2]),
        ("bgr16", 3, [2, 1, 0]),
        ("rgba16", 4, [0, 1, 2]),
        ("bgra16", 4, [2, 1, 0]),
        ("mono16", 1, [0, 0, 0]),
    ],
)
def test_16_bits_are_scaled_to_8(
    encoding: str, channels: int, order: list[int], padding: int, big: bool
) -> None:
    sent = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, channels)).astype(np.uint16)
    sent[0, 0], sent[0, 1] = 0, 65535
    got = decode_image(sent_16(sent, encoding, big, padding)).rgb()
    assert got.dtype == np.uint8
    assert np.array_equal(got, np.rint(sent[:, :, order] * (255 / 65535)).astype(np.uint8))


# cv_bridge.cpp, getConversionCode: what it calls OpenCV with on the way to rgb8.
CV_BRIDGE = {
    "rgb8": None,
    "bgr8": cv2.COLOR_BGR2RGB,
    "rgba8": cv2.COLOR_RGBA2RGB,
    "bgra8": cv2.COLOR_BGRA2RGB,
    "mono8": cv2.COLOR_GRAY2RGB,
    "bayer_rggb8": cv2.COLOR_BayerBG2RGB,
    "bayer_bggr8": cv2.COLOR_BayerRG2RGB,
    "bayer_gbrg8": cv2.COLOR_BayerGR2RGB,
    "bayer_grbg8": cv2.COLOR_BayerGB2RGB,
    "yuv422": cv2.COLOR_YUV2RGB_UYVY,
    "uyvy": cv2.COLOR_YUV2RGB_UYVY,
    "yuv422_yuy2": cv2.COLOR_YUV2RGB_YUY2,
    "yuyv": cv2.COLOR_YUV2RGB_YUY2,
}


@pytest.mark.parametrize("encoding", sorted(CV_BRIDGE))
def test_each_gives_cv_bridges_very_pixels(encoding: str) -> None:
    channels = ENCODINGS[encoding].channels
    sent = np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, channels), np.uint8)
    code = CV_BRIDGE[encoding]
    expected = sent if code is None else cv2.cvtColor(sent, code)
    assert np.array_equal(decode_image(image(STAMP, sent, encoding, 7)).rgb(), expected)


def test_no_encoding_is_left_untested() -> None:
    bayer = {f"bayer_{pattern}16" for pattern in ("rggb", "bggr", "gbrg", "grbg")}
    assert set(ENCODINGS) == {*CV_BRIDGE, *bayer, "rgb16", "bgr16", "rgba16", "bgra16", "mono16"}
