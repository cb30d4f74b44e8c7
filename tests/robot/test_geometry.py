"""Distances of links against brute force: points on the lines, measured one by one."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pinocchio as pin
import pytest

from vla_ros.robot.config import Robot
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf

FILE = Path(__file__).parents[2] / "robot_configs" / "franka_dual.yaml"


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


def test_no_point_moves_further_than_the_reach_says(robot, kinematics, geometry) -> None:
    rng = np.random.default_rng(4)
    reach = geometry.rules[0].reach
    for _ in range(200):
        q = random_joints(robot, rng)
        there = q + rng.normal(0, 0.2, 7) * (rng.random(7) < 0.4)
        moved = np.linalg.norm(origins(robot, "left", there) - origins(robot, "left", q), axis=1).max()
        assert moved <= reach @ np.abs(there - q) + 1e-9


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
