from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.observation.feed import FRANKA, HOME, KINEMATICS, T0, Feed, at
from vla_ros.errors import Refused
from vla_ros.observation.buffers import FRAMES_KEPT, ObservationBuffers
from vla_ros.observation.history import Window, assemble_window, wanted_times
from vla_ros.policy.manifest_inputs import History

SMALL = np.zeros((480, 640, 3), np.uint8)


def history(
    frames: int, stride_s: float, before: Literal["repeat_first", "refuse"] = "repeat_first"
) -> History:
    return History(frames=frames, stride_s=stride_s, of=["images", "state"], before=before)


def run(wanted: History, until: int, period: float = 100 / 3, skip: tuple[float, ...] = ()) -> Feed:
    """Both cameras every `period` ms from 0 on but for `skip`, frame n showing n; joint 1 at 1 rad/s."""
    feed = Feed(past_s=wanted.past_s)
    for ms in range(-50, until + 50, 10):
        feed.joints(ms, np.array([ms / 1000, *HOME[1:]]))
    for ms in range(-50, until + 50, 60):
        feed.gripper(ms)
    for index, ms in enumerate(np.arange(0, until + 1, period)):
        if ms not in skip:
            SMALL[0, 0] = index
            feed.image("front", ms, SMALL)
            feed.image("wrist", ms, SMALL)
    return feed


def window(feed: Feed, wanted: History, now_ms: float, since_ms: float = -1000) -> Window:
    return assemble_window(feed.buffers, FRANKA, at(now_ms), "lift it", KINEMATICS, wanted, at(since_ms))


def shown(found: Window) -> list[int]:
    return [int(seen.images["front"][0, 0, 0]) for seen in found.observations]


def refusal(feed: Feed, wanted: History, now_ms: float, since_ms: float = -1000) -> Refused:
    with pytest.raises(Refused) as caught:
        window(feed, wanted, now_ms, since_ms)
    return caught.value


def test_the_times_of_a_window_end_with_the_present() -> None:
    assert wanted_times(T0, history(4, 0.2)) == [at(-600), at(-400), at(-200), T0]


def test_each_observation_is_of_its_own_time() -> None:
    """A camera of 30 Hz, a policy trained at 5: 1000, 800, 600 and 400 ms are frames 30, 24, 18 and 12."""
    wanted = history(4, 0.2)
    found = window(run(wanted, 1000), wanted, 1020)
    assert shown(found) == [12, 18, 24, 30]
    assert found.real.tolist() == [True] * 4
    for seen, seconds in zip(found.observations, [0.4, 0.6, 0.8, 1.0], strict=True):
        assert seen.stamp_ns == at(seconds * 1000)
        assert seen.state["arm/joint_position"][0] == pytest.approx(seconds)
        assert seen.stamps_ns["camera/wrist"] == seen.stamp_ns


def test_the_nearest_frame_stands_for_a_time_between_two() -> None:
    """170 ms before frame 30 (1000 ms) is 830 ms: frame 25 (833) is nearer than 24 (800)."""
    wanted = history(2, 0.17)
    assert shown(window(run(wanted, 1000), wanted, 1020)) == [25, 30]


def test_the_first_one_is_repeated_and_masked_until_there_are_enough() -> None:
    """At 10 Hz, 5 wanted, begun at 700 ms: 500 and 600 ms were not of this episode."""
    wanted = history(5, 0.1)
    found = window(run(wanted, 900, period=100), wanted, 930, since_ms=690)
    assert shown(found) == [7, 7, 7, 8, 9]
    assert found.real.tolist() == [False, False, True, True, True]
    assert found.observations[0] is found.observations[2]


def test_with_refuse_there_is_none_until_there_are_enough() -> None:
    wanted = history(3, 0.1, before="refuse")
    feed = run(wanted, 900, period=100)
    error = refusal(feed, wanted, 930, since_ms=790)
    assert error.reason == "history_short"
    assert "seen for 100 ms, the policy needs 200 ms" in str(error)
    assert shown(window(feed, wanted, 930, since_ms=690)) == [7, 8, 9]


@pytest.mark.parametrize("before", ["repeat_first", "refuse"])
def test_before_any_frame_of_the_episode_the_present_is_the_first(
    before: Literal["repeat_first", "refuse"],
) -> None:
    wanted = history(3, 0.1, before=before)
    feed = run(wanted, 900, period=100)
    if before == "refuse":
        assert refusal(feed, wanted, 930, since_ms=920).reason == "history_short"
    else:
        found = window(feed, wanted, 930, since_ms=920)
        assert shown(found) == [9, 9, 9]
        assert found.real.tolist() == [False, False, True]


def test_a_camera_that_dropped_out_leaves_a_gap_that_is_not_filled() -> None:
    wanted = history(4, 0.1)
    feed = run(wanted, 900, period=50, skip=(650, 700, 750))
    error = refusal(feed, wanted, 930)
    assert error.reason == "history_gap"
    assert "within 33 ms of 200 ms ago" in str(error)


def test_one_lost_frame_is_no_gap() -> None:
    wanted = history(4, 0.2)
    feed = run(wanted, 900, period=30, skip=(690,))
    assert shown(window(feed, wanted, 930)) == [10, 17, 24, 30]


@pytest.mark.parametrize("before", ["repeat_first", "refuse"])
def test_what_a_faster_camera_pushed_out_is_a_gap_and_not_the_beginning(
    before: Literal["repeat_first", "refuse"],
) -> None:
    """The buffers hold as many frames as rate_hz (30) makes in the window's time; at 100 Hz they forget."""
    wanted = history(4, 0.2, before)
    error = refusal(run(wanted, 1000, period=10), wanted, 1020)
    assert error.reason == "history_gap"
    assert "more of them than rate_hz" in str(error)


def test_a_stale_stream_is_refused_as_ever() -> None:
    wanted = history(2, 0.1)
    assert refusal(run(wanted, 900), wanted, 1500).reason == "stale"


def test_without_a_history_no_more_is_kept_than_before() -> None:
    assert ObservationBuffers(FRANKA, ["front"]).cameras["front"].samples.maxlen == FRAMES_KEPT
    assert ObservationBuffers(FRANKA, ["front"], 1.0).cameras["front"].samples.maxlen == FRAMES_KEPT + 30


@settings(max_examples=25, deadline=None)
@given(
    frames=st.integers(2, 6),
    stride_ms=st.integers(70, 300),
    since_ms=st.integers(-200, 1000),
    before=st.sampled_from(["repeat_first", "refuse"]),
)
def test_a_window_never_reaches_back_before_its_episode(
    frames: int, stride_ms: int, since_ms: int, before: Literal["repeat_first", "refuse"]
) -> None:
    wanted = history(frames, stride_ms / 1000, before)
    feed = run(wanted, 1000, period=50)
    needs = (frames - 1) * stride_ms
    try:
        found = window(feed, wanted, 1020, since_ms)
    except Refused as error:
        assert error.reason == "history_short"
        assert before == "refuse"
        assert max(since_ms, 0) + needs > 1000 - 50
        return
    stamps = [seen.stamp_ns for seen in found.observations]
    real = found.real.tolist()
    assert len(stamps) == len(real) == frames
    assert stamps == sorted(stamps)
    assert stamps[-1] == at(1000)
    assert min(stamps) >= min(at(since_ms), at(1000))
    assert real == sorted(real)
    assert real[-1]
    assert all(real) or before == "repeat_first"
    for stamp, time, exists in zip(stamps, wanted_times(at(1000), wanted), real, strict=True):
        assert stamp == stamps[0] if not exists else abs(stamp - time) <= at(34) - T0
