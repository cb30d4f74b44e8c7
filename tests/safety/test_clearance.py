"""Which arms have to brake, on a line: three carriages side by side, each with one joint."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from vla_ros.safety.clearance import Clearance

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
