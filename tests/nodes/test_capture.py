"""From a camera's own time to the ROS clock's."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.nodes.capture import FRAMES_COMPARED, HardwareClock, on_ros_clock

MS = 1_000_000
NOW = 1_700_000_000_000_000_000


@pytest.mark.parametrize(
    ("captured", "clock", "stamp"),
    [
        (5_000 * MS, 5_012 * MS, NOW - 12 * MS),
        (5_000 * MS, 5_000 * MS, NOW),
        # Read late, by a process that was held up: old it is.
        (5_000 * MS, 8_000 * MS, NOW - 3_000 * MS),
        # Of another clock: a position in a file, an unset stamp, a clock ahead.
        (0, 86_400_000 * MS, NOW),
        (5_000 * MS, 4_999 * MS, NOW),
        (NOW, 5_000 * MS, NOW),
    ],
)
def test_a_time_of_this_machines_other_clock(captured: int, clock: int, stamp: int) -> None:
    assert on_ros_clock(captured, clock, NOW) == stamp


def frames(count: int, drift: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(on the camera's clock, arrival) of frames that are 3 ms on their way, or up to 40 ms longer."""
    captured = NOW + np.arange(count) * 33 * MS
    device = 7_777 * MS + np.round((captured - NOW) * (1 + drift)).astype(np.int64)
    wait = np.random.default_rng(seed).exponential(8 * MS, count).clip(0, 40 * MS)
    wait[::20] = 0
    return device, captured + 3 * MS + wait.astype(np.int64)


@pytest.mark.parametrize("drift", [0.0, 5e-5, -5e-5])
def test_stamps_are_of_the_capture_but_for_the_shortest_way(drift: float) -> None:
    device, arrived = frames(2_000, drift)
    clock = HardwareClock()
    stamps = np.array([clock.stamp(int(d), int(a)) for d, a in zip(device, arrived, strict=True)])
    assert (stamps <= arrived).all()
    off = (stamps - (NOW + np.arange(2_000) * 33 * MS))[40:] / MS
    # 3 ms of way; 50 ppm over the window of 10 s are 0.5 ms.
    assert off.min() > 3 - 0.6 and off.max() < 3 + 0.6
    assert (np.diff(stamps[40:]) > 30 * MS).all()


def test_it_begins_anew_when_either_clock_is_set() -> None:
    device, arrived = frames(FRAMES_COMPARED)
    clock = HardwareClock()
    for d, a in zip(device, arrived, strict=True):
        clock.stamp(int(d), int(a))
    # Plugged in again: its counter begins at 0.
    assert clock.stamp(0, NOW + 60_000 * MS) == NOW + 60_000 * MS
    assert clock.stamp(33 * MS, NOW + 60_040 * MS) == NOW + 60_033 * MS
    # ... at once, so that the times on both sides differ by less than any frame may take.
    assert clock.stamp(0, NOW + 60_100 * MS) == NOW + 60_100 * MS
    # This machine's clock was set forward, and then back.
    assert clock.stamp(66 * MS, NOW + 190_000 * MS) == NOW + 190_000 * MS
    assert clock.stamp(99 * MS, NOW + 20_000 * MS) == NOW + 20_000 * MS


def test_a_frame_that_is_read_seconds_late_is_no_new_one() -> None:
    device, arrived = frames(100)
    clock = HardwareClock()
    for d, a in zip(device, arrived, strict=True):
        clock.stamp(int(d), int(a))
    captured = int(device[-1]) + 33 * MS
    late = clock.stamp(captured, int(arrived[-1]) + 5_000 * MS)
    assert late < int(arrived[-1]) + 100 * MS
