"""Calibration files as ROS's camera_calibration and camera_info_manager write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_ros.errors import ConfigError, Refused
from vla_ros.observation.views import Lens, undistortion
from vla_ros.robot.config_cameras import Camera
from vla_ros.types import FloatArray

# {key: (rows, columns)}
_MATRICES = {"camera_matrix": (3, 3), "rectification_matrix": (3, 3), "projection_matrix": (3, 4)}


def read_calibration(file: Path, camera: Camera) -> Lens:
    """The lens that `file` tells of.

    Raises ConfigError, with file and key, where it cannot be read, or is not of this camera's pictures.
    """
    try:
        fields = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"calibration {file}: cannot be read ({error})") from None
    if not isinstance(fields, dict):
        raise ConfigError(f"calibration {file}: no block of keys; expected what camera_calibration writes")
    for key, kind in (("image_width", int), ("image_height", int), ("distortion_model", str)):
        if not isinstance(fields.get(key), kind):
            raise ConfigError(
                f"calibration {file}: {key}: found {fields.get(key)!r}; expected {kind.__name__}"
            )
    k, r, p = (_numbers(file, fields, key, shape) for key, shape in _MATRICES.items())
    d = _numbers(file, fields, "distortion_coefficients", None)
    size = fields["image_width"], fields["image_height"]
    lens = Lens(*size, fields["distortion_model"], d, k, r, p, True)
    try:
        undistortion(f"calibration {file}", lens, camera)
    except Refused as refused:
        raise ConfigError(str(refused)) from None
    return lens


def _numbers(file: Path, fields: dict[str, Any], key: str, shape: tuple[int, int] | None) -> FloatArray:
    matrix = fields.get(key)
    data = matrix.get("data") if isinstance(matrix, dict) else None
    try:
        numbers = np.array(data, np.float64).ravel()
    except (TypeError, ValueError):
        numbers = np.full(1, np.nan)
    if not np.all(np.isfinite(numbers)) or (shape is not None and numbers.size != shape[0] * shape[1]):
        wanted = "numbers" if shape is None else f"{shape[0] * shape[1]} numbers"
        raise ConfigError(f"calibration {file}: {key}.data: found {data!r}; expected {wanted}")
    return numbers if shape is None else numbers.reshape(shape)
