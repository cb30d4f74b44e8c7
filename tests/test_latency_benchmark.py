"""The closed loop under latency: the real core picks the block, and the table says what happened."""

from __future__ import annotations

import re

import pytest

from vla_ros.benchmarks._latency_episode import Cell, Episode
from vla_ros.benchmarks.latency import all_jobs, report
from vla_ros.sim.task import EVALUATION_SEED_START


@pytest.fixture(scope="module")
def cell() -> Cell:
    return Cell()


@pytest.mark.parametrize(("mode", "latency_ms"), [("ensemble", 0), ("ensemble", 300), ("rtc", 200)])
def test_the_block_is_lifted(cell: Cell, mode: str, latency_ms: float) -> None:
    episode = cell.run(EVALUATION_SEED_START, mode, latency_ms)
    assert episode.outcome == "success"
    assert episode.refused == {} and episode.holds == {}
    # Back to back, and never more often than in training.
    period = max(0.1, latency_ms / 1e3)
    assert 0.7 <= episode.chunks / (episode.seconds / period) <= 1.1


def test_an_episode_can_be_repeated(cell: Cell) -> None:
    first = cell.run(EVALUATION_SEED_START + 1, "crossfade", 500)
    assert cell.run(EVALUATION_SEED_START + 1, "crossfade", 500) == first


def test_sync_waits_for_each_chunk(cell: Cell) -> None:
    early = cell.run(EVALUATION_SEED_START, "sync", 0)
    late = cell.run(EVALUATION_SEED_START, "sync", 300)
    assert late.seconds > early.seconds + 0.1 * early.chunks


def test_the_table_and_its_goal() -> None:
    def episode(job: tuple[int, str, float]) -> Episode:
        seed, mode, latency_ms = job
        won = mode == "ensemble" or latency_ms == 0 or seed % 2 == 0
        return Episode(seed, mode, latency_ms, "success" if won else "wrong_block", 4.0, 40, {}, {"x": 2})

    bench = report([episode(job) for job in all_jobs(4)])
    *rows, goal = bench.rows
    assert len(rows) == 25
    row = next(row for row in rows if row["mode"] == "newest" and row["latency_ms"] == 300)
    assert (row["success_%"], row["wrong_block"], row["timeout"], row["lost"]) == (50.0, 2, 0, 2.0)
    assert row["interval_%"] == "15 to 85"
    assert str(goal["mode"]).startswith("best: ensemble; loses 0 points") and goal["met"] is True
    assert len(re.findall("<circle", bench.plot)) == 2 * 25


def test_a_goal_that_is_missed() -> None:
    def episode(job: tuple[int, str, float]) -> Episode:
        return Episode(*job, "success", 4.0 + job[2] / 100, 40, {}, {})

    goal = report([episode(job) for job in all_jobs(2)]).rows[-1]
    assert goal["met"] is False and "1.75 times" in str(goal["mode"])
