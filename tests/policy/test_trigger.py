"""When policy_node infers: simulated on made-up clocks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vla_ros.policy.trigger import Pace, Trigger

MS = 1_000_000
PACE = Pace("ensemble", "rate", 100 * MS, 300 * MS, 0, 1.0)
START = 1_700_000_000_000 * MS


def due(stamp_ns: int, rows: int = 10, dt_ms: int = 100) -> np.ndarray:
    return stamp_ns + np.arange(1, rows + 1) * dt_ms * MS


def begins(pace: Pace, inference_ms: list[int], rows: int = 10) -> list[int]:
    """When inferences of the given durations begin, in ms. Observations are 20 ms old."""
    trigger, now, found = Trigger(), START, []
    for duration in inference_ms:
        while (wait := trigger.wait_ns(pace, now, now)) > 0:
            now += wait
        found.append((now - START) // MS)
        trigger.begun(pace, now)
        stamp, now = now - 20 * MS, now + duration * MS
        trigger.published(due(stamp, rows), 100 * MS, now)
    return found


def test_a_rate_is_kept_without_drift_and_a_late_inference_is_not_made_up_for() -> None:
    assert begins(PACE, [30, 99, 10, 250, 30, 30, 0]) == [0, 100, 200, 300, 550, 650, 750]


@pytest.mark.complaint("lerobot 1500", "lerobot 1557", "lerobot 2356")
def test_inference_begins_before_the_last_chunk_runs_out() -> None:
    """Rows last until 980 ms after the inference's begin; 300 ms before that the next begins, in time for
    what it takes itself, so that no row is missing in between."""
    pace = dataclasses.replace(PACE, trigger="horizon")
    assert begins(pace, [50, 250, 50]) == [0, 680, 1360]
    # What takes longer than all that is left begins at once and never waits for ever.
    assert begins(pace, [50, 1200, 50]) == [0, 680, 1880]
    short = dataclasses.replace(pace, horizon_ns=5_000 * MS)
    assert begins(short, [50, 60, 70]) == [0, 50, 110]


def test_back_to_back_waits_for_nothing() -> None:
    assert begins(dataclasses.replace(PACE, trigger="back_to_back"), [50, 60, 0]) == [0, 50, 110]


@pytest.mark.parametrize("trigger", ["rate", "horizon", "back_to_back"])
def test_sync_waits_until_the_published_rows_are_done_and_looks_anew(trigger: str) -> None:
    pace = dataclasses.replace(PACE, mode="sync", trigger=trigger)
    assert begins(pace, [50, 150, 0], rows=4) == [0, 450, 1000]
    subject = Trigger()
    assert subject.observe_after_ns(pace, START) == 0
    subject.published(due(START, 4), 100 * MS, START + 70 * MS)
    assert subject.observe_after_ns(pace, START + 80 * MS) == START + 470 * MS


@pytest.mark.parametrize("mode", ["sync", "rtc"])
def test_a_clock_set_back_makes_nobody_wait(mode: str) -> None:
    pace = dataclasses.replace(PACE, mode=mode, trigger="horizon")
    trigger = Trigger()
    trigger.published(due(START), 100 * MS, START + 50 * MS)
    assert trigger.wait_ns(pace, 0, START + 60 * MS) > 500 * MS
    back = START - 10_000 * MS
    assert trigger.wait_ns(pace, 0, back) == 0
    assert trigger.observe_after_ns(pace, back) == 0
    assert trigger.wait_ns(pace, 0, START + 10_000 * MS) == 0


def test_a_reset_makes_the_next_inference_begin_at_once() -> None:
    trigger = Trigger()
    trigger.begun(PACE, START)
    trigger.published(due(START), 100 * MS, START)
    trigger.reset()
    for pace in (PACE, dataclasses.replace(PACE, trigger="horizon"), dataclasses.replace(PACE, mode="sync")):
        assert trigger.wait_ns(pace, START + MS, START + MS) == 0
