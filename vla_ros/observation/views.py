"""What a policy is shown of a camera's picture: undistorted, rotated, flipped, cropped, in this order.

Rotation is clockwise, and `crop` counts in the picture as it is after rotation and flip. All but undistortion
are views: no pixel is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import Refused
from vla_ros.robot.config_cameras import Camera
from vla_ros.types import FloatArray, ImageArray

# {distortion_model: how many coefficients it may have}, as image_geometry reads them: OpenCV's own order.
_COEFFICIENTS = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}


@dataclass(frozen=True)
class Lens:
    """A sensor_msgs/CameraInfo.

    width, height: of the full picture, pixels; model: distortion_model with the coefficients d [N]; k: 3x3
    intrinsics, r: 3x3 rotation and p: 3x4 projection of the rectified picture, pixels. whole: neither binned
    nor a region of interest.
    """

    width: int
    height: int
    model: str
    d: FloatArray = field(repr=False)
    k: FloatArray = field(repr=False)
    r: FloatArray = field(repr=False)
    p: FloatArray = field(repr=False)
    whole: bool


@dataclass(frozen=True)
class Undistortion:
    """maps: OpenCV's, fixed-point; None where the picture has no distortion."""

    maps: tuple[NDArray[Any], NDArray[Any]] | None = field(repr=False)

    def of(self, rgb: ImageArray) -> ImageArray:
        """The rectified picture of uint8 [H, W, 3], of the same size; black where it shows nothing."""
        if self.maps is None:
            return rgb
        # OpenCV would copy a picture whose channels are reversed (BGR messages): it is turned back after.
        if rgb.strides[2] < 0:
            return cv2.remap(rgb[:, :, ::-1], *self.maps, cv2.INTER_LINEAR)[:, :, ::-1]  # type: ignore[return-value]
        return cv2.remap(rgb, *self.maps, cv2.INTER_LINEAR)  # type: ignore[return-value]


def undistortion(stream: str, lens: Lens, camera: Camera) -> Undistortion:
    """Rectification by K, D, R and P as image_proc's (image_geometry, PinholeCameraModel::rectifyImage).

    Raises Refused("camera_info") where `lens` is not of this camera's pictures, or not calibrated.
    """
    wrong = ""
    allowed = _COEFFICIENTS.get(lens.model, ())
    if (lens.width, lens.height) != (camera.width, camera.height):
        wrong = (
            f"is for {lens.width}x{lens.height}, the robot YAML says {camera.width}x{camera.height}; "
            f"calibrate the camera at the size that it sends"
        )
    elif not lens.whole:
        wrong = "tells of binning or a region of interest; have the driver send the whole picture"
    elif not allowed:
        wrong = f"has distortion_model '{lens.model}'; known are {sorted(_COEFFICIENTS)}"
    elif lens.d.size not in allowed:
        wrong = f"has {lens.d.size} coefficients d; {lens.model} has {' or '.join(map(str, allowed))}"
    elif not (np.all(np.isfinite(lens.d)) and _is_camera(lens.k) and _is_camera(lens.p[:, :3])):
        wrong = "has no focal length in k or p, so the camera is not calibrated; calibrate it"
    elif not np.allclose(lens.r @ lens.r.T, np.eye(3), atol=1e-3):
        wrong = "has an r that is no rotation; calibrate the camera"
    if wrong:
        raise Refused("camera_info", f"{stream}: undistort: {camera.camera_info} {wrong}")
    projection = lens.p[:, :3]
    # The equidistant model bends rays without any coefficient too.
    straight = lens.model != "equidistant" and not lens.d.any()
    if straight and np.array_equal(lens.r, np.eye(3)) and np.array_equal(projection, lens.k):
        return Undistortion(None)
    rectify = (
        cv2.fisheye.initUndistortRectifyMap if lens.model == "equidistant" else cv2.initUndistortRectifyMap
    )
    size = (camera.width, camera.height)
    first, second = rectify(lens.k, lens.d, lens.r, projection, size, cv2.CV_16SC2)
    return Undistortion((first, second))


def view(rgb: ImageArray, camera: Camera) -> ImageArray:
    """uint8 [H, W, 3] as on the topic (undistorted) -> rotated, flipped and cropped, as a view of it.

    The result is of `vla_ros.robot.cameras.shown_size`.
    """
    if camera.rotate:
        rgb = np.rot90(rgb, -camera.rotate // 90)
    if camera.flip in ("horizontal", "both"):
        rgb = rgb[:, ::-1]
    if camera.flip in ("vertical", "both"):
        rgb = rgb[::-1]
    if camera.crop is not None:
        crop = camera.crop
        rgb = rgb[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
    return rgb


def _is_camera(matrix: FloatArray) -> bool:
    """Whether a 3x3 projects: finite, with focal lengths and the row 0 0 1."""
    focal = matrix[0, 0] > 0 and matrix[1, 1] > 0
    return bool(np.all(np.isfinite(matrix)) and focal and np.array_equal(matrix[2], [0, 0, 1]))
