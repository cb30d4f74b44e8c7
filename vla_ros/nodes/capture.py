"""What camera_node asks of a kind of camera, and how a camera's own time becomes the ROS clock's."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import VlaRosError
from vla_ros.observation.views import Lens
from vla_ros.types import ImageArray

# Older than this, a frame's time is not of the clock that it was taken for; a process that was held up reads
# frames that are seconds old, and must not take them for new ones.
LONGEST_WAY_NS = 60_000_000_000
# The least delay of so many frames (10 s at 30 Hz) is taken for none: crystals drift apart by 1 ms in 10 s at
# the very worst, and one frame in so many comes without a wait.
FRAMES_COMPARED = 300


class CameraLost(VlaRosError):
    """The camera cannot be opened, gives nothing, or not what the robot YAML says."""


@dataclass(frozen=True)
class Captured:
    """One frame. stamp_ns: of its capture, as near as the camera tells, on the ROS clock; pixels: uint8
    [H, W, bytes per pixel of the encoding]; depth: uint16 [H, W], mm, seen from where the colours are seen.
    """

    stamp_ns: int
    pixels: ImageArray = field(repr=False)
    depth: NDArray[np.uint16] | None = field(default=None, repr=False)


class CameraDevice(Protocol):
    """One camera. encoding: of its pixels. Used by one thread."""

    encoding: str

    def open(self) -> Lens | None:
        """Begin; returns the lens where the camera knows its own. Raises CameraLost; may be called again."""
        ...

    def read(self) -> Captured:
        """Wait for the next frame. Raises CameraLost, after which it has to be opened again."""
        ...

    def close(self) -> None:
        """Let go of the camera; in any state."""
        ...


Now = Callable[[], int]


def on_ros_clock(captured_ns: int, clock_ns: int, now_ns: int) -> int:
    """A time of capture on another clock of this machine, on the ROS clock.

    clock_ns, now_ns: what that clock and the ROS clock show at this moment. Where `captured_ns` cannot be of
    that clock (ahead of it, or LONGEST_WAY_NS before it) it is now: the frame has just come.
    """
    age_ns = clock_ns - captured_ns
    return now_ns - age_ns if 0 <= age_ns < LONGEST_WAY_NS else now_ns


class HardwareClock:
    """The times of a camera's own counter on the ROS clock.

    Both run equally fast but for drift, so the frame that came soonest after its capture tells how far apart
    they are: the smallest difference of the last FRAMES_COMPARED frames. What is left is the shortest way of
    a frame to here.
    """

    def __init__(self) -> None:
        self._apart: deque[int] = deque(maxlen=FRAMES_COMPARED)
        self._last_ns = 0

    def stamp(self, device_ns: int, arrived_ns: int) -> int:
        """device_ns: of the capture, on the camera's clock; arrived_ns: on the ROS clock, never before what
        is returned. Begins anew where a clock was set: the camera's went back, or both are further apart than
        any frame takes."""
        apart = arrived_ns - device_ns
        jumped = bool(self._apart) and abs(apart - min(self._apart)) > LONGEST_WAY_NS
        if device_ns < self._last_ns or jumped:
            self._apart.clear()
        self._last_ns = device_ns
        self._apart.append(apart)
        return device_ns + min(self._apart)


def uncalibrated(width: int, height: int) -> Lens:
    """What camera_info says of a camera nobody has calibrated: no focal length (REP 104)."""
    nothing: NDArray[Any] = np.zeros((3, 3))
    return Lens(width, height, "", np.zeros(0), nothing, nothing, np.zeros((3, 4)), True)
