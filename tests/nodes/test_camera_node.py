"""camera_node as a process of its own, on real topics. A recorded video stands for the V4L2 device: OpenCV
opens and reads it by the same calls, it ends as an unplugged camera does, and may be there or not."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from sensor_msgs.msg import JointState

from tests.nodes.camera_graph import CALIBRATION, Watcher, ns, record, start
from tests.observation.feed import FINGERS, HOME, JOINTS, KINEMATICS
from tests.support import Starter, wait_for
from vla_ros.errors import Refused
from vla_ros.nodes.cdr import JointStateWriter
from vla_ros.nodes.policy_inputs import PolicyInputs
from vla_ros.observation.calibration import read_calibration
from vla_ros.observation.views import undistortion
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph

CONFIGS = Path(__file__).parents[2] / "robot_configs"


def recorded(file: Path) -> list[np.ndarray]:
    """The video's frames as OpenCV reads them, BGR."""
    capture = cv2.VideoCapture(str(file), cv2.CAP_FFMPEG)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1])
    return frames


@pytest.fixture
def robot_file(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    shutil.copy(CONFIGS / "franka.yaml", tmp_path / "franka.yaml")
    record(tmp_path / "video.avi")
    (tmp_path / "front_lens.yaml").write_text(yaml.safe_dump(CALIBRATION))
    return written(tmp_path)


def written(folder: Path, **camera: Any) -> Path:
    v4l2 = {"device": str(folder / "video.avi"), "calibration": "front_lens.yaml"}
    front = {"source": {"v4l2": v4l2}, "undistort": True, "max_age_ms": 4000, **camera}
    file = folder / "lab.yaml"
    file.write_text(yaml.safe_dump({"extends": "franka.yaml", "name": "lab", "cameras": {"front": front}}))
    return file


@pytest.fixture
def watcher(ros_domain: int) -> Iterator[Watcher]:
    watching = Watcher()
    yield watching
    watching.close()


def test_pictures_and_lens_come_on_the_cameras_topics(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    begin = time.time_ns()
    start(start_process, robot_file)
    watcher.wait(lambda: len(watcher.images) > 20 and len(watcher.infos) > 20, "pictures")
    sent = {frame.tobytes() for frame in recorded(robot_file.parent / "video.avi")}
    for image in watcher.images:
        assert (image.width, image.height, image.encoding, image.step) == (640, 480, "bgr8", 1920)
        assert image.header.frame_id == "front_optical_frame"
        assert bytes(image.data) in sent
    stamps = [ns(image.header) for image in watcher.images]
    assert begin < stamps[0] and stamps == sorted(set(stamps)) and stamps[-1] < time.time_ns()
    info = watcher.infos[0]
    assert info.k.tolist() == CALIBRATION["camera_matrix"]["data"]
    assert info.p.tolist() == CALIBRATION["projection_matrix"]["data"]
    assert list(info.d) == CALIBRATION["distortion_coefficients"]["data"]
    assert (info.width, info.height, info.distortion_model) == (640, 480, "plumb_bob")
    assert {ns(each.header) for each in watcher.infos} & set(stamps)


def test_a_camera_that_is_unplugged_is_missed_and_found_again(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    video = robot_file.parent / "video.avi"
    video.rename(video.with_suffix(".away"))
    node = start(start_process, robot_file)
    missing = f"{video}: No such file or directory"
    watcher.wait(lambda: watcher.state[0] == b"\x02" and missing in watcher.state[1], "an error")
    node.wait_for_text(missing)
    for _ in range(2):
        watcher.images.clear()
        video.with_suffix(".away").rename(video)
        watcher.wait(lambda: len(watcher.images) > 10, "pictures")
        video.rename(video.with_suffix(".away"))
        watcher.wait(lambda: missing in watcher.state[1], "an error")
    assert node.returncode is None


def test_pictures_of_another_size_are_not_published(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    record(robot_file.parent / "video.avi", 320, 240)
    start(start_process, robot_file)
    watcher.wait(lambda: "gives 320x240, the robot YAML says 640x480" in watcher.state[1], "an error")
    assert not watcher.images


def test_a_camera_without_a_source_is_refused(
    robot_file: Path, start_process: Starter, ros_domain: int
) -> None:
    node = start_process.node("camera_node", "-p", f"robot:={robot_file}", "-p", "camera:=wrist")
    assert node.wait() == 1
    assert f"found 'wrist'; expected a camera of {robot_file} with a source (front)" in node.output


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_width": 320}, "camera_info is for 320x480, the robot YAML says 640x480"),
        ({"camera_matrix": {"data": [1, 2]}}, "camera_matrix.data: found [1, 2]; expected 9 numbers"),
        ({"projection_matrix": None}, "projection_matrix.data: found None; expected 12 numbers"),
        ({"distortion_model": 3}, "distortion_model: found 3; expected str"),
    ],
)
def test_a_calibration_that_is_none_is_refused(
    robot_file: Path, start_process: Starter, ros_domain: int, changes: dict[str, Any], says: str
) -> None:
    lens = robot_file.parent / "front_lens.yaml"
    lens.write_text(yaml.safe_dump({**CALIBRATION, **changes}))
    node = start(start_process, robot_file)
    assert node.wait() == 1
    assert f"calibration {lens}" in node.output and says in node.output


def test_the_policy_sees_what_the_yaml_makes_of_it(
    robot_file: Path, start_process: Starter, watcher: Watcher
) -> None:
    """From the device to the observation: camera_info too comes over the topic."""
    crop = {"x": 30, "y": 60, "width": 240, "height": 320}
    file = written(robot_file.parent, rotate=90, flip="vertical", crop=crop)
    robot = load_robot(file)
    start(start_process, file)
    inputs = PolicyInputs(watcher.node, robot, ["front"], [], None)
    inputs.start()
    ended = threading.Event()
    arm, hand = JointStateWriter("", JOINTS), JointStateWriter("", FINGERS)
    gripper = robot.arms["arm"].gripper
    assert gripper is not None
    topics = [
        (watcher.node.create_publisher(JointState, robot.arms["arm"].states.topic, 10), arm, HOME),
        (watcher.node.create_publisher(JointState, gripper.states.topic, 10), hand, np.full(2, 0.04)),
    ]

    def move() -> None:
        while not ended.wait(0.005):
            for publisher, writer, q in topics:
                publisher.publish(writer.serialise(time.time_ns(), q, 0 * q, 0 * q))

    thread = threading.Thread(target=move)
    thread.start()

    def observed() -> Any:
        try:
            return inputs.observe("", KINEMATICS, 0, 0, 0)
        except Refused:
            return None

    try:
        observation, _ = wait_for(observed, 30, "an observation")
    finally:
        ended.set()
        thread.join()
        inputs.destroy()
    camera = robot.cameras["front"]
    flat = undistortion("", read_calibration(file.parent / "front_lens.yaml", camera), camera)
    expected = []
    for frame in recorded(file.parent / "video.avi"):
        rgb = flat.of(np.ascontiguousarray(frame[:, :, ::-1]))
        expected.append(cv2.flip(cv2.rotate(rgb, cv2.ROTATE_90_CLOCKWISE), 0)[60:380, 30:270])
    seen = observation.images["front"]
    assert seen.shape == (320, 240, 3)
    assert any(np.array_equal(seen, each) for each in expected)
