"""A RealSense without the hardware: librealsense's own software device, and camera_node upon it.

python -m tests.nodes.soft_realsense PLUG --ros-args ...    # plugged in while the file PLUG is there
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyrealsense2 as rs

WIDTH, HEIGHT = 640, 480
BROWN = [0.1, -0.2, 0.001, 0.002, 0.05]


class Soft:
    """A software device with a colour and a depth sensor, fed with frames as the hardware would be."""

    def __init__(self, domain: Any = None, colours: Any = rs.format.rgb8) -> None:
        self.device = rs.software_device()
        self.domain = rs.timestamp_domain.hardware_clock if domain is None else domain
        self._sensors = []
        self._colour_bytes = 2 if colours == rs.format.yuyv else 3
        for name, kind, layout, size in (
            ("RGB Camera", rs.stream.color, colours, self._colour_bytes),
            ("Stereo Module", rs.stream.depth, rs.format.z16, 2),
        ):
            sensor = self.device.add_sensor(name)
            stream = rs.video_stream()
            stream.type, stream.fmt, stream.bpp, stream.fps = kind, layout, size, 30
            stream.index, stream.uid, stream.width, stream.height = 0, int(kind), WIDTH, HEIGHT
            lens = rs.intrinsics()
            lens.width, lens.height, lens.fx, lens.fy, lens.ppx, lens.ppy = WIDTH, HEIGHT, 600, 601, 321, 239
            lens.model, lens.coeffs = rs.distortion.brown_conrady, BROWN
            stream.intrinsics = lens
            self._sensors.append((sensor, sensor.add_video_stream(stream, True), size))
        self._sensors[1][0].add_read_only_option(rs.option.depth_units, 0.0005)
        here = rs.extrinsics()
        here.rotation, here.translation = [1, 0, 0, 0, 1, 0, 0, 0, 1], [0, 0, 0]
        self._sensors[1][1].register_extrinsics_to(self._sensors[0][1], here)
        # Depth and colours are paired by their times and the rate that frames tell of, as with a D400.
        self.device.create_matcher(rs.matchers.di_c)
        for sensor, _, _ in self._sensors:
            sensor.set_metadata(rs.frame_metadata_value.actual_fps, 30_000)
        self._number = 0
        # {frame number: its time on the hardware's clock, ms}
        self.sent: dict[int, float] = {}
        self._ended = threading.Event()

    def send(self, device_ms: float, colours: bool = True) -> None:
        """A frame of each sensor: colours of the number of the frame, depth of 1 m."""
        self._number += 1
        self.sent[self._number] = device_ms
        pixels = np.zeros((HEIGHT, WIDTH, self._colour_bytes), np.uint8)
        pixels[..., 0], pixels[..., -1] = self._number % 256, 200
        depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
        for index, ((sensor, profile, size), values) in enumerate(
            zip(self._sensors, (pixels, depth), strict=True)
        ):
            if index == 0 and not colours:
                continue
            frame = rs.software_video_frame()
            frame.pixels, frame.bpp, frame.stride = values, size, WIDTH * size
            frame.timestamp, frame.domain, frame.frame_number = device_ms, self.domain, self._number
            frame.profile = profile.as_video_stream_profile()
            if index == 1:
                frame.depth_units = 0.0005
            sensor.on_video_frame(frame)

    def send_on(self, first_ms: float, colours: bool = True) -> None:
        """Frames at 30 Hz from now on, until `stop`."""
        self._ended.clear()
        begin = time.monotonic()

        def feed() -> None:
            while not self._ended.wait(0.033):
                self.send(first_ms + (time.monotonic() - begin) * 1e3, colours)

        self._thread = threading.Thread(target=feed)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()


class Plug:
    """As `plugged_in`, by a file: each time that it is there anew, the camera's counter begins at 0."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._soft: Soft | None = None
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, sdk: Any, serial: str | None) -> Any:
        from vla_ros.nodes.capture import CameraLost

        if not self._file.exists():
            raise CameraLost(f"RealSense {serial}: not plugged in; there are: none")
        self._soft = Soft()
        self._soft.send_on(0.0)
        return self._soft.device

    def _watch(self) -> None:
        while True:
            time.sleep(0.01)
            if self._soft is not None and not self._file.exists():
                self._soft.stop()
                self._soft = None


def main() -> int:
    """camera_node with that plug in place of librealsense's list of devices."""
    from vla_ros.nodes import camera_node

    file = Path(sys.argv.pop(1))
    camera_node.plugged_in = Plug(file)  # type: ignore[assignment]
    return camera_node.main()


if __name__ == "__main__":
    sys.exit(main())
