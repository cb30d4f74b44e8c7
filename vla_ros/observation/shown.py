"""One camera's frames as policies are shown them: each is decoded, undistorted and so on only once."""

from __future__ import annotations

from collections.abc import Iterable

from vla_ros.errors import Refused
from vla_ros.observation.decode import Frame, decode_camera_info
from vla_ros.observation.views import Undistortion, undistortion, view
from vla_ros.robot.config_cameras import Camera
from vla_ros.types import ImageArray

# CDR encapsulation and the header's stamp, which differ or not whatever the lens is.
_BEFORE_LENS = 12


class Shown:
    """Pictures of one camera, kept as long as their frames are. Not thread-safe."""

    def __init__(self, stream: str, camera: Camera) -> None:
        self._stream, self._camera = stream, camera
        self._info = b""
        self._lens: Undistortion | Refused | None = None
        self._kept: dict[int, tuple[Frame, ImageArray]] = {}

    def clear(self) -> None:
        """Forget the pictures; the lens is still the same."""
        self._kept.clear()

    def camera_info(self, cdr: bytes) -> None:
        """A message on the camera's camera_info topic. What is wrong with it is said by `picture`."""
        info = cdr[_BEFORE_LENS:]
        if info == self._info:
            return
        self._info = info
        self._kept.clear()
        try:
            self._lens = undistortion(self._stream, decode_camera_info(cdr), self._camera)
        except Refused as refused:
            self._lens = refused

    def picture(self, stamp_ns: int, frame: Frame, held: Iterable[int]) -> ImageArray:
        """uint8 [H, W, 3] RGB of a frame, read-only. held: the stamps whose pictures may be wanted again.

        Raises Refused: "undecodable", "changed_size"; with `undistort` "no_camera_info", "camera_info" too.
        """
        # A clock that was set back gives the same stamps again, to other frames.
        if stamp_ns in self._kept and self._kept[stamp_ns][0] is frame:
            return self._kept[stamp_ns][1]
        if self._camera.undistort and not isinstance(self._lens, Undistortion):
            raise self._lens or Refused(
                "no_camera_info",
                f"{self._stream}: nothing received on {self._camera.camera_info}, by which its pictures "
                f"are to be undistorted; have the camera's driver publish it, or leave undistort out",
            )
        rgb = frame.rgb()
        height, width = rgb.shape[:2]
        check_size(self._stream, (width, height), self._camera)
        if isinstance(self._lens, Undistortion):
            rgb = self._lens.of(rgb)
        rgb = view(rgb, self._camera)
        self._kept = {stamp: self._kept[stamp] for stamp in held if stamp in self._kept}
        self._kept[stamp_ns] = frame, rgb
        return rgb


def check_size(stream: str, size: tuple[int, int], camera: Camera) -> None:
    """Raise Refused("changed_size") when `size` (width, height) is not what the robot YAML says."""
    if size != (camera.width, camera.height):
        raise Refused(
            "changed_size",
            f"{stream}: {size[0]}x{size[1]} on {camera.topic}, the robot YAML says "
            f"{camera.width}x{camera.height}; correct the camera driver, or width and height there",
        )
