from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from vla_ros.nodes.wanted import Wanted
from vla_ros.policy.trigger import Pace

PACE = Pace("ensemble", "rate", 100_000_000, 0, 0, 1.0)


def started() -> Wanted:
    wanted = Wanted("lift it", PACE)
    wanted.start()
    return wanted


def test_it_waits_to_be_started() -> None:
    wanted = Wanted("lift it", PACE)
    assert (wanted.now.prompt, wanted.now.running, wanted.woken.is_set()) == ("lift it", False, False)
    wanted.start()
    assert (wanted.now.running, wanted.woken.is_set()) == (True, True)


@pytest.mark.parametrize(
    "change",
    [
        lambda wanted: wanted.stop(),
        lambda wanted: wanted.anew(),
        lambda wanted: wanted.prompt("drop it"),
        lambda wanted: (wanted.stop(), wanted.start()),
    ],
)
def test_what_is_no_longer_wanted_is_not_done(change: Callable[[Wanted], object]) -> None:
    wanted, done = started(), []
    epoch = wanted.now.epoch
    change(wanted)
    assert not wanted.if_still(epoch, lambda: done.append(1))
    assert not done


def test_another_pace_or_source_leaves_a_chunk_as_good_as_it_was() -> None:
    wanted, done = started(), []
    epoch = wanted.now.epoch
    wanted.pace(PACE)
    wanted.source("hold")
    assert not wanted.now.followed
    assert wanted.if_still(epoch, lambda: done.append(1))
    assert done == [1]


def test_nothing_changes_while_it_is_done() -> None:
    """A stop that comes meanwhile is over only afterwards, so that no chunk goes out after it."""
    wanted = started()
    stop = threading.Thread(target=wanted.stop)

    def act() -> None:
        stop.start()
        stop.join(0.1)
        assert stop.is_alive()

    assert wanted.if_still(wanted.now.epoch, act)
    stop.join()
    assert not wanted.now.running
