"""The camera process of the twin: snapshots in on standard input, images out on the robot's topics.

Started by `vla_ros.sim.camera_process`; arguments: robot YAML, number of the report pipe, ROS arguments.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.nodes import transport
from vla_ros.nodes.cdr import ImageWriter
from vla_ros.robot.config import Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.load import load_robot
from vla_ros.sim.camera_process import ERROR, FRAME, READY, SnapshotFormat
from vla_ros.sim.worlds import CameraWorld, make_camera_world

NODE_NAME = "sim_cameras"
JPEG_QUALITY = 90


def main() -> int:
    """Serve until standard input closes."""
    robot_file, report_fd, *ros_arguments = sys.argv[1:]
    # Suppressed around the pipe too: closing it flushes what a twin that is gone has not read.
    with contextlib.suppress(BrokenPipeError), os.fdopen(int(report_fd), "w", buffering=1) as reports:

        def report(*words: object) -> None:
            print(*(str(word).replace("\n", "\\n") for word in words), file=reports)

        try:
            robot = load_robot(robot_file)
            world = make_camera_world(robot, Path(robot_file))
            for name in robot.cameras:
                world.render(name)
        except Exception as error:
            report(ERROR, error)
            return 1
        try:
            _serve(robot, world, ros_arguments, report)
        except BrokenPipeError:
            return 0  # the twin is gone
        except Exception as error:
            report(ERROR, error)
            raise
    return 0


def _serve(robot: Robot, world: CameraWorld, ros_arguments: list[str], report: Callable[..., None]) -> None:
    transport.configure_dds("sent")
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=["camera_driver", *ros_arguments], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(NODE_NAME, start_parameter_services=False)
    dds = transport.check_dds("sent")
    (node.get_logger().info if dds.in_effect else node.get_logger().warning)(dds.text)
    try:
        cameras = {name: _Publisher(node, world, name, camera) for name, camera in robot.cameras.items()}
        format_ = SnapshotFormat(world)
        report(READY)
        while (snapshot := _newest(format_.size)) is not None:
            stamp_ns = format_.show(snapshot)
            for name, camera in cameras.items():
                if not camera.due(stamp_ns):
                    continue
                begin = time.perf_counter()
                pixels = world.render(name)
                render_ms = (time.perf_counter() - begin) * 1e3
                camera.publish(stamp_ns, pixels)
                report(FRAME, name, f"{render_ms:.2f}")
    finally:
        world.close()
        node.destroy_node()
        rclpy.try_shutdown()


def _newest(size: int) -> bytes | None:
    """Wait for a snapshot and return the newest one waiting; None at the end of the input."""
    data = b""
    while True:
        chunk = os.read(0, 1 << 16)
        if not chunk:
            return None
        # Whole snapshots are written at once, but a read of 64 kB may end in the middle of one.
        data += chunk
        if len(data) >= size and len(data) % size == 0:
            return data[-size:]


class _Publisher:
    """Image and camera_info of one camera, at its own rate."""

    def __init__(self, node: Any, world: CameraWorld, name: str, camera: Camera) -> None:
        from sensor_msgs.msg import CameraInfo, CompressedImage, Image

        info = world.camera_info(name)
        self._period_ns = round(1e9 / camera.rate_hz)
        self._last_ns = 0
        self._compressed = camera.transport == "compressed"
        kind = CompressedImage if self._compressed else Image
        self._kind = kind
        # Camera drivers publish reliably, so that either kind of subscriber gets the images.
        self._images = node.create_publisher(kind, camera.topic, 5)
        self._infos = node.create_publisher(CameraInfo, camera.camera_info, 5)
        self._writer = ImageWriter(info.frame, info.width, info.height, "rgb8")
        self._frame = info.frame
        self._info = CameraInfo(width=info.width, height=info.height, distortion_model="plumb_bob")
        self._info.header.frame_id = info.frame
        self._info.d = [0.0] * 5
        self._info.k = [info.fx, 0.0, info.cx, 0.0, info.fy, info.cy, 0.0, 0.0, 1.0]
        self._info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        self._info.p = [info.fx, 0.0, info.cx, 0.0, 0.0, info.fy, info.cy, 0.0, 0.0, 0.0, 1.0, 0.0]

    def due(self, stamp_ns: int) -> bool:
        """Whether this camera takes this snapshot. A stamp that jumped back counts as a new start."""
        if 0 <= stamp_ns - self._last_ns < self._period_ns * 0.9:
            return False
        self._last_ns = stamp_ns
        return True

    def publish(self, stamp_ns: int, pixels: NDArray[np.uint8]) -> None:
        """pixels: RGB [height, width, 3]; stamp_ns: when the state shown was captured."""
        seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
        self._info.header.stamp.sec, self._info.header.stamp.nanosec = seconds, nanoseconds
        if self._compressed:
            import cv2

            _, encoded = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
            message = self._kind(header=self._info.header, format="rgb8; jpeg compressed bgr8")
            message.data = encoded.tobytes()
            self._images.publish(message)
        else:
            self._images.publish(self._writer.serialise(stamp_ns, pixels))
        self._infos.publish(self._info)


if __name__ == "__main__":
    sys.exit(main())
