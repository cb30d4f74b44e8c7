"""Whatever is done to a robot YAML: it is refused line by line, or it is a robot that makes sense."""

from __future__ import annotations

import math
import os
import random
import re
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pinocchio as pin
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from pydantic import BaseModel

from tests.robot.mutations import mutated
from vla_ros.errors import ConfigError
from vla_ros.robot.config import Arm, MobileBase, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.load import load_robot
from vla_ros.robot.schema import robot_schema

CONFIGS = Path(__file__).parents[2] / "robot_configs"
ROBOTS = sorted(CONFIGS.glob("*.yaml"))
FILES = 10_000
LAB_FILES = 2_000
SCHEMA = Draft7Validator(robot_schema())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(CONFIGS, tmp_path / "configs")
    return tmp_path / "configs"


# What makes sense, read from the URDF without the code under test.


@cache
def urdf_joints(xml: str) -> dict[str, ElementTree.Element]:
    return {joint.get("name", ""): joint for joint in ElementTree.fromstring(xml).iter("joint")}


@cache
def urdf_chain(xml: str, base: str, tool: str) -> list[str]:
    above = {joint.find("child").get("link"): joint for joint in urdf_joints(xml).values()}  # type: ignore[union-attr]
    names: list[str] = []
    while tool != base:
        joint = above[tool]
        names = [joint.get("name", "")] * (joint.get("type") != "fixed") + names
        tool = joint.find("parent").get("link")  # type: ignore[union-attr]
    return names


@cache
def tool_at(xml: str, base: str, tool: str, joints: tuple[str, ...], home: tuple[float, ...]) -> list[float]:
    model = pin.buildModelFromXML(xml)
    q = pin.neutral(model)
    for name, value in zip(joints, home, strict=True):
        joint = model.joints[model.getJointId(name)]
        q[joint.idx_q : joint.idx_q + joint.nq] = (
            value if joint.nq == 1 else (math.cos(value), math.sin(value))
        )
    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    base_pose, tool_pose = data.oMf[model.getFrameId(base)], data.oMf[model.getFrameId(tool)]
    return list((base_pose.inverse() * tool_pose).translation)


def values(value: object) -> Iterator[object]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from values(getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from values(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from values(item)
    else:
        yield value


def assert_sane(robot: Robot, folder: Path) -> None:
    for value in values(robot):
        assert not isinstance(value, float) or math.isfinite(value)
        assert not isinstance(value, str) or value not in ("", "TODO")
    assert robot.arms and robot.cameras and 10 <= robot.control.rate_hz <= 1000
    topics = [arm.states.topic for arm in robot.arms.values()]
    for arm in robot.arms.values():
        assert_sane_arm(robot, arm, (folder / arm.urdf).read_text(encoding="utf-8"))
        topics.append(getattr(arm.drivers, arm.driver).topic)
    for camera in robot.cameras.values():
        assert camera.width > 0 and camera.height > 0 and camera.max_age_ms >= 1000 / camera.rate_hz
        assert_sane_camera(robot, camera)
        topics += [camera.topic, camera.camera_info]
    assert len({*topics[: -2 * len(robot.cameras)]} & {*topics[-2 * len(robot.cameras) :]}) == 0
    commands = [getattr(arm.drivers, arm.driver).topic for arm in robot.arms.values()]
    assert len(set(commands)) == len(commands)
    assert not set(commands) & {arm.states.topic for arm in robot.arms.values()}
    assert set(robot.policy.cameras.values()) <= set(robot.cameras)
    for box in [robot.safety.workspace, *robot.safety.forbidden]:
        assert all(low < high for low, high in zip(box.min, box.max, strict=True))
    assert robot.safety.tool_speed > 0 and robot.safety.chunk_timeout_ms > 0
    assert_sane_devices(robot)
    if robot.base is not None:
        assert_sane_base(robot, robot.base)


def assert_sane_camera(robot: Robot, camera: Camera) -> None:
    assert camera.rotate in (0, 90, 180, 270) and camera.flip in ("none", "horizontal", "vertical", "both")
    width, height = (camera.width, camera.height)[:: -1 if camera.rotate % 180 else 1]
    crop = camera.crop
    if crop is not None:
        assert crop.width >= 16 and 0 <= crop.x <= width - crop.width
        assert crop.height >= 16 and 0 <= crop.y <= height - crop.height
    if camera.mount is not None:
        assert camera.mount.arm is None or camera.mount.arm in robot.arms
        assert max(map(abs, camera.mount.position)) <= 5 and max(map(abs, camera.mount.rpy)) < 6.29
    source = camera.source
    if source is None:
        return
    assert camera.transport == "raw" and [source.v4l2, source.realsense].count(None) == 1
    exposure = (source.v4l2 or source.realsense).exposure_ms  # type: ignore[union-attr]
    assert exposure is None or 0.1 <= exposure <= 1000 / camera.rate_hz
    if source.v4l2 is not None:
        assert re.fullmatch("[A-Z0-9]{4}", source.v4l2.fourcc) and source.v4l2.device
        assert source.v4l2.calibration or not camera.undistort


def assert_sane_devices(robot: Robot) -> None:
    sources = [camera.source for camera in robot.cameras.values() if camera.source is not None]
    paths = [os.path.realpath(each.v4l2.device) for each in sources if each.v4l2 is not None]
    serials = [each.realsense.serial for each in sources if each.realsense is not None]
    assert len(set(paths)) == len(paths) and len(set(serials)) == len(serials)
    assert len(serials) < 2 or None not in serials


def assert_sane_base(robot: Robot, base: MobileBase) -> None:
    (forward, turn), (faster, turning) = base.limits.velocity, base.limits.acceleration
    assert 0 < forward <= 5 and 0 < turn <= 20 and 0 < faster <= 20 and 0 < turning <= 50
    assert base.odometry.max_age_ms >= 1000 / base.odometry.rate_hz and "base" not in robot.arms
    others = [arm.states.topic for arm in robot.arms.values()]
    others += [getattr(arm.drivers, arm.driver).topic for arm in robot.arms.values()]
    others += [topic for camera in robot.cameras.values() for topic in (camera.topic, camera.camera_info)]
    assert base.twist.topic != base.odometry.topic and not {base.twist.topic, base.odometry.topic} & {*others}


def assert_sane_arm(robot: Robot, arm: Arm, xml: str) -> None:
    limits, count = arm.limits, len(arm.joints)
    assert arm.joints == urdf_chain(xml, arm.base_frame, arm.tool_frame)
    assert len(arm.home) == len(limits.position) == len(limits.velocity) == len(limits.jerk) == count
    assert min(*limits.velocity, *limits.acceleration, *limits.jerk, *(limits.approach or [1])) > 0
    for name, home, (low, high), velocity in zip(
        arm.joints, arm.home, limits.position, limits.velocity, strict=True
    ):
        assert -6.29 < low <= home <= high < 6.29 and low < high
        joint = urdf_joints(xml)[name]
        limit = joint.find("limit")
        if limit is None:
            continue
        if joint.get("type") != "continuous":
            assert low >= float(limit.get("lower", 0)) - 1e-5 and high <= float(limit.get("upper", 0)) + 1e-5
        assert velocity <= (float(limit.get("velocity", 0)) or math.inf) + 1e-5
    tool = tool_at(xml, arm.base_frame, arm.tool_frame, tuple(arm.joints), tuple(arm.home))
    box = robot.safety.workspace
    assert all(low <= at <= high for low, at, high in zip(box.min, tool, box.max, strict=True))
    assert arm.states.max_age_ms >= 1000 / arm.states.rate_hz
    if arm.gripper is not None:
        closed, open_ = arm.gripper.width
        assert 0 <= closed < open_ <= 0.5 and 0 < arm.gripper.speed <= 5
        for pair in (arm.gripper.reads, arm.gripper.commands):
            assert pair is None or pair[0] != pair[1]
    if len(robot.arms) > 1 or robot.safety.forbidden:
        assert arm.link_radius is not None and arm.link_radius > 0


def accepted(file: Path, text: str) -> Robot | None:
    """The robot, or None when the file is refused in the proper form."""
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        robot = load_robot(file)
    except ConfigError as error:
        assert str(error)
        for line in str(error).split("\n"):
            assert re.match(rf"{re.escape(str(file.parent))}/\w+\.yaml:\d+: ", line), line
            assert ": found " in line and "; expected " in line, line
        return None
    assert_sane(robot, file.parent)
    return robot


@pytest.mark.parametrize("robot", ROBOTS, ids=lambda file: file.stem)
def test_ten_thousand_mutated_files(folder: Path, robot: Path) -> None:
    """Ten thousand different ones over all robots together."""
    rng = random.Random(robot.stem)
    text = "\n".join(
        line for line in robot.read_text(encoding="utf-8").split("\n") if not line.strip().startswith("#")
    )
    seen: set[str] = {text}
    wanted = math.ceil(FILES / len(ROBOTS))
    good = 0
    while len(seen) <= wanted:
        changed = mutated(rng, text)
        if changed not in seen:
            seen.add(changed)
            if accepted(folder / robot.name, changed) is None:
                continue
            good += 1
            if good % 20 == 0:
                # Editors find no fault in what loads.
                assert not list(SCHEMA.iter_errors(yaml.load(changed, Loader=yaml.CSafeLoader)))
    # Neither everything nor nothing gets through (another topic is fine, and so is a lower limit).
    assert 0.02 < good / wanted < 0.5


# Nothing but the keys of devices, views, mounts and the base, so that each mistake is in one of them.
LAB = """extends: aloha.yaml
name: lab
base:
  odometry: {topic: /mobile_base/odom, rate_hz: 20, max_age_ms: 200, reliability: best_effort}
  limits:
    velocity: [0.5, 0.8]
    acceleration: [0.5, 1.0]
  twist:
    topic: /mobile_base/cmd_vel
    torque_service: /mobile_base/set_motor_torque_status
cameras:
  cam_high:
    source:
      v4l2:
        device: /dev/v4l/by-id/usb-high
        fourcc: MJPG
        exposure_ms: 10
        calibration: high.yaml
    undistort: true
    rotate: 90
    crop: {x: 20, y: 100, width: 440, height: 480}
    mount: {position: [0.0, -0.285, 1.005], rpy: [-2.7056, 0.0, 0.0]}
  cam_low:
    source:
      v4l2: {device: /dev/video2, fourcc: YUYV}
    flip: both
  cam_left_wrist:
    source:
      realsense:
        serial: "111"
        format: yuyv
        exposure_ms: 8
        depth_aligned: /cam_left_wrist/depth/image_raw
    undistort: true
    mount: {arm: left, position: [-0.082, 0.0, 0.082], rpy: [-2.0063, 0.0, -1.5708]}
  cam_right_wrist:
    source:
      realsense: {serial: "222", exposure_ms: 8.5}
    rotate: 180
    crop:
      x: 0
      y: 20
      width: 640
      height: 440"""


def test_cameras_and_a_base(folder: Path) -> None:
    assert accepted(folder / "lab.yaml", LAB) is not None
    rng, seen, good = random.Random("lab"), {LAB}, 0
    while len(seen) <= LAB_FILES:
        changed = mutated(rng, LAB)
        if changed not in seen:
            seen.add(changed)
            good += accepted(folder / "lab.yaml", changed) is not None
    assert 0.02 < good / LAB_FILES < 0.5


@pytest.mark.parametrize("robot", ROBOTS, ids=lambda file: file.stem)
def test_any_value_replaced_by_any_other(folder: Path, robot: Path) -> None:
    """Every scalar, list and block of the file in turn becomes something else."""
    rng = random.Random(1)
    paths: list[tuple[str | int, ...]] = []

    def collect(value: object, path: tuple[str | int, ...]) -> None:
        paths.append(path)
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in items:
            collect(inner, (*path, key))

    # Aliases written out: the copy that is changed must not be shared.
    tree = yaml.safe_load(robot.read_text(encoding="utf-8"))
    text = yaml.dump(tree, Dumper=NoAliases)
    collect(tree, ())
    odd = [None, True, "x", "", -1, 0, 1e9, float("nan"), float("inf"), [], {}, [1], {"a": 1}, "1.0"]
    for path in paths[1:]:
        copy = yaml.load(text, Loader=yaml.CSafeLoader)
        inner = copy
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = rng.choice(odd)
        accepted(folder / robot.name, yaml.dump(copy, Dumper=yaml.CSafeDumper, allow_unicode=True))


class NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=200))
def test_any_text(folder: Path, text: str) -> None:
    assert accepted(folder / "franka.yaml", text) is None


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=100))
def test_any_text_over_a_good_file(folder: Path, text: str) -> None:
    accepted(folder / "lab.yaml", f"extends: franka.yaml\nname: lab\n{text}")
