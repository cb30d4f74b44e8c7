"""Which arms have to brake, on a line: three carriages side by side, each with one joint. And a Piper, whose
fingers end beyond the frame that it is commanded by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.clearance import RESOLUTION, Clearance

APART = 0.1


def rule(left: str, right: str) -> Any:
    return SimpleNamespace(
        kind="arm_distance", arms=(left, right), distance=APART, reach=np.array([1.0, 1.0])
    )


class Line:
    """In the place of Geometry: the distance of two carriages is that of their joints."""

    def __init__(self) -> None:
        self.rules = (rule("a", "b"), rule("b", "c"))
        self.looked = 0

    def distance(self, _: Any, q: np.ndarray) -> float:
        self.looked += 1
        return float(q[1] - q[0])


def blocked(
    now: Mapping[str, float], ways: Mapping[str, list[float]], braking: Mapping[str, list[float]]
) -> dict[str, list[str]]:
    def column(values: list[float]) -> np.ndarray:
        return np.array(values)[:, None]

    return Clearance(cast(Any, Line())).blocked(
        {name: np.array([q]) for name, q in now.items()},
        {name: column(way) for name, way in ways.items()},
        lambda name: column(braking[name]),
    )


STANDING = {"a": [0.0], "b": [0.5], "c": [1.0]}
NOW = {"a": 0.0, "b": 0.5, "c": 1.0}


def test_what_keeps_its_distance_is_taken() -> None:
    assert blocked(NOW, {"a": [0.01, 0.1, 0.2], "b": [0.5], "c": [1.0]}, STANDING) == {}


def test_all_arms_of_a_rule_brake_where_a_way_to_rest_breaks_it() -> None:
    found = blocked(NOW, {"a": [0.01, 0.3, 0.45, 0.5], "b": [0.5], "c": [1.0]}, STANDING)
    assert found == {"a": ["arm_distance"], "b": ["arm_distance"]}


def test_ways_are_looked_at_together_in_time() -> None:
    """b gets out of the way of a in time; were it standing, a would have to brake."""
    ways = {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.6, 0.7, 0.8, 0.85], "c": [1.0]}
    assert blocked(NOW, ways, STANDING) == {}


def test_an_arm_that_has_to_brake_may_make_another_brake() -> None:
    """a makes b brake, which would have got out of c's way."""
    ways = {"a": [0.1, 0.3, 0.45], "b": [0.49, 0.45, 0.4], "c": [0.9, 0.7, 0.55]}
    assert blocked(NOW, ways, STANDING) == {
        "a": ["arm_distance"], "b": ["arm_distance"], "c": ["arm_distance"],
    }  # fmt: skip


def test_from_a_start_too_near_only_a_way_apart_is_taken() -> None:
    now = {"a": 0.45, "b": 0.5, "c": 1.0}
    standing = {"a": [0.45], "b": [0.5], "c": [1.0]}
    assert blocked(now, {**standing, "a": [0.46, 0.47]}, standing) != {}
    assert blocked(now, {**standing, "a": [0.44, 0.40]}, standing) == {}
    assert blocked(now, {**standing, "a": [0.44, 0.46]}, standing) != {}
    assert blocked(now, standing, standing) == {}


def test_far_links_are_looked_at_once() -> None:
    line = Line()
    way = np.linspace(0, 0.1, 50)[:, None]
    ways = {"a": way, "b": np.array([[0.5]]), "c": np.array([[1.0]])}
    Clearance(cast(Any, line)).blocked({name: way[0] for name in ways}, ways, lambda name: ways[name])
    assert line.looked == 2


def test_a_pipers_fingertips_are_stopped_at_the_table() -> None:
    """Only joint 5 turns, and takes down what lies beyond the flange: seen 0.08 m above, it has to be looked
    at again before it is there."""
    file = Path(__file__).parents[2] / "robot_configs" / "agilex_piper.yaml"
    robot = load_robot(file)
    arm = robot.arms["arm"]
    chain = Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
    geometry = Geometry(robot, {"arm": chain})
    (table,) = geometry.rules
    clearance = Clearance(geometry)
    q = np.array([0.0, 2.15, -0.85, 0.0, -1.2, 0.0])
    step = 0.55 / 300 * np.eye(6)[4]
    assert 0.07 < geometry.distance(table, q) < 0.08
    assert geometry.distance(table, q + 300 * step) < -0.01
    for _ in range(300):
        found = clearance.blocked({"arm": q}, {"arm": (q + step)[None]}, lambda _, q=q: q[None])
        if found:
            break
        q = q + step
    assert found == {"arm": ["forbidden"]}
    assert 0.0 <= geometry.distance(table, q) < RESOLUTION
