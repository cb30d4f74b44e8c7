"""camera_node: publishes one camera of the robot YAML, from the device that its `source` names.

Threads: the executor serves diagnostics; one thread waits for frames and publishes them. A camera that is
unplugged, or not there yet, is tried again once a second until it is there.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from sensor_msgs.msg import CameraInfo, Image

from vla_ros.errors import ConfigError
from vla_ros.nodes.capture import CameraDevice, CameraLost, Captured, Now, uncalibrated
from vla_ros.nodes.cdr import ImageWriter
from vla_ros.nodes.diagnostics import ERROR, OK, DiagnosticsPublisher
from vla_ros.nodes.lifecycle import ManagedNode, declare, run
from vla_ros.nodes.realsense_camera import RealsenseCamera, load_sdk, plugged_in
from vla_ros.nodes.v4l2_camera import V4l2Camera
from vla_ros.observation.calibration import read_calibration
from vla_ros.observation.views import Lens
from vla_ros.resources import robot_config
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.load import load_robot

RETRY_S = 1.0
# What a device may wait for a frame, and a little more.
_STOP_S = 4.0


class CameraNode(ManagedNode):
    """One camera as a lifecycle node; it publishes while active."""

    def __init__(self) -> None:
        super().__init__("camera_node")
        declare(self, "robot", "franka", "Robot YAML: a name or a path.")
        declare(self, "camera", "", "The camera of it to publish, one with a source.")
        self._device: CameraDevice | None = None
        self._publisher: CameraPublisher | None = None
        self._diagnostics: DiagnosticsPublisher | None = None
        self._told = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def configure(self) -> None:
        """Read the YAML and make the publishers; the device need not be there yet."""
        file = robot_config(self.get_parameter("robot").value)
        robot, name = load_robot(file), self.get_parameter("camera").value
        sources = [each for each, camera in robot.cameras.items() if camera.source is not None]
        if name not in sources:
            raise ConfigError(
                f"parameter camera: found '{name}'; expected a camera of {file} with a source "
                f"({', '.join(sources) or 'there is none'})"
            )
        camera = robot.cameras[name]
        self._device = device_of(camera, file, self._now_ns)
        self._publisher = CameraPublisher(self, name, camera, self._device.encoding)
        self._diagnostics = DiagnosticsPublisher(self)

    def activate(self) -> None:
        """Begin to publish."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="camera", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Let go of the camera."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_STOP_S)
            self._thread = None

    def cleanup(self) -> None:
        """Take down everything that `configure` put up."""
        if self._publisher is not None:
            self._publisher.destroy()
            self._publisher = None
        if self._diagnostics is not None:
            self._diagnostics.destroy()
            self._diagnostics = None
        self._device = None

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._serve()
                self._stop.wait(RETRY_S)
        except Exception as error:
            self.get_logger().fatal(f"camera: {type(error).__name__}: {error}")
            self.failure = "executor"
            self.ended.set()

    def _serve(self) -> None:
        """Publish until the camera is lost or this node stops."""
        device, publisher, diagnostics = self._device, self._publisher, self._diagnostics
        assert device is not None and publisher is not None and diagnostics is not None
        try:
            publisher.lens(device.open())
            diagnostics.state(OK, "open")
            self._told = ""
            self.get_logger().info(f"{publisher.text}: open")
            while not self._stop.is_set():
                begin = time.monotonic()
                captured = device.read()
                diagnostics.sample("wait_ms", (time.monotonic() - begin) * 1e3)
                diagnostics.sample("late_ms", (self._now_ns() - captured.stamp_ns) / 1e6)
                publisher.publish(captured)
                diagnostics.count("frames")
        except CameraLost as lost:
            diagnostics.state(ERROR, str(lost))
            diagnostics.count("lost")
            # Each reason once, however often it is tried again.
            if str(lost) != self._told:
                self._told = str(lost)
                self.get_logger().error(f"{publisher.text}: {lost}; trying again")
        finally:
            device.close()


class CameraPublisher:
    """Image, camera_info and, where wanted, depth of one camera."""

    def __init__(self, node: Any, name: str, camera: Camera, encoding: str) -> None:
        self.text = f"camera '{name}' on {camera.topic}"
        self._node, self._camera = node, camera
        self._frame = f"{name}_optical_frame"
        size = (camera.width, camera.height)
        # Camera drivers publish reliably, so that either kind of subscriber gets the images.
        self._images = node.create_publisher(Image, camera.topic, 5)
        self._infos = node.create_publisher(CameraInfo, camera.camera_info, 5)
        self._writer = ImageWriter(self._frame, *size, encoding)
        realsense = camera.source.realsense if camera.source is not None else None
        topic = realsense.depth_aligned if realsense is not None else None
        self._depths = node.create_publisher(Image, topic, 5) if topic is not None else None
        self._depth_writer = ImageWriter(self._frame, *size, "16UC1")
        self.lens(None)

    def lens(self, lens: Lens | None) -> None:
        """What camera_info says from now on; None: nobody has calibrated the camera."""
        told = lens or uncalibrated(self._camera.width, self._camera.height)
        self._info = CameraInfo(width=told.width, height=told.height, distortion_model=told.model)
        self._info.header.frame_id = self._frame
        self._info.d, self._info.k = told.d.tolist(), told.k.ravel()
        self._info.r, self._info.p = told.r.ravel(), told.p.ravel()

    def publish(self, captured: Captured) -> None:
        """One frame on all topics, with one stamp."""
        stamp = self._info.header.stamp
        stamp.sec, stamp.nanosec = divmod(captured.stamp_ns, 1_000_000_000)
        self._images.publish(self._writer.serialise(captured.stamp_ns, captured.pixels))
        self._infos.publish(self._info)
        if self._depths is not None and captured.depth is not None:
            depth = np.ascontiguousarray(captured.depth).view(np.uint8)
            self._depths.publish(self._depth_writer.serialise(captured.stamp_ns, depth))

    def destroy(self) -> None:
        """Give up the topics."""
        for publisher in (self._images, self._infos, self._depths):
            if publisher is not None:
                self._node.destroy_publisher(publisher)


def device_of(camera: Camera, file: Path, now: Now) -> CameraDevice:
    """The device behind a camera of the robot YAML `file`. Raises ConfigError where it cannot be used."""
    source = camera.source
    if source is not None and source.v4l2 is not None:
        calibration = source.v4l2.calibration
        lens = None if calibration is None else read_calibration(file.parent / calibration, camera)
        return V4l2Camera(camera, source.v4l2, lens, now)
    assert source is not None and source.realsense is not None  # checked by load_robot
    serial, sdk = source.realsense.serial, load_sdk()
    return RealsenseCamera(sdk, camera, source.realsense, now, lambda: plugged_in(sdk, serial))


def main() -> int:
    """The process's entry point."""
    return run(CameraNode, images="sent")


if __name__ == "__main__":
    sys.exit(main())
