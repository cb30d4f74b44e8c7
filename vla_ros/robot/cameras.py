"""What a camera's YAML makes of its pictures, and the mistakes in it."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.robot.config import Camera
from vla_ros.robot.yaml_lines import KeyPath, Problem


def turned_size(camera: Camera) -> tuple[int, int]:
    """(width, height) in pixels of what `rotate` leaves of the topic's pictures."""
    if camera.rotate in (90, 270):
        return camera.height, camera.width
    return camera.width, camera.height


def shown_size(camera: Camera) -> tuple[int, int]:
    """(width, height) in pixels of what policies are shown: after rotate, flip and crop."""
    if camera.crop is not None:
        return camera.crop.width, camera.crop.height
    return turned_size(camera)


def view_problems(at: KeyPath, camera: Camera) -> Iterator[Problem]:
    """Mistakes in how a camera's pictures are turned and cut; at: the camera's path."""
    crop = camera.crop
    if crop is None:
        return
    width, height = turned_size(camera)
    turned = f" (rotated by {camera.rotate})" if camera.rotate else ""
    for offset, extent, begin, length, whole in (
        ("x", "width", crop.x, crop.width, width),
        ("y", "height", crop.y, crop.height, height),
    ):
        if begin + length > whole:
            yield Problem(
                (*at, "crop", extent),
                f"{length} from {offset} = {begin} on, which ends at {begin + length}",
                f"a part of the picture, which is {width}x{height}{turned}",
                f"keep {offset} + {extent} within {whole}",
            )
