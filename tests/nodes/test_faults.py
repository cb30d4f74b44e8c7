"""The benchmark of faults, some of them: the real graph in motion, a real fault, and what came of it.

What a busy machine breaks is not asked for here: how fast a fault was noticed (`vla bench faults` does).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from vla_ros.benchmarks import faults
from vla_ros.benchmarks._faults_case import ROUNDING, SETTLING
from vla_ros.benchmarks._faults_edit import Edit, Editor, stamp_of, with_stamp
from vla_ros.benchmarks._faults_judge import DRIVER_PERIOD_S, Limits, Sent, carried_out, limit_use, rest_from
from vla_ros.sim.controllers import TrajectoryPoint

MS = 1_000_000
LIMITS = Limits(np.array([[-3.0, 3.0]]), np.array([1.0]), np.array([10.0]), np.array([2000.0]))
PLAYED = {
    "plain": [
        "policy process killed",
        "chunk with a NaN",
        "control process hung (SIGSTOP)",
        "e-stop while policy",
        "e-stop while stopping",
    ]
}
RECOVERED = {
    "policy process killed": "after start",
    "e-stop while policy": "after reset",
    "e-stop while stopping": "after reset",
}


@pytest.mark.graph
def test_the_arm_is_held_within_its_limits_and_comes_back() -> None:
    rows = {str(row["fault"]): row for row in faults.play(lambda _: None, PLAYED).rows}
    assert sorted(rows) == sorted(PLAYED["plain"])
    for name, row in rows.items():
        found: dict[str, Any] = dict(row)
        assert found["largest_limit_use"] <= 1 + ROUNDING, found
        assert found["motion_after_hold_rad"] is None or found["motion_after_hold_rad"] <= SETTLING, found
        assert found["recovered"] == RECOVERED.get(name, "by itself"), found
        if name == "chunk with a NaN":
            assert found["arm"] == "kept moving", found
        else:
            assert "at rest" in found["arm"], found
        if not name.startswith("control process"):
            assert found["detected_ms"] is not None, found


def message(stamp_ms: int, content: bytes = b"x") -> bytes:
    return with_stamp(bytes(12) + content, stamp_ms * MS)


def test_streams_are_spoiled_as_asked() -> None:
    editor = Editor()
    first, second, third = (message(ms, content) for ms, content in ((1, b"a"), (2, b"b"), (3, b"c")))
    assert editor.push(first, 0) == [first]
    editor.set(Edit("dead"))
    assert editor.push(second, 0) == []
    editor.set(Edit("repeat"))
    assert editor.push(third, 0) == editor.push(first, 0) == [second]
    editor.set(Edit("restamp"))
    assert editor.push(message(9, b"z"), 0) == [message(9, b"b")]
    editor.set(Edit("late", amount=0.5))
    assert editor.push(first, 0) == editor.due(499 * MS) == []
    assert editor.due(500 * MS) == [first]
    editor.set(Edit("thin", amount=5.0))
    assert [len(editor.push(first, ms * MS)) for ms in (0, 100, 199, 200, 399, 400)] == [1, 0, 0, 1, 0, 1]
    editor.set(Edit("rewrite", count=1), lambda data: data + b"!")
    assert editor.push(first, 0) + editor.push(first, 0) == [first + b"!", first]
    editor.set(Edit())
    editor.offset_ns = -10_000 * MS
    assert stamp_of(editor.push(message(12_000), 0)[0]) == 2_000 * MS


def sent(at_ms: int, *points: tuple[int, float]) -> Sent:
    rows = tuple(TrajectoryPoint(np.array([q]), after * MS) for after, q in points)
    return Sent(at_ms * MS, at_ms * MS, rows)


def test_a_step_in_the_commands_is_found_and_a_stream_that_breaks_off_is_followed_to_its_end() -> None:
    start = np.zeros(1)
    smooth = [sent(at, (0, at * 1e-4), (100, (at + 100) * 1e-4)) for at in range(1000, 1200, 10)]
    q = carried_out(smooth, ["j"], np.array([0.1]))
    assert q[-1] == pytest.approx((1190 + 100) * 1e-4)
    inside = limit_use(q[:190], DRIVER_PERIOD_S, LIMITS)
    assert inside.share == pytest.approx(0.1, rel=1e-3) and inside.what == "velocity of joint 1"
    step = [*smooth, sent(1200, (0, 0.121), (100, 0.131))]
    use = limit_use(carried_out(step, ["j"], np.array([0.1]))[:205], DRIVER_PERIOD_S, LIMITS)
    assert use.share > 100 and use.what == "jerk of joint 1"
    late = [*smooth, sent(1400, (-300, 0.5), (-200, 0.6))]
    np.testing.assert_allclose(carried_out(late, ["j"], start)[-1], 0.129)


def test_rest_is_found_where_motion_ends_and_nowhere_while_it_goes_on() -> None:
    times = np.arange(0, 2000, 10) * 1.0 * MS
    q = np.minimum(times / MS, 700)[:, None] * 1e-3
    rested = rest_from(times, q, 0.02, times[-1])
    assert rested is not None and 700 * MS <= rested <= 760 * MS
    assert rest_from(times, q, 0.02, 600 * MS) is None
