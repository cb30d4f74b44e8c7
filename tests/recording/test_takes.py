from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vla_ros.recording.takes import TAIL_NS, Begin, End, Takes
from vla_ros.safety.modes import TRANSITIONS

MS = 1_000_000


def test_one_recording_from_the_start_to_the_stop_with_the_holds_in_between() -> None:
    takes = Takes()
    assert takes.heard("idle", 0) == []
    assert takes.heard("waiting", 10 * MS) == [Begin(10 * MS)]
    for k, status in enumerate(
        ["policy", "waiting: stale_chunk: none reaches further", "policy", "stopping"]
    ):
        assert takes.heard(status, (20 + k) * MS) == []
    assert takes.heard("idle", 30 * MS) == []
    assert takes.due(30 * MS + TAIL_NS - 1) == []
    assert takes.due(30 * MS + TAIL_NS) == [End("stopped", acted=True)]
    assert takes.due(60 * MS + TAIL_NS) == [] == takes.end("again")


def test_what_ended_it_is_told() -> None:
    for statuses, how in (
        (["estop: pressed on vla/estop"], "emergency stop: pressed on vla/estop"),
        (["homing", "stopping", "idle"], "sent home"),
        (["stopping: driver_gone: nobody", "idle"], "stopped: driver_gone: nobody"),
        # Held for a while, and stopped much later for no reason of its own.
        (["waiting: stale_chunk: none", "policy", "stopping", "idle"], "stopped"),
        (["waiting: stale_chunk: none", "idle"], "stopped"),
    ):
        takes = Takes()
        takes.heard("policy", 0)
        for status in statuses:
            assert takes.heard(status, 1) == []
        assert takes.due(1 + TAIL_NS) == [End(how, acted=True)]


def test_a_start_during_the_tail_is_a_recording_of_its_own() -> None:
    takes = Takes()
    takes.heard("waiting", 0)
    takes.heard("idle", 1)
    assert takes.heard("waiting", 2) == [End("stopped", acted=False), Begin(2)]
    assert takes.heard("policy", 3) == []
    assert takes.end("record_node was ended") == [End("record_node was ended", acted=True)]


def test_one_that_begins_late_begins_in_the_middle() -> None:
    assert Takes().heard("policy", 7) == [Begin(7)]
    for status in ("idle", "homing", "stopping", "estop: pressed"):
        assert Takes().heard(status, 7) == []


@given(st.lists(st.tuples(st.sampled_from(sorted(TRANSITIONS)), st.integers(0, 2 * TAIL_NS)), max_size=30))
def test_beginnings_and_ends_alternate_and_every_following_is_recorded(steps: list[tuple[str, int]]) -> None:
    takes, now, going = Takes(), 0, False
    for mode, after in steps:
        now += after
        for change in [*takes.due(now), *takes.heard(mode, now)]:
            assert isinstance(change, End) == going
            going = not going
        assert going or mode not in ("policy", "waiting")
    assert len(takes.end("")) == going
