from __future__ import annotations

import threading
import time

import pytest

from vla_ros.nodes.two_hands import TwoHands


@pytest.fixture
def hands():
    hands = TwoHands()
    yield hands
    hands.close()


def test_results_come_in_order(hands: TwoHands) -> None:
    for count in range(1, 9):
        assert hands(lambda item: item * 2, range(count)) == [2 * item for item in range(count)]


def test_both_hands_work(hands: TwoHands) -> None:
    """Two items that each wait for the other can only end on two threads."""
    meeting = threading.Barrier(2, timeout=10)
    assert sorted(hands(lambda _: meeting.wait(), range(2))) == [0, 1]


def test_a_busy_helper_is_not_waited_for(hands: TwoHands) -> None:
    release = threading.Event()
    hands._pool.submit(release.wait)
    begin = time.monotonic()
    assert hands(lambda item: threading.current_thread() is threading.main_thread(), range(4)) == [True] * 4
    assert time.monotonic() - begin < 5
    release.set()


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_exception_is_raised(hands: TwoHands, bad: int) -> None:
    def work(item: int) -> int:
        if item == bad:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match=str(bad)):
        hands(work, range(3))
