"""A policy whose inference takes longer than its motion leaves the arm near: does the arm ever set off?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.safety.plant import MS, Bench
from vla_ros.errors import Refused

# 0.4 m/s: after half a second the target is 0.2 m from where the arm still stands, twice what is taken up.
SHIFT, ROWS = (0.0, 0.32, 0.0), 8


def test_an_arm_that_stood_still_begins_a_late_chunk_at_its_beginning() -> None:
    bench = Bench()
    bench.start()
    bench.tick(2)
    chunk = bench.tool_chunk(SHIFT, rows=ROWS)
    bench.tick(50)
    bench.add(chunk)
    taken_ns = bench.now_ns
    bench.tick(1)
    assert bench.supervisor.source == "policy"
    # All of it is done, half a second later than it would have been due.
    assert bench.supervisor.last_due_ns - taken_ns > (ROWS - 1) * 100 * MS
    bench.tick(120)
    assert bench.pose()[:3] == pytest.approx(chunk.targets[-1, :3], abs=2e-3)
    bench.assert_limits()


def test_a_chunk_that_is_in_time_keeps_its_times() -> None:
    bench = Bench()
    bench.start()
    bench.tick(2)
    chunk = bench.tool_chunk((0.05, 0.0, 0.0))
    bench.add(chunk)
    bench.tick(15)
    assert bench.supervisor.last_due_ns == int(chunk.due_ns[-1])


def test_what_was_seen_while_the_arm_moved_is_not_begun_from_rest() -> None:
    bench = Bench()
    bench.start()
    bench.tick(2)
    bench.add(bench.tool_chunk((0.1, 0.0, 0.0), rows=3))
    bench.tick(20)
    assert bench.supervisor.source == "policy"
    seen_moving = bench.tool_chunk(SHIFT, rows=3 * ROWS)
    while bench.supervisor.source == "policy":
        bench.tick()
    bench.tick(100)
    start = np.array(bench.pose()[:3])
    # What is due by now is more than 0.1 m away, and that is no step to begin with.
    with pytest.raises(Refused) as caught:
        bench.add(seen_moving)
    assert caught.value.reason == "far"
    assert bench.pose()[:3] == pytest.approx(start)


def test_a_chunk_that_is_over_is_late_however_still_the_arm_stood() -> None:
    bench = Bench()
    bench.start()
    bench.tick(2)
    chunk = bench.tool_chunk((0.05, 0.0, 0.0))
    bench.tick(100)
    with pytest.raises(Refused) as caught:
        bench.add(chunk)
    assert caught.value.reason == "late"
