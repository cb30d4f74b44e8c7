"""The parts of `vla bench jitter` that its figures hang on."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.support import Starter
from vla_ros.benchmarks.jitter import WORKER, late_ms

MS = 1_000_000


def test_lateness_is_what_adds_up_and_not_a_single_delay() -> None:
    ideal = np.arange(1000) * 10 * MS
    assert late_ms(ideal) == 0.0
    once = ideal.copy()
    once[500] += 7 * MS
    assert late_ms(once) == 0.0
    assert late_ms(ideal + np.arange(1000) * MS // 10) == pytest.approx(99.9)
    assert late_ms(np.delete(ideal, 500)) == pytest.approx(10.0)


def test_the_ordinary_process_may_not_have_real_time_scheduling(start_process: Starter) -> None:
    ask = "from vla_ros.nodes.realtime import real_time_thread; print('class', real_time_thread())"
    started = start_process([*WORKER, "ordinary", sys.executable, "-c", ask])
    assert started.wait() == 0, started.output
    assert "class SCHED_OTHER" in started.output
