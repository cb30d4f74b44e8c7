"""Raw camera messages to JPEG, as image_transport's `compressed` plugin stores them."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from vla_ros.errors import Refused
from vla_ros.observation.decode import decode_image
from vla_ros.recording.mcap_file import typestore

JPEG_QUALITY = 85


def image_to_jpeg(cdr: bytes, quality: int = JPEG_QUALITY) -> bytes:
    """A serialised sensor_msgs/msg/Image as a serialised sensor_msgs/msg/CompressedImage.

    Stamp and frame are kept, and the picture is the camera's whole: neither turned nor cropped. Encodings
    are those that policies can be shown (`vla_ros.observation.encodings`); 16 bits become 8.

    Raises Refused as `decode_image` does, and "jpeg" where OpenCV cannot encode the picture.
    """
    frame = decode_image(cdr)
    if frame.encoding in ("bgr8", "mono8"):
        pixels = np.ascontiguousarray(frame.sent)
    else:
        pixels = cv2.cvtColor(np.ascontiguousarray(frame.rgb()), cv2.COLOR_RGB2BGR)
    done, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise Refused("jpeg", f"OpenCV could not encode a {frame.size} {frame.encoding} image")
    store = typestore()
    # A memoryview: a slice of bytes would copy the picture.
    image: Any = store.deserialize_cdr(memoryview(cdr), "sensor_msgs/msg/Image")
    original = "mono8" if frame.encoding == "mono8" else "bgr8"
    message = store.types["sensor_msgs/msg/CompressedImage"](
        header=image.header, format=f"{frame.encoding}; jpeg compressed {original}", data=jpeg.ravel()
    )
    return bytes(store.serialize_cdr(message, "sensor_msgs/msg/CompressedImage"))
