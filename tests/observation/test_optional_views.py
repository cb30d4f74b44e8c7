"""A view that the policy declares optional may be missing; no other one ever may."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.observation.feed import FRANKA, HOME, KINEMATICS, PICTURE, T0, Feed, at
from tests.observation.messages import image
from vla_ros.errors import Refused
from vla_ros.observation.assemble import assemble
from vla_ros.observation.history import assemble_window
from vla_ros.policy.manifest_inputs import History
from vla_ros.types import Observation


def without_wrist(feed: Feed, ms: float = 0) -> Feed:
    for time in np.arange(ms - 50, ms + 31, 10):
        feed.joints(time)
    feed.gripper(ms - 20)
    feed.image("front", ms)
    return feed


def see(feed: Feed, ms: float = 40) -> Observation:
    return assemble(feed.buffers, FRANKA, at(ms), "lift it", KINEMATICS)


def nothing(feed: Feed) -> None:
    pass


def stale(feed: Feed) -> None:
    feed.image("wrist", -300)


def skewed(feed: Feed) -> None:
    feed.image("wrist", -100)


def no_stamp(feed: Feed) -> None:
    feed.buffers.image("wrist", image(0, PICTURE), at(0))


def another_size(feed: Feed) -> None:
    feed.image("wrist", 0, PICTURE[:240])


def frozen(feed: Feed) -> None:
    """One and the same picture all the time, while the arm moves."""
    for ms in range(-1000, 1, 30):
        feed.joints(ms, HOME + ms / 1000)
        feed.image("wrist", ms)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (nothing, "incomplete"),
        (stale, "stale"),
        (skewed, "skew"),
        (no_stamp, "no_stamp"),
        (another_size, "changed_size"),
        (frozen, "frozen"),
    ],
)
def test_an_optional_view_is_left_out_where_another_would_be_refused(
    fault: Callable[[Feed], None], reason: str
) -> None:
    for optional in ((), ("wrist",)):
        feed = Feed(optional=optional)
        fault(feed)
        without_wrist(feed)
        if optional:
            seen = see(feed)
            assert set(seen.images) == {"front"}
            assert "camera/wrist" not in seen.stamps_ns
            assert seen.stamp_ns == T0
        else:
            with pytest.raises(Refused) as caught:
                see(feed)
            assert caught.value.reason == reason


def test_an_optional_view_that_is_there_is_shown() -> None:
    seen = see(Feed(optional=("wrist",)).all())
    assert set(seen.images) == {"front", "wrist"}
    assert seen.stamps_ns["camera/wrist"] == T0


def test_an_optional_view_does_not_hold_the_others_back() -> None:
    """Its frame of 0 ms is near enough to the other's of 33; the time is that of the view that is needed."""
    feed = Feed(optional=("wrist",)).all(0, joints_until=80)
    feed.image("front", 33)
    seen = see(feed, 60)
    assert seen.stamp_ns == at(33)
    assert seen.stamps_ns["camera/wrist"] == T0


def test_the_needed_view_is_refused_as_ever() -> None:
    feed = Feed(optional=("wrist",)).all()
    with pytest.raises(Refused) as caught:
        see(feed, 900)
    assert caught.value.reason == "stale"


def test_a_window_is_led_by_the_needed_views() -> None:
    """The wrist camera comes back after 800 ms and is late: only the last of three observations holds it."""
    wanted = History(frames=3, stride_s=0.2, of=["images"], before="refuse")
    feed = Feed(past_s=wanted.past_s, optional=("wrist",))
    for ms in range(-50, 1060, 10):
        feed.joints(ms)
    for ms in range(-50, 1060, 60):
        feed.gripper(ms)
    for ms in range(0, 1001, 40):
        feed.image("front", ms)
        if 900 < ms < 1000:
            feed.image("wrist", ms)
    found = assemble_window(feed.buffers, FRANKA, at(1010), "lift it", KINEMATICS, wanted, at(-1000))
    assert ["wrist" in seen.images for seen in found.observations] == [False, False, True]
    assert [seen.stamp_ns for seen in found.observations] == [at(600), at(800), at(1000)]
