"""The hand-over between chunks, in virtual time: what is reached, and that others' rules fall short of it.

Deterministic: neither the machine nor its load has a say.
"""

from __future__ import annotations

from functools import cache

import pytest

from vla_ros.benchmarks import handover
from vla_ros.benchmarks._handover_others import AsyncAverage, BlockingBroker, Crossfade, ReplacedQueue
from vla_ros.benchmarks._handover_world import ROBOT_DELAY_NS, Exact, Outcome, simulate
from vla_ros.benchmarks.handover import PUBLISHED, SLOW_PERIOD_MS, TARGET_STEP, TARGETS, Ours

SECONDS = 30.0
SEED = 3


@cache
def ours(latency_ms: float, period_ms: float | None = None, mode: str = handover.DEFAULT_MODE) -> Outcome:
    return simulate(Ours(mode), latency_ms, period_ms, SECONDS, SEED)


def test_the_reference_is_what_the_figures_are_stated_for() -> None:
    exact = simulate(Exact(), 0, None, 60.0, SEED)
    assert exact.rms == pytest.approx(1.0, abs=0.05)
    assert exact.jerk == pytest.approx(2.0, abs=0.1)
    assert 26.5 < exact.step < 27.5
    assert exact.lag == 0


@pytest.mark.complaint("openpi 393", "GR00T 285", "GR00T 114", "X-VLA 38")
@pytest.mark.parametrize("latency_ms", TARGETS)
def test_no_jerk_and_no_pause_where_chunks_meet(latency_ms: int) -> None:
    tracking, jerk = TARGETS[latency_ms]
    outcome = ours(latency_ms)
    assert outcome.rms <= tracking
    assert outcome.jerk <= jerk
    assert outcome.step <= TARGET_STEP + 1e-6
    assert outcome.starved == 0


def test_the_robot_is_not_late_whatever_inference_takes() -> None:
    lags = [ours(latency_ms).lag for latency_ms in (0, 60, 150, 300)]
    assert max(abs(lag) for lag in lags) <= handover.TARGET_LAG_SPREAD_MS


def test_the_robots_own_lag_is_found_from_cold_start() -> None:
    contender = Ours(handover.DEFAULT_MODE)
    simulate(contender, 150, None, SECONDS, SEED)
    assert contender.latency_ms == pytest.approx(ROBOT_DELAY_NS / 1e6, abs=3.0)


@pytest.mark.complaint("lerobot 1500", "lerobot 1557", "lerobot 2356")
def test_commands_do_not_run_out_where_a_queue_stalls() -> None:
    """The next inference waits for nothing: neither for an empty queue nor for the robot to have moved."""
    assert ours(300).starved == 0
    assert simulate(AsyncAverage(filtered=True), 300, None, SECONDS, SEED).starved > 5


@pytest.mark.parametrize("latency_ms", [0, 60, 150, 300])
def test_at_3_hz_no_worse_than_a_crossfade_with_its_constant_tuned_by_hand(latency_ms: int) -> None:
    def crossfade(latency_k: int) -> Outcome:
        return simulate(Crossfade(latency_k), latency_ms, SLOW_PERIOD_MS, SECONDS, SEED)

    # The constants around the best one of `vla bench handover`: 3, 6, 11 and 22.
    around = {0: range(2, 5), 60: range(5, 8), 150: range(10, 13), 300: range(20, 24)}[latency_ms]
    tuned = min((crossfade(latency_k) for latency_k in around), key=lambda outcome: outcome.rms)
    outcome = ours(latency_ms, SLOW_PERIOD_MS)
    assert outcome.rms <= tuned.rms
    assert outcome.jerk <= tuned.jerk


@pytest.mark.parametrize("latency_ms", TARGETS)
def test_others_rules_are_restated_well_enough(latency_ms: int) -> None:
    """What was measured on their own code is found again, within a fifth."""
    restated = {
        handover.OPENPI: BlockingBroker(),
        handover.QUEUE: ReplacedQueue(),
        handover.ASYNC: AsyncAverage(filtered=False),
        handover.EVA_SHIPPED: Crossfade(Crossfade.SHIPPED),
    }
    for name, contender in restated.items():
        outcome = simulate(contender, latency_ms, None, SECONDS, SEED)
        assert outcome.rms == pytest.approx(PUBLISHED[name][latency_ms], rel=0.2), name
        assert outcome.rms > TARGETS[latency_ms][0] and outcome.jerk > ours(latency_ms).jerk, name


def test_the_table_has_every_contender_and_judges_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "SECONDS", 7.0)
    monkeypatch.setattr(handover, "TUNING_SECONDS", 6.0)
    monkeypatch.setattr(handover, "LATENCY_KS", range(2, 4))
    monkeypatch.setattr(handover, "LATENCIES_MS", (60,))
    bench = handover.run(lambda text: None)
    names = {row["contender"] for row in bench.rows}
    assert {*PUBLISHED, "vla_ros, ensemble", "vla_ros, sync"} <= names
    judged = [row["contender"] for row in bench.rows if row["met"] is not None]
    assert judged == [
        "vla_ros, ensemble",
        "vla_ros, ensemble",
        "vla_ros, ensemble, lags apart by",
    ]
