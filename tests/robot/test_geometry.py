"""Distances of links against brute force: points on the lines, measured one by one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest

from vla_ros.robot.config import Box, Robot
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf

FILES = sorted((Path(__file__).parents[2] / "robot_configs").glob("*.yaml"))
FILE = next(file for file in FILES if file.stem == "franka_dual")


@pytest.fixture(scope="module")
def robot() -> Robot:
    return load_robot(FILE)


@pytest.fixture(scope="module")
def kinematics(robot: Robot) -> dict[str, Kinematics]:
    return {
        name: Kinematics(read_urdf(FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
        for name, arm in robot.arms.items()
    }


@pytest.fixture(scope="module")
def geometry(robot: Robot, kinematics: dict[str, Kinematics]) -> Geometry:
    return Geometry(robot, kinematics)


def origins(robot: Robot, name: str, q: np.ndarray) -> np.ndarray:
    """Base, joint origins and the point one radius before the tool, in the common frame, from the URDF."""
    arm = robot.arms[name]
    model = pin.buildModelFromXML(read_urdf(FILE, arm))
    data = model.createData()
    full = pin.neutral(model)
    full[:7] = q
    pin.framesForwardKinematics(model, data, full)
    tool = data.oMf[model.getFrameId(arm.tool_frame)].translation
    points = [np.zeros(3), *(data.oMi[model.getJointId(joint)].translation for joint in arm.joints)]
    way = tool - points[-1]
    points.append(points[-1] + way * (1 - arm.link_radius / np.linalg.norm(way)))
    return np.array(points) + np.array(arm.base_pose.position)


def along(points: np.ndarray, count: int = 150) -> np.ndarray:
    share = np.linspace(0, 1, count)[:, None]
    return np.concatenate([a + share * (b - a) for a, b in itertools.pairwise(points)])


def random_joints(robot: Robot, rng: np.random.Generator) -> np.ndarray:
    low, high = np.array(robot.arms["left"].limits.position).T
    return rng.uniform(low, high)


def test_distances_are_those_of_points_on_the_lines(robot, kinematics, geometry) -> None:
    rng = np.random.default_rng(3)
    rules = {(rule.kind, *rule.arms): rule for rule in geometry.rules}
    assert set(rules) == {
        ("forbidden", "left"), ("forbidden", "right"), ("arm_distance", "left", "right"),
    }  # fmt: skip
    box = robot.safety.forbidden[0]
    near = 0
    for _ in range(60):
        q = {"left": random_joints(robot, rng), "right": random_joints(robot, rng)}
        lines = {name: along(origins(robot, name, q[name])) for name in q}
        for name in q:
            # What lies before joint 2 does not move, and is not held against boxes.
            moving = along(origins(robot, name, q[name])[2:])
            apart = np.linalg.norm(moving - np.clip(moving, box.min, box.max), axis=1).min() - 0.08
            found = geometry.distance(rules["forbidden", name], q[name])
            if apart > -0.079:
                near += apart < 0
                assert found == pytest.approx(apart, abs=4e-3)
            else:
                assert found < -0.07
        apart = np.linalg.norm(lines["left"][:, None] - lines["right"][None], axis=2).min() - 0.16
        found = geometry.distance(
            rules["arm_distance", "left", "right"], np.concatenate([q["left"], q["right"]])
        )
        if apart > -0.15:
            assert found == pytest.approx(apart, abs=8e-3)
    assert near


def skin(file: Path, robot: Robot, name: str, q: np.ndarray) -> np.ndarray:
    """Points [N, 3] on the moving links' capsules in the arm's root, from the URDF: all around both ends."""
    arm = robot.arms[name]
    model = pin.buildModelFromXML(read_urdf(file, arm))
    data = model.createData()
    joints = [model.getJointId(joint) for joint in arm.joints]
    turns = np.zeros(model.nv)
    turns[[model.joints[joint].idx_v for joint in joints]] = q
    pin.framesForwardKinematics(model, data, pin.integrate(model, pin.neutral(model), turns))
    end = data.oMf[model.getFrameId(arm.tip_frame or arm.tool_frame)].translation
    origins = [data.oMi[joint].translation for joint in joints]
    length = np.linalg.norm(end - origins[-1])
    end = origins[-1] + (end - origins[-1]) * max(0.0, 1 - arm.link_radius / length) if length else end
    around = arm.link_radius * np.concatenate([np.eye(3), -np.eye(3)]).T
    points = []
    for joint, (one, other) in zip(joints, itertools.pairwise([*origins, end]), strict=True):
        turned = data.oMi[joint].rotation @ around
        points += [one + turned.T, other + turned.T]
    return np.concatenate(points)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_no_point_moves_further_than_the_reach_says(file: Path) -> None:
    """Each joint on its own, and some together; a WidowX, which has no boxes, gets one."""
    robot = load_robot(file)
    if not robot.safety.forbidden:
        box = Box(min=(0.2, -1.0, -1.0), max=(1.0, 1.0, -0.5))
        robot = robot.model_copy(update={"safety": robot.safety.model_copy(update={"forbidden": [box]})})
    chains = {
        name: Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
        for name, arm in robot.arms.items()
    }
    rng = np.random.default_rng(4)
    for rule in Geometry(robot, chains).rules:
        begin = 0
        for name in rule.arms:
            arm = robot.arms[name]
            count = len(arm.joints)
            reach, begin = rule.reach[begin : begin + count], begin + count
            low, high = np.array(arm.limits.position).T
            for number in range(60):
                q = rng.uniform(low, high)
                steps = rng.normal(0, 0.2, count) * (rng.random(count) < 0.4)
                if number % 2:
                    steps = 0.05 * np.eye(count)[number // 2 % count]
                before, after = (skin(file, robot, name, place) for place in (q, q + steps))
                assert np.linalg.norm(after - before, axis=1).max() <= reach @ np.abs(steps) + 1e-9
        assert begin == len(rule.reach)


def test_a_robot_without_boxes_and_a_second_arm_has_no_rules(robot, kinematics) -> None:
    safety = robot.safety.model_copy(update={"forbidden": []})
    alone = robot.model_copy(update={"arms": {"left": robot.arms["left"]}, "safety": safety})
    assert Geometry(alone, kinematics).rules == ()


def test_a_turned_base_turns_the_links_with_it(robot, kinematics) -> None:
    """An arm that looks the other way has the table behind it, and one upside down above it has it below."""
    pose = robot.arms["left"].base_pose
    far = np.array(robot.arms["left"].home) + 0.9 * np.eye(7)[1]
    distances = []
    for rpy in ((0.0, 0.0, 0.0), (0.0, 0.0, np.pi), (np.pi, 0.0, 0.0)):
        arm = robot.arms["left"].model_copy(update={"base_pose": pose.model_copy(update={"rpy": rpy})})
        turned = robot.model_copy(update={"arms": {"left": arm}})
        geometry = Geometry(turned, kinematics)
        distances.append(geometry.distance(geometry.rules[0], far))
    assert 0.0 < distances[0] < 0.2
    assert distances[1] > 0.3
    assert distances[2] < -0.05
