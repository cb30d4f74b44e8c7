"""What a robot YAML says of how a camera's pictures are turned and cut: mistakes name file, line and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vla_ros.errors import ConfigError
from vla_ros.robot.cameras import shown_size
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"
# A camera's last line in franka.yaml, the first one's first.
LAST = "    max_age_ms: 200\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    return tmp_path


def written(folder: Path, keys: str) -> Path:
    """franka.yaml with more keys for its camera `front`, on lines of their own."""
    text = (CONFIGS / "franka.yaml").read_text(encoding="utf-8")
    lines = "".join(f"    {line}\n" for line in keys.split("\n"))
    file = folder / "franka.yaml"
    file.write_text(text.replace(LAST, LAST + lines, 1), encoding="utf-8")
    return file


def refused(folder: Path, keys: str) -> str:
    """The one mistake, without where it is; that it is where `keys` begin is checked."""
    file = written(folder, keys)
    with pytest.raises(ConfigError) as caught:
        load_robot(file)
    (line,) = str(caught.value).split("\n")
    begin = file.read_text(encoding="utf-8").split("\n").index(f"    {keys.split(chr(10))[-1]}") + 1
    prefix = f"{file}:{begin}: cameras.front."
    assert line.startswith(prefix), line
    return line[len(prefix) :]


def test_what_is_left_after_turning_and_cutting(folder: Path) -> None:
    front = load_robot(written(folder, "undistort: true\nrotate: 90\nflip: both")).cameras["front"]
    assert (front.undistort, front.rotate, front.flip) == (True, 90, "both")
    assert (front.width, front.height) == (640, 480)
    assert shown_size(front) == (480, 640)
    # Beyond the width of the topic's pictures' rows, but not of the rotated ones.
    robot = load_robot(written(folder, "rotate: 270\ncrop: {x: 80, y: 140, width: 400, height: 500}"))
    assert shown_size(robot.cameras["front"]) == (400, 500)
    assert shown_size(robot.cameras["wrist"]) == (640, 480)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (
            "crop: {x: 300, y: 0, width: 341, height: 480}",
            "crop.width: found 341 from x = 300 on, which ends at 641; expected a part of the picture, which "
            "is 640x480; keep x + width within 640",
        ),
        (
            "rotate: 90\ncrop: {x: 0, y: 200, width: 480, height: 441}",
            "crop.height: found 441 from y = 200 on, which ends at 641; expected a part of the picture, "
            "which is 480x640 (rotated by 90); keep y + height within 640",
        ),
        ("crop: {x: -1, y: 0, width: 64, height: 64}", "crop.x: found -1; expected a whole number from 0 to"),
        (
            "crop: {x: 0, y: 0, width: 0, height: 64}",
            "crop.width: found 0; expected a whole number from 16 to",
        ),
        ("crop: {x: 0, y: 0, width: 64}", "crop.height: found nothing; expected a whole number"),
        ("rotate: 45", "rotate: found 45; expected one of 0, 90, 180, 270; choose one"),
        ("rotate: -90", "rotate: found -90; expected one of"),
        ("rotate: 1.5708", "rotate: found 1.5708; expected one of"),
        ("flip: horizontally", "flip: found 'horizontally'; expected one of 'none', 'horizontal', "),
        ("flip: true", "flip: found true (true or false); expected one of 'none'"),
        ("undistort: 1", "undistort: found 1; expected true or false"),
        ("source: {}", "source: found neither; expected exactly one of v4l2 and realsense; add v4l2:"),
        ("source: {v4l2: {device: /dev/video0}, realsense: {}}", "source: found both; expected exactly one"),
        (
            "source: {v4l2: {device: /dev/video0}}\ntransport: compressed",
            "transport: found compressed, though there is a source; expected raw, which is what camera_node",
        ),
        (
            "source: {v4l2: {device: /dev/video0}}\nundistort: true",
            "undistort: found true, though nothing tells of the lens; expected source.v4l2.calibration",
        ),
        (
            "source: {v4l2: {device: /dev/video0, fourcc: mjpeg}}",
            "source.v4l2.fourcc: found 'mjpeg'; expected four capital letters or digits such as MJPG",
        ),
        (
            "source: {v4l2: {device: /dev/video0, exposure_ms: 0.01}}",
            "source.v4l2.exposure_ms: found 0.01; expected a number from 0.1 to 1000 in ms",
        ),
        (
            "source: {v4l2: {device: /dev/video0, exposure_ms: 40}}",
            "source.v4l2.exposure_ms: found 40 ms; expected at most the time from frame to frame, 33.33 ms "
            "at rate_hz 30; expose for a shorter time, or lower rate_hz to one that the camera has",
        ),
        (
            "source: {realsense: {exposure_ms: 33.4}}",
            "source.realsense.exposure_ms: found 33.4 ms; expected at most the time from frame to frame, 33",
        ),
        (
            "source: {realsense: {format: rgb}}",
            "source.realsense.format: found 'rgb'; expected one of 'rgb8', 'bgr8', 'yuyv'",
        ),
        (
            "source: {realsense: {serial: 12345}}",
            "source.realsense.serial: found 12345; expected text; ",
        ),
        (
            "source: {realsense: {depth_aligned: /front/color/image_raw}}",
            "source.realsense.depth_aligned: found /front/color/image_raw for depth images, which "
            "cameras.front.topic names for images",
        ),
    ],
)
def test_mistakes(folder: Path, keys: str, says: str) -> None:
    assert refused(folder, keys).startswith(says)
