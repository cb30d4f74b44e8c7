"""camera_node with a RealSense, on real topics: in one process with ROS, plugged in and out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.nodes.camera_graph import Watcher, ns, start
from tests.support import Starter, wait_for

try:
    import pyrealsense2  # noqa: F401
except ImportError as missing:
    pytest.skip(
        f"RealSense cameras are untested here: {missing}; pip install pyrealsense2, apt install libusb-1.0-0",
        allow_module_level=True,
    )

pytestmark = pytest.mark.graph

CONFIGS = Path(__file__).parents[2] / "robot_configs"


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    shutil.copy(CONFIGS / "franka.yaml", tmp_path / "franka.yaml")
    source = {"realsense": {"serial": "111", "depth_aligned": "/front/depth/image_raw"}}
    file = tmp_path / "lab.yaml"
    lab = {"extends": "franka.yaml", "name": "lab", "cameras": {"front": {"source": source}}}
    file.write_text(yaml.safe_dump(lab))
    return file


@pytest.fixture
def watcher(ros_domain: int) -> Iterator[Watcher]:
    watching = Watcher()
    yield watching
    watching.close()


def test_pictures_lens_and_depth_come_and_come_again_after_unplugging(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    plug = robot_file.parent / "plug"
    node = start(start_process, robot_file, "tests.nodes.soft_realsense", str(plug))
    watcher.wait(lambda: "RealSense 111: not plugged in" in watcher.state[1], "an error")
    assert watcher.state[0] == b"\x02" and not watcher.images
    for _ in range(2):
        for seen in (watcher.images, watcher.infos, watcher.depths):
            seen.clear()
        begin = time.time_ns()
        plug.touch()
        watcher.wait(lambda: min(len(watcher.images), len(watcher.depths), len(watcher.infos)) > 20, "all")
        for image in watcher.images:
            assert (image.encoding, image.width, image.height, image.step) == ("rgb8", 640, 480, 1920)
            assert image.header.frame_id == "front_optical_frame"
        for depth in watcher.depths:
            assert (depth.encoding, depth.width, depth.height, depth.step) == ("16UC1", 640, 480, 1280)
            middle = np.frombuffer(depth.data, np.uint16).reshape(480, 640)[240, 320]
            assert middle == 1000
        info = watcher.infos[-1]
        assert (info.k[0], info.k[4], info.distortion_model) == (600, 601, "plumb_bob")
        stamps = [ns(image.header) for image in watcher.images]
        # The camera's counter begins at 0 each time; its frames are of now, in their order.
        assert begin < stamps[0] and stamps[-1] < time.time_ns()
        assert stamps == sorted(set(stamps))
        assert {ns(each.header) for each in watcher.depths} & set(stamps)
        plug.unlink()
        watcher.wait(lambda: "RealSense 111: not plugged in" in watcher.state[1], "an error")
        node.wait_for_text("plug the camera in")
    # Each reason once in the log, each time anew, though it is tried again every second.
    gone = "RealSense 111: not plugged in"
    wait_for(lambda: node.output.count(gone) >= 3, 5, "the log")
    time.sleep(2.5)
    assert (node.output.count(gone), node.output.count("plug the camera in")) == (3, 2)
    assert node.returncode is None


def test_without_a_camera_it_says_so_and_goes_on(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    """librealsense's own list of devices, beside ROS in one process."""
    node = start(start_process, robot_file)
    watcher.wait(lambda: "RealSense 111: not plugged in; there are: none" in watcher.state[1], "an error")
    assert node.returncode is None
    node.end()
    assert node.returncode == 0
