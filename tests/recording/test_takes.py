from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.recording.takes import BRAKING_NS, TAIL_NS, Begin, End, Takes, moves
from vla_ros.safety.modes import TRANSITIONS

MS = 1_000_000
# Messages are filed by another clock than the one by which a recording ends: that one may be set back.
FILED_NS = -(10**18)


def hear(takes: Takes, status: str, now_ns: int) -> list[Begin | End]:
    return takes.heard(status, FILED_NS - now_ns, now_ns)


def begun(now_ns: int) -> Begin:
    return Begin(FILED_NS - now_ns)


def test_one_recording_from_the_start_to_the_stop_with_the_holds_in_between() -> None:
    takes = Takes()
    assert hear(takes, "idle", 0) == []
    assert hear(takes, "waiting", 10 * MS) == [begun(10 * MS)]
    for k, status in enumerate(
        ["policy", "waiting: stale_chunk: none reaches further", "policy", "stopping"]
    ):
        assert hear(takes, status, (20 + k) * MS) == []
    assert not takes.ending
    assert hear(takes, "idle", 30 * MS) == []
    assert takes.ending
    assert takes.due(30 * MS + TAIL_NS - 1) == []
    assert takes.due(30 * MS + TAIL_NS) == [End("stopped", acted=True)]
    assert takes.due(60 * MS + TAIL_NS) == [] == takes.end("again")


@pytest.mark.parametrize(
    ("statuses", "how"),
    [
        (["estop: pressed on vla/estop"], "emergency stop: pressed on vla/estop"),
        (["homing", "stopping", "idle"], "sent home"),
        (["homing", "stopping: home_blocked: not reached", "idle"], "sent home"),
        (["homing", "estop: pressed"], "emergency stop: pressed"),
        (["estop: pressed", "stopping", "idle"], "emergency stop: pressed"),
        (["stopping: driver_gone: nobody", "idle"], "stopped: driver_gone: nobody"),
        (["stopping", "idle", "estop: pressed"], "stopped"),
        # Held for a while, and stopped much later for no reason of its own.
        (["waiting: stale_chunk: none", "policy", "stopping", "idle"], "stopped"),
        (["waiting: stale_chunk: none", "idle"], "stopped"),
    ],
)
def test_what_ended_it_is_told(statuses: list[str], how: str) -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    for status in statuses:
        assert hear(takes, status, 1) == []
    assert takes.due(1 + TAIL_NS) == [End(how, acted=True)]


def test_an_emergency_stop_ends_it_when_the_robot_rests() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    takes.moved(1)
    hear(takes, "estop: pressed", 10 * MS)
    for now_ns in range(20 * MS, 3000 * MS, 10 * MS):
        takes.moved(now_ns)
        assert takes.due(now_ns) == []
    assert takes.due(2990 * MS + TAIL_NS - 1) == []
    assert takes.due(2990 * MS + TAIL_NS) == [End("emergency stop: pressed", acted=True)]


def test_a_command_that_never_rests_does_not_keep_it_open() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    hear(takes, "estop", 0)
    for now_ns in range(0, BRAKING_NS + TAIL_NS, 500 * MS):
        takes.moved(now_ns)
        assert takes.due(now_ns) == []
    takes.moved(BRAKING_NS + TAIL_NS)
    assert takes.due(BRAKING_NS + TAIL_NS) == [End("emergency stop", acted=True)]


def test_the_way_home_belongs_to_it_however_long_it_is() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    hear(takes, "homing", 1)
    assert takes.due(10 * BRAKING_NS) == []
    hear(takes, "stopping", 10 * BRAKING_NS)
    hear(takes, "idle", 10 * BRAKING_NS + 5)
    assert takes.due(10 * BRAKING_NS + 4 + TAIL_NS) == []
    assert takes.due(10 * BRAKING_NS + 5 + TAIL_NS) == [End("sent home", acted=True)]
    assert hear(takes, "homing", 11 * BRAKING_NS) == []


def test_sent_home_after_it_ended_it_is_over() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    hear(takes, "idle", 1)
    assert hear(takes, "homing", 2) == [End("stopped", acted=True)]


@pytest.mark.parametrize(
    ("before", "command", "expected"),
    [
        ({"arm/joint1": 0.5}, {"arm/joint1": 0.5}, False),
        ({"arm/joint1": 0.5}, {"arm/joint1": 0.5 + 1e-9}, True),
        ({"arm/joint1": 0.5}, {"arm/joint1": 0.5, "arm/gripper": 0.08}, True),
        ({"a/joint1": 0.5, "a/joint1/wanted": 0.1}, {"a/joint1": 0.5, "a/joint1/wanted": 0.2}, False),
        # A base's are velocities: the same again is no rest.
        ({"base/vx": 0.5, "base/wz": 0.0}, {"base/vx": 0.5, "base/wz": 0.0}, True),
        ({"base/vx": 0.0, "base/wz": -0.1}, {"base/vx": 0.0, "base/wz": -0.1}, True),
        ({"base/vx": 0.0, "base/wz": 0.0}, {"base/vx": 0.0, "base/wz": 0.0}, False),
        ({}, {"arm/joint1": 0.5}, True),
    ],
)
def test_what_moves_the_robot(before: dict[str, float], command: dict[str, float], expected: bool) -> None:
    assert moves(before, command) is expected


def test_a_start_during_the_tail_is_a_recording_of_its_own() -> None:
    takes = Takes()
    hear(takes, "waiting", 0)
    hear(takes, "idle", 1)
    assert hear(takes, "waiting", 2) == [End("stopped", acted=False), begun(2)]
    assert hear(takes, "policy", 3) == []
    assert takes.due(2 + 2 * TAIL_NS) == []
    assert takes.end("record_node was ended") == [End("record_node was ended", acted=True)]


def test_what_ended_it_first_is_told_where_its_tail_is_cut_off() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    hear(takes, "stopping", 1)
    hear(takes, "idle", 2)
    assert takes.end("record_node was ended") == [End("stopped", acted=True)]


def test_one_that_begins_late_begins_in_the_middle() -> None:
    assert hear(Takes(), "policy", 7) == [begun(7)]
    for status in ("idle", "homing", "stopping", "estop: pressed"):
        assert hear(Takes(), status, 7) == []


def test_one_that_could_not_go_on_is_followed_by_none_before_a_new_start() -> None:
    takes = Takes()
    hear(takes, "waiting", 0)
    hear(takes, "policy", 1)
    assert takes.give_up("disk full") == [End("disk full", acted=True)]
    for k, status in enumerate(["waiting: stale_chunk: none", "policy", "stopping", "waiting", "policy"]):
        assert hear(takes, status, 2 + k) == []
    assert hear(takes, "stopping", 8) == hear(takes, "idle", 9) == []
    assert hear(takes, "waiting", 10) == [begun(10)]
    # Given up while it rests already, the next start is a new one.
    hear(takes, "idle", 11)
    assert takes.give_up("disk full") == [End("stopped", acted=False)]
    assert hear(takes, "waiting", 12) == [begun(12)]


def test_one_whose_control_node_came_back_goes_on_in_a_new_one() -> None:
    takes = Takes()
    hear(takes, "policy", 0)
    assert takes.end("control_node is gone") == [End("control_node is gone", acted=True)]
    assert hear(takes, "policy", 1) == [begun(1)]


@given(st.lists(st.tuples(st.sampled_from(sorted(TRANSITIONS)), st.integers(0, 2 * TAIL_NS)), max_size=30))
def test_beginnings_and_ends_alternate_and_every_following_is_recorded(steps: list[tuple[str, int]]) -> None:
    takes, now, going = Takes(), 0, False
    for mode, after in steps:
        now += after
        for change in [*takes.due(now), *hear(takes, mode, now)]:
            assert isinstance(change, End) == going
            going = not going
        assert going or mode not in ("policy", "waiting")
    assert len(takes.end("")) == going
