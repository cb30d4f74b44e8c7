from __future__ import annotations

import threading

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


def test_the_caller_does_what_the_helper_has_not_begun(hands: TwoHands) -> None:
    """The helper is held up by its first item until all others are done."""
    others, done = threading.Event(), []

    def work(item: int) -> int:
        if item == 5:
            assert others.wait(20)
        else:
            done.append(item)
            if len(done) == 5:
                others.set()
        return item

    assert hands(work, range(6)) == list(range(6))


def test_many_calls_in_a_row(hands: TwoHands) -> None:
    for count in range(3000):
        assert hands(str, range(count % 5)) == [str(item) for item in range(count % 5)]


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_an_exception_is_raised(hands: TwoHands, bad: int) -> None:
    def work(item: int) -> int:
        if item == bad:
            raise ValueError(item)
        return item

    with pytest.raises(ValueError, match=str(bad)):
        hands(work, range(3))
    assert hands(str, range(3)) == ["0", "1", "2"]
