"""Raw camera messages to JPEG, as image_transport's `compressed` plugin stores them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from vla_ros.recording.mcap_file import typestore

JPEG_QUALITY = 85
# encoding: channels, and what makes it OpenCV's order.
_TO_OPENCV: dict[str, tuple[int, int | None]] = {
    "rgb8": (3, cv2.COLOR_RGB2BGR),
    "bgr8": (3, None),
    "mono8": (1, None),
}


def image_to_jpeg(cdr: bytes, quality: int = JPEG_QUALITY) -> bytes:
    """A serialised sensor_msgs/msg/Image as a serialised sensor_msgs/msg/CompressedImage.

    Stamp and frame are kept. Row padding (`step` wider than a row) is honoured.

    Raises:
        ValueError: an encoding without a JPEG form, or fewer bytes than height x step.
    """
    store = typestore()
    image: Any = store.deserialize_cdr(cdr, "sensor_msgs/msg/Image")
    if image.encoding not in _TO_OPENCV:
        raise ValueError(
            f"image encoding '{image.encoding}' has no JPEG form; known: {', '.join(_TO_OPENCV)}"
        )
    channels, conversion = _TO_OPENCV[image.encoding]
    if image.data.size < image.height * image.step or image.step < image.width * channels:
        raise ValueError(
            f"image of {image.width}x{image.height} {image.encoding} with step {image.step} "
            f"has {image.data.size} bytes"
        )
    rows = np.asarray(image.data)[: image.height * image.step].reshape(image.height, image.step)
    pixels = rows[:, : image.width * channels].reshape(image.height, image.width, channels)
    if conversion is not None:
        pixels = cv2.cvtColor(pixels, conversion)
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f"OpenCV could not encode a {image.width}x{image.height} {image.encoding} image")
    original = "mono8" if channels == 1 else "bgr8"
    message = store.types["sensor_msgs/msg/CompressedImage"](
        header=image.header, format=f"{image.encoding}; jpeg compressed {original}", data=jpeg.ravel()
    )
    return bytes(store.serialize_cdr(message, "sensor_msgs/msg/CompressedImage"))
