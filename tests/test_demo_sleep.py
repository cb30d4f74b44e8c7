"""A machine that sleeps during an episode: the trial is repeated, whatever came of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from vla_ros import demo
from vla_ros.errors import VlaRosError
from vla_ros.evaluation.summary import EpisodeResult
from vla_ros.nodes.operator import GraphError


class Clocks:
    """System minus monotonic clock, jumping where a script says so, and the trials in between."""

    def __init__(self, jumps_s: list[float], outcomes: list[Any]) -> None:
        self.apart_s = 0.0
        self.jumps_s, self.outcomes = jumps_s, outcomes
        self.dropped = 0

    def trial(self, operator: Any, recorder: Any, number: int, seed: int, out: Path) -> EpisodeResult:
        self.apart_s += self.jumps_s.pop(0)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return EpisodeResult(number, seed, "lift", outcome, 5.0, "episode_000.mcap")

    def drop(self) -> None:
        self.dropped += 1


def run(monkeypatch: pytest.MonkeyPatch, clocks: Clocks) -> EpisodeResult:
    monkeypatch.setattr(demo, "_clocks_apart_s", lambda: clocks.apart_s)
    monkeypatch.setattr(demo, "_run_episode", clocks.trial)
    return demo._run_awake(None, clocks, 0, 1_000_000, Path(), Console(quiet=True))  # type: ignore[arg-type]


@pytest.mark.parametrize("outcome", ["success", "failure: time-out"])
def test_a_trial_is_repeated_only_for_sleep_never_for_its_outcome(
    monkeypatch: pytest.MonkeyPatch, outcome: str
) -> None:
    assert run(monkeypatch, Clocks([0.01], [outcome])).outcome == outcome
    clocks = Clocks([20.0, 0.0], [outcome, "failure: wrong block blue"])
    assert run(monkeypatch, clocks).outcome == "failure: wrong block blue"


def test_a_node_that_refused_because_of_the_jump_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = Clocks(
        [20.0, 0.0], [GraphError("control_node/start refused: joint states 20000 ms old"), "success"]
    )
    assert run(monkeypatch, clocks).outcome == "success" and clocks.dropped == 1


def test_a_broken_graph_stays_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GraphError, match="refused"):
        run(monkeypatch, Clocks([0.0], [GraphError("control_node/start refused")]))
    with pytest.raises(VlaRosError, match="slept during each"):
        run(monkeypatch, Clocks([9.0] * demo.ATTEMPTS, ["success"] * demo.ATTEMPTS))
