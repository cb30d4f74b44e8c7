"""How far a base drives, and what its cameras should have seen of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from tests.mobile_base import MOBILE
from tests.observation.feed import HOME, PICTURE, at
from tests.observation.test_base_velocity import BaseFeed
from vla_ros.errors import Refused
from vla_ros.observation.assemble import newest_stamp
from vla_ros.observation.driven import Driven, driven, way_at
from vla_ros.observation.ring import MS, Ring


@settings(max_examples=40, deadline=None)
@given(gaps=st.lists(st.integers(1, 200), min_size=1, max_size=12), seed=st.integers(0, 2**31))
def test_the_way_is_the_velocity_s_integral(gaps: list[int], seed: int) -> None:
    ring: Ring[Driven] = Ring("base/odometry", "/odom", 100, 200 * MS, 20)
    times = np.cumsum([0, *gaps])
    velocities = np.random.default_rng(seed).normal(size=(len(times), 2))
    for ms, velocity in zip(times, velocities, strict=True):
        ring.push(at(ms), driven(ring, at(ms), velocity), at(ms))
    for ms, found in zip(times, [way_at(ring, at(ms)) for ms in times], strict=True):
        for axis in range(2):
            expected, _ = quad(
                lambda s, axis=axis: np.interp(s * 1000, times, velocities[:, axis]),
                0.0,
                ms / 1000,
                points=[] if ms == 0 else times[times < ms] / 1000,
                limit=200,
            )
            assert found is not None
            assert found[axis] == pytest.approx(expected, abs=1e-6)
    half = way_at(ring, at((times[0] + times[1]) / 2))
    assert half == pytest.approx(np.asarray(way_at(ring, at(times[1]))) / 2)
    assert way_at(ring, at(-10)) == pytest.approx(np.zeros(2))
    assert way_at(ring, at(times[-1]) + 1) is None


def test_what_was_driven_in_a_gap_is_not_known() -> None:
    ring: Ring[Driven] = Ring("base/odometry", "/odom", 100, 200 * MS, 20)
    for ms in (0, 200, 401, 501):
        ring.push(at(ms), driven(ring, at(ms), np.array([1.0, 0.0])), at(ms))
    way = way_at(ring, at(501))
    assert way is not None
    assert way[0] == pytest.approx(0.3)


def stream(feed: BaseFeed, ms: int, velocity: tuple[float, float], front: np.ndarray) -> None:
    """What all drivers send at a time, in ms and a multiple of 10; the arm is still."""
    feed.joints(ms)
    if ms % 50 == 0:
        feed.gripper(ms)
        feed.odometry(ms, *velocity)
    if ms % 30 == 0:
        feed.image("front", ms, front)
        feed.image("wrist", ms, np.roll(PICTURE, ms))


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize(
    ("velocity", "text"),
    [((0.4, 0.0), "base drove 0."), ((-0.4, 0.0), "base drove 0."), ((0.0, 0.5), "and turned by 0.")],
)
def test_a_picture_that_never_changes_is_frozen_once_the_base_moves(
    told: bool, velocity: tuple[float, float], text: str
) -> None:
    feed = BaseFeed(MOBILE, told=told)
    # Nothing moves: a still scene. What it does at last need not be seen yet.
    for ms in range(0, 1050, 10):
        stream(feed, ms, velocity if ms >= 1000 else (0.0, 0.0), PICTURE)
        if ms > 60:
            newest_stamp(feed.buffers, at(ms))
    for ms in range(1050, 1300, 10):
        stream(feed, ms, velocity, PICTURE)
    with pytest.raises(Refused, match="same picture on /front") as caught:
        newest_stamp(feed.buffers, at(1290))
    assert caught.value.reason == "frozen"
    assert text in str(caught.value)
    # It stays so while the base stands, however long its odometry is kept.
    for ms in range(1300, 3500, 10):
        stream(feed, ms, (0.0, 0.0), PICTURE)
    with pytest.raises(Refused, match="same picture on /front"):
        newest_stamp(feed.buffers, at(3490))
    other = PICTURE.copy()
    other[-1, -1, -1] += 1
    for ms in range(3500, 4000, 10):
        stream(feed, ms, (0.0, 0.0), other)
        if ms > 3600:
            newest_stamp(feed.buffers, at(ms))


@pytest.mark.parametrize("late_ms", [0, 50])
@pytest.mark.parametrize("change", [1.0, 4.0, 1000.0])
def test_a_camera_that_sees_the_base_start_and_brake_is_not_frozen(late_ms: int, change: float) -> None:
    """The pictures hang on where the base is, and are stamped as late as may be; odometry comes at 20 Hz."""
    feed = BaseFeed(told=False)

    def velocity(ms: float) -> float:
        """At 1 m/s between 515 and 1515 ms, which it comes to and from evenly."""
        return float(np.clip(min((ms - 515) / 1000, (1515 - ms) / 1000) * change, 0.0, 1.0))

    way = np.cumsum([velocity(ms) / 1000 for ms in range(3000)])
    for ms in range(0, 3000, 10):
        stream(feed, ms, (velocity(ms), 0.0), np.roll(PICTURE, round(way[max(0, ms - late_ms)] * 1e5)))
        if ms > 60:
            newest_stamp(feed.buffers, at(ms))


def test_a_base_that_drives_while_its_odometry_is_silent_is_not_followed() -> None:
    """Where the policy does not see it, it is not missed; the arm's motion counts as ever."""
    feed = BaseFeed(told=False)
    for ms in range(0, 1500, 10):
        stream(feed, ms, (0.0, 0.0), PICTURE)
        if ms == 500:
            feed.odometry = lambda *_: None  # type: ignore[method-assign]
        if ms > 60:
            newest_stamp(feed.buffers, at(ms))
    for ms in range(1500, 2000, 10):
        feed.joints(ms, HOME + 0.2 * (ms - 1500) / 500)
        if ms % 30 == 0:
            feed.gripper(ms)
            feed.image("front", ms)
            feed.image("wrist", ms, np.roll(PICTURE, ms))
    with pytest.raises(Refused, match="though the arm moved"):
        newest_stamp(feed.buffers, at(1990))
