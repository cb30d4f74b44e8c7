"""What the tests of camera_node share: a recorded video, a calibration, and who watches the topics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import CameraInfo, Image

from tests.support import Started, Starter, wait_for
from vla_ros import processes

FRAMES = 40
CALIBRATION: dict[str, Any] = {
    "image_width": 640,
    "image_height": 480,
    "camera_name": "front",
    "camera_matrix": {"rows": 3, "cols": 3, "data": [500.0, 0, 320, 0, 501, 240, 0, 0, 1]},
    "distortion_model": "plumb_bob",
    "distortion_coefficients": {"rows": 1, "cols": 5, "data": [-0.3, 0.1, 0.001, -0.002, 0.0]},
    "rectification_matrix": {"rows": 3, "cols": 3, "data": [1, 0, 0, 0, 1, 0, 0, 0, 1]},
    "projection_matrix": {"rows": 3, "cols": 4, "data": [480.0, 0, 318, 0, 0, 481, 242, 0, 0, 0, 1, 0]},
}


def record(file: Path, width: int = 640, height: int = 480) -> None:
    """A bright square that wanders over a slope."""
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 30.0, (width, height))
    assert writer.isOpened()
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    slope = np.stack([x * 255 // width, y * 255 // height, (x + y) % 256], axis=2).astype(np.uint8)
    for index in range(FRAMES):
        frame = slope.copy()
        frame[40:120, 10 * index : 10 * index + 80] = 255
        writer.write(frame)
    writer.release()


class Watcher:
    """What somebody else's node sees of the camera."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("watcher", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.images: list[Image] = []
        self.infos: list[CameraInfo] = []
        self.depths: list[Image] = []
        self.state = (b"", "")
        self.node.create_subscription(Image, "/front/color/image_raw", self.images.append, 100)
        self.node.create_subscription(CameraInfo, "/front/color/camera_info", self.infos.append, 100)
        self.node.create_subscription(Image, "/front/depth/image_raw", self.depths.append, 100)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note, 10)

    def _note(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "camera_front":
                self.state = (status.level, status.message)

    def wait(self, condition: Any, what: str) -> Any:
        return wait_for(condition, 30, what, step=lambda: self.executor.spin_once(timeout_sec=0.02))

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()


def start(start_process: Starter, file: Path, *instead: str, **env: str) -> Started:
    """As `vla up` does. instead: a module and arguments of its own in place of camera_node's."""
    (process,) = [each for each in processes.table(str(file)) if each.name == "camera_front"]
    python, _, module, *arguments = process.argv
    argv = [python, "-m", *(instead or (module,)), *arguments]
    return start_process(argv, process.name, **process.env, **env)


def ns(header: Any) -> int:
    return header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
