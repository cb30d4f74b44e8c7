"""Fixtures of the twin's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.sim.stage import Stage


@pytest.fixture
def stage(ros_domain: int) -> Iterator[Callable[[str], Stage]]:
    made: list[Stage] = []

    def make(name: str) -> Stage:
        made.append(Stage(name, ros_domain))
        return made[-1]

    yield make
    for each in made:
        each.close()
