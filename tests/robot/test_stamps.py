"""Stamps by arrival, for drivers whose clock is not the robot's."""

from __future__ import annotations

from vla_ros.robot.config_fields import Stream
from vla_ros.robot.stamps import Stamps

NOW = 1_700_000_000_000_000_000


def stamps(kind: str) -> Stamps:
    return Stamps(Stream(topic="/s", rate_hz=200, max_age_ms=50, stamps=kind))


def test_by_header_a_message_is_as_old_as_it_says() -> None:
    by_header = stamps("header")
    assert [by_header.of(header, NOW) for header in (5, 5, 0, NOW)] == [5, 5, 0, NOW]


def test_by_arrival_a_message_is_as_old_as_its_way_to_us() -> None:
    """Piper stamps with its SDK's clock, which may be anything."""
    by_arrival = stamps("arrival")
    found = [by_arrival.of(header, NOW + tick) for tick, header in enumerate((9_000, 14_000, 3_000))]
    assert found == [NOW, NOW + 1, NOW + 2]


def test_a_driver_that_repeats_itself_grows_old() -> None:
    by_arrival = stamps("arrival")
    found = [by_arrival.of(header, NOW + tick) for tick, header in enumerate((7, 7, 7, 8))]
    assert found == [NOW, NOW, NOW, NOW + 3]


def test_a_driver_that_does_not_stamp_at_all_is_taken_by_arrival() -> None:
    by_arrival = stamps("arrival")
    assert [by_arrival.of(0, NOW + tick) for tick in range(3)] == [NOW, NOW + 1, NOW + 2]


def test_a_clock_that_is_set_back_leaves_no_stamp_ahead() -> None:
    by_arrival = stamps("arrival")
    by_arrival.of(7, NOW)
    assert by_arrival.of(7, NOW - 10) == NOW - 10
