"""Ticks on the machine's own clock, and on a simulated one that this test turns by hand."""

from __future__ import annotations

import itertools
import threading
import time

from vla_ros.nodes.pace import CLOCK_STEP_NS, STANDS_NS, SimPace, WallPace

MS = 1_000_000
PERIOD = 5 * MS
AHEAD = 10**18


def test_ticks_are_whole_periods_apart_on_both_clocks() -> None:
    pace = WallPace(PERIOD, lambda: time.monotonic_ns() + AHEAD)
    ticks = [pace.wait() for _ in range(40)]
    for before, after in itertools.pairwise(ticks):
        periods = 1 + after.missed
        assert after.steady_ns - before.steady_ns == periods * PERIOD
        assert after.now_ns - before.now_ns == periods * PERIOD
    for tick in ticks:
        assert 0 <= tick.begin_ns - tick.steady_ns < PERIOD
        assert abs(tick.now_ns - tick.steady_ns - AHEAD) < CLOCK_STEP_NS
    assert pace.awake_ns == ticks[-1].begin_ns


def test_what_is_past_is_left_out_and_counted() -> None:
    pace = WallPace(PERIOD, time.monotonic_ns)
    before = pace.wait()
    time.sleep(7.5 * PERIOD / 1e9)
    after = pace.wait()
    assert after.missed >= 7
    assert after.steady_ns - before.steady_ns == (1 + after.missed) * PERIOD
    assert after.begin_ns - after.steady_ns < PERIOD


def test_a_thread_that_wakes_too_late_is_given_the_latest_tick() -> None:
    pace = WallPace(PERIOD, time.monotonic_ns)
    # One call that holds the interpreter for some periods: the waiting thread cannot wake meanwhile.
    hog = threading.Thread(target=lambda: [sum(range(1_500_000)) for _ in range(10)])
    hog.start()
    ticks = []
    while hog.is_alive():
        ticks.append(pace.wait())
    assert sum(tick.missed for tick in ticks) > 0
    assert all(0 <= tick.begin_ns - tick.steady_ns < PERIOD for tick in ticks)


def test_a_clock_that_is_set_shows_at_the_next_tick_and_jitter_does_not() -> None:
    offset = 0
    pace = WallPace(PERIOD, lambda: time.monotonic_ns() + offset)
    before = pace.wait()
    offset = CLOCK_STEP_NS // 2
    same = pace.wait()
    assert same.now_ns - before.now_ns == same.steady_ns - before.steady_ns
    for step in (10**10, -(10**10)):
        earlier = pace.wait()
        offset += step
        # A reading during which this thread was held up is not used: the one after it is.
        for _ in range(10):
            later = pace.wait()
            jumped = (later.now_ns - earlier.now_ns) - (later.steady_ns - earlier.steady_ns)
            if jumped:
                break
        assert abs(jumped - step) < 2 * CLOCK_STEP_NS


class Turned:
    """A simulated clock that runs `speed` times as fast as the real one, in steps."""

    def __init__(self, speed: float, step_ns: int) -> None:
        self.begin, self.speed, self.step_ns, self.jump_ns = time.monotonic_ns(), speed, step_ns, 0
        self.stopped_at: int | None = None

    def __call__(self) -> int:
        if self.stopped_at is not None:
            return self.stopped_at
        run = int((time.monotonic_ns() - self.begin) * self.speed)
        return run // self.step_ns * self.step_ns + self.jump_ns


def test_simulated_time_sets_the_pace() -> None:
    clock = Turned(0.5, 12 * MS)
    pace = SimPace(PERIOD, clock)
    begin = time.monotonic_ns()
    ticks = [pace.wait() for _ in range(40)]
    for before, after in itertools.pairwise(ticks):
        # Held up by a busy machine, it takes the time as it finds it.
        assert after.now_ns - before.now_ns == PERIOD or after.now_ns - before.now_ns > 10 * PERIOD
        assert after.missed == 0
    simulated = ticks[-1].now_ns - ticks[0].now_ns
    assert time.monotonic_ns() - begin > 1.5 * (simulated - 12 * MS)


def test_a_clock_that_stands_still_is_shown_and_does_not_hang() -> None:
    clock = Turned(1.0, MS)
    pace = SimPace(PERIOD, clock)
    last = pace.wait()
    clock.stopped_at = clock()
    stopped_ns = time.monotonic_ns()
    while clock.stopped_at - last.now_ns >= PERIOD:
        last = pace.wait()
    still = [pace.wait() for _ in range(5)]
    assert {each.now_ns for each in still} == {last.now_ns}
    assert still[0].steady_ns - stopped_ns > STANDS_NS - 5 * MS
    assert all(b.steady_ns - a.steady_ns >= PERIOD for a, b in itertools.pairwise(still))
    clock.stopped_at = None
    assert pace.wait().now_ns > last.now_ns


def test_simulated_time_may_be_set_either_way() -> None:
    clock = Turned(1.0, MS)
    pace = SimPace(PERIOD, clock)
    before = pace.wait()
    clock.jump_ns = 10**10
    assert pace.wait().now_ns - before.now_ns > 9 * 10**9
    clock.jump_ns = -(10**10)
    assert pace.wait().now_ns - before.now_ns < -9 * 10**9
