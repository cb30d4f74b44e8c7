"""Clocks that jump, stand still, and streams that stall or come late: observations come again by themselves.

A second of a Franka's drivers at a time, event by event on made-up clocks. Messages are stamped when they
are made and arrive a little later; everything has the same ROS clock, which `warp` bends.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.observation.messages import image, joint_state
from tests.observation.test_assemble import FINGERS, FRANKA, HOME, JOINTS, KINEMATICS, T0
from vla_ros.errors import Refused
from vla_ros.observation.assemble import assemble
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.ring import MS

PICTURE = np.zeros((480, 640, 3), np.uint8)
# stream: (period, time on the way), ms
STREAMS = {"front": (33, 25), "wrist": (33, 40), "joints": (10, 2), "gripper": (66, 5)}
FAULT, END, LAST = 500, 1000, 1600

Warp = Callable[[int], float]
Late = Callable[[str, int], float]


def steady(ms: int) -> float:
    return 0.0


def refusals(warp: Warp = steady, late: Late = lambda stream, made: 0.0) -> tuple[dict[int, str], Any]:
    """{ms of true time: why there was no observation}, looked for every 10 ms, and the buffers.

    warp: how far the ROS clock is off at a true time, ms. late: extra time on the way, ms; infinity: lost.
    """
    buffers = ObservationBuffers(FRANKA, ["front", "wrist"])
    events: list[tuple[float, int, str, int]] = [(ms, 1, "look", ms) for ms in range(200, LAST, 10)]
    for stream, (period, way) in STREAMS.items():
        for made in range(0, LAST, period):
            arrival = made + way + late(stream, made)
            if arrival < LAST:
                events.append((arrival, 0, stream, made))
    found: dict[int, str] = {}
    for true, _, what, made in sorted(events):
        stamp = T0 + round((made + warp(made)) * MS)
        now = T0 + round((true + warp(int(true))) * MS)
        if what == "joints":
            buffers.joint_states("arm", joint_state(stamp, JOINTS, HOME), now)
        elif what == "gripper":
            buffers.gripper_states("arm", joint_state(stamp, FINGERS, [0.04, 0.04]), now)
        elif what != "look":
            buffers.image(what, image(stamp, PICTURE), now)
        else:
            try:
                seen = assemble(buffers, FRANKA, stamp, "lift it", KINEMATICS)
                assert abs(seen.stamp_ns - stamp) < 250 * MS
            except Refused as error:
                found[made] = error.reason
    return found, buffers


def test_without_a_fault_every_look_sees() -> None:
    assert refusals()[0] == {}


@pytest.mark.parametrize("step_ms", [10_000, -10_000, 1_000, -1_000, 300, -300, 60, -60])
def test_a_clock_step_is_over_within_a_few_frames(step_ms: int) -> None:
    """Every stream needs one message from after it; the gripper's comes at 15 Hz. A step back by less than a
    stream's max_age looks like messages out of order, until the clock has caught up."""
    found, _ = refusals(lambda ms: step_ms if ms >= FAULT else 0)
    allowed = 120 if not -200 <= step_ms < 0 else 120 - step_ms
    assert all(FAULT <= ms <= FAULT + allowed for ms in found), found


def test_what_is_from_before_a_step_back_is_dropped_and_counted_not_kept_for_ten_seconds() -> None:
    """A stream that falls silent at the step: what it sent before is from the future, and must not come to be
    of the present ten seconds later."""
    buffers = ObservationBuffers(FRANKA, ["front", "wrist"])
    ring = buffers.cameras["front"]
    for ms in (0, 33, 66):
        buffers.image("front", image(T0 + ms * MS, PICTURE), T0 + (ms + 30) * MS)
    with pytest.raises(Refused, match="ahead of this machine's clock"):
        ring.check(T0 - 10_000 * MS)
    assert ring.dropped["future"] == 3
    assert not ring.samples
    with pytest.raises(Refused, match="ahead of this machine's clock"):
        ring.check(T0 + 70 * MS)
    buffers.image("front", image(T0 + 99 * MS, PICTURE), T0 + 105 * MS)
    ring.check(T0 + 110 * MS)


@pytest.mark.parametrize("step_ms", [10_000, -10_000])
def test_a_clock_that_jumps_and_comes_back(step_ms: int) -> None:
    found, _ = refusals(lambda ms: step_ms if FAULT <= ms < END else 0)
    assert all(FAULT <= ms <= FAULT + 120 or END <= ms <= END + 120 for ms in found), found


def test_a_clock_that_stands_still_and_then_jumps_or_goes_on() -> None:
    """While it stands, new messages repeat one stamp."""
    jumps, _ = refusals(lambda ms: FAULT - ms if FAULT <= ms < END else 0)
    assert all(FAULT <= ms <= END + 120 for ms in jumps), jumps
    goes_on, _ = refusals(lambda ms: 0 if ms < FAULT else max(FAULT - ms, FAULT - END))
    assert all(FAULT <= ms <= END + 120 for ms in goes_on), goes_on


@pytest.mark.parametrize("stream", ["front", "wrist", "joints", "gripper"])
def test_a_stream_that_stalls(stream: str) -> None:
    def lost(name: str, made: int) -> float:
        return float("inf") if name == stream and FAULT <= made < END else 0.0

    found, _ = refusals(late=lost)
    assert set(found.values()) <= {"stale", "skew", "incomplete"}
    assert all(FAULT < ms <= END + 120 for ms in found), found
    assert found or stream == "gripper"


@pytest.mark.parametrize("stream", ["front", "wrist", "joints"])
def test_a_stream_that_comes_late_by_half_a_second(stream: str) -> None:
    """Late ones are held back, in order, as a network does; then they come in time again."""

    def slow(name: str, made: int) -> float:
        return 500.0 if name == stream and 300 <= made < 600 else 0.0

    found, buffers = refusals(late=slow)
    assert found
    # The last late one arrives at 1100; whatever came in time before it is newer and stays.
    assert all(300 <= ms <= 600 + 150 for ms in found), found
    ring = buffers.joints["arm"] if stream == "joints" else buffers.cameras[stream]
    assert ring.dropped["back_in_time"] > 0
