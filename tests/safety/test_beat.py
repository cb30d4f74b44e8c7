import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.safety.beat import Beat

PERIOD = 10_000_000
T0 = 1_700_000_000_000_000_000


def places(times: list[int]) -> tuple[list[int], list[int]]:
    """(how many ticks each call missed, each call's place in the row)."""
    beat = Beat(PERIOD)
    missed, row = [], []
    for time in times:
        missed.append(beat.tick(time))
        row.append(time - round(beat.late_s * 1e9))
    return missed, row


@given(st.lists(st.integers(0, PERIOD * 8 // 10), min_size=3, max_size=30))
def test_a_loop_that_wakes_up_late_keeps_its_beat(late: list[int]) -> None:
    missed, row = places([T0, *(T0 + (tick + 1) * PERIOD + by for tick, by in enumerate(late))])
    assert not any(missed)
    assert np.diff(row).tolist() == [PERIOD] * len(late)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20))
def test_missed_ticks_are_counted(gaps: list[int]) -> None:
    missed, row = places([T0, *(T0 + np.cumsum(gaps) * PERIOD).tolist()])
    assert missed == [0, *(gap - 1 for gap in gaps)]
    assert np.diff(row).tolist() == [gap * PERIOD for gap in gaps]


def test_a_clock_that_jumps_begins_a_new_row() -> None:
    day = 86_400 * 10**9
    missed, row = places([T0, T0 + PERIOD, T0 + day, T0 + day + PERIOD, T0 - day, T0 - day + PERIOD])
    assert missed == [0, 0, Beat.LONGEST, 0, 0, 0]
    assert row == [T0, T0 + PERIOD, T0 + day, T0 + day + PERIOD, T0 - day, T0 - day + PERIOD]
