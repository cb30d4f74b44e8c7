"""The encodings of sensor_msgs/Image that show colours or greys, and how each becomes RGB.

They are those that cv_bridge turns into rgb8 (sensor_msgs/image_encodings.hpp names them). Formulas are
OpenCV's: bilinear demosaicing, and BT.601 with limited range for YUV 4:2:2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.types import ImageArray

Pixels = NDArray[Any]


@dataclass(frozen=True)
class Encoding:
    """One way to put a picture into bytes.

    dtype: uint8 or uint16 (little endian); channels: values per pixel as sent; pairs: pixels share colours
    two by two, so that the width must be even; to_rgb: [H, W, channels] of `dtype` -> uint8 [H, W, 3].
    """

    dtype: np.dtype[Any]
    channels: int
    to_rgb: Callable[[Pixels], ImageArray]
    pairs: bool = False

    @property
    def bytes_per_pixel(self) -> int:
        """As sent."""
        return self.channels * self.dtype.itemsize


def _picked(order: slice, pixels: Pixels) -> ImageArray:
    return pixels[:, :, order]


def _grey(pixels: Pixels) -> ImageArray:
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))


def _converted(code: int, pixels: Pixels) -> ImageArray:
    return cv2.cvtColor(pixels, code)  # type: ignore[return-value]


def _narrowed(to_rgb: Callable[[Pixels], ImageArray], pixels: Pixels) -> ImageArray:
    """16 bits to 8 as cv_bridge does: 65535 becomes 255, rounded."""
    # In the machine's own order of bytes: OpenCV does not look at numpy's.
    scaled = cv2.convertScaleAbs(np.ascontiguousarray(pixels, np.uint16), alpha=255.0 / 65535.0)
    return to_rgb(scaled.reshape(pixels.shape))


# {name without its bits: (channels, conversion)}
_RGB, _BGR = slice(0, 3), slice(2, None, -1)
_PACKED: dict[str, tuple[int, Callable[[Pixels], ImageArray]]] = {
    "rgb": (3, partial(_picked, _RGB)),
    "bgr": (3, partial(_picked, _BGR)),
    "rgba": (4, partial(_picked, _RGB)),
    "bgra": (4, partial(_picked, _BGR)),
    "mono": (1, _grey),
    # ROS names the upper left 2x2 pixels row by row, OpenCV the two at (1, 1) and (1, 2).
    "bayer_rggb": (1, partial(_converted, cv2.COLOR_BayerBG2RGB)),
    "bayer_bggr": (1, partial(_converted, cv2.COLOR_BayerRG2RGB)),
    "bayer_gbrg": (1, partial(_converted, cv2.COLOR_BayerGR2RGB)),
    "bayer_grbg": (1, partial(_converted, cv2.COLOR_BayerGB2RGB)),
}
_UYVY = Encoding(np.dtype(np.uint8), 2, partial(_converted, cv2.COLOR_YUV2RGB_UYVY), pairs=True)
_YUYV = Encoding(np.dtype(np.uint8), 2, partial(_converted, cv2.COLOR_YUV2RGB_YUY2), pairs=True)

ENCODINGS: dict[str, Encoding] = {
    **{f"{name}8": Encoding(np.dtype(np.uint8), *rest) for name, rest in _PACKED.items()},
    **{
        f"{name}16": Encoding(np.dtype("<u2"), channels, partial(_narrowed, to_rgb))
        for name, (channels, to_rgb) in _PACKED.items()
    },
    # Each under the name that was used before ROS 2 Iron, and since.
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
}
