"""A base's velocity within its limits whatever is asked, and what its odometry is believed to say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.robot.config import BaseLimits, MobileBase
from vla_ros.safety.base import BaseLimiter, BaseMeasured, BaseWatch
from vla_ros.types import FloatArray

DT, PERIOD_NS, MS = 0.02, 20_000_000, 1_000_000
MOST, HARDEST = np.array([0.5, 0.9]), np.array([0.6, 2.0])
LIMITS = BaseLimits(velocity=(0.5, 0.9), acceleration=(0.6, 2.0))
BASE = MobileBase.model_validate(
    {
        "odometry": {"topic": "/odom", "rate_hz": 20, "max_age_ms": 200},
        "limits": LIMITS,
        "twist": {"topic": "/cmd_vel"},
    }
)
NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(-1.5, 1.5)
WANTED = st.none() | st.tuples(NUMBERS, NUMBERS).map(np.array)


def limiter() -> BaseLimiter:
    return BaseLimiter(LIMITS, DT)


class Ticked:
    """A limiter that is ticked at its period."""

    def __init__(self) -> None:
        self.limiter = limiter()
        self.steady_ns = 10**12
        self.sent: list[FloatArray] = [np.zeros(2)]

    def tick(self, wanted: FloatArray | None, measured: FloatArray | None = None) -> tuple[str, ...]:
        self.steady_ns += PERIOD_NS
        self.limiter.tick(self.steady_ns, measured)
        driven = self.limiter.follow(wanted)
        self.sent.append(driven.sent)
        return driven.interventions


@given(st.lists(st.tuples(WANTED, st.booleans()), min_size=1, max_size=60))
def test_nothing_that_is_asked_breaks_a_limit(asked: list[tuple[FloatArray | None, bool]]) -> None:
    """undone: the tick is not sent; the driver keeps what it was sent before."""
    ticked = Ticked()
    for wanted, undone in asked:
        ticked.tick(wanted)
        if undone:
            ticked.limiter.undo()
            ticked.sent.pop()
    sent = np.array(ticked.sent)
    assert np.isfinite(sent).all()
    assert (np.abs(sent) <= MOST).all()
    assert (np.abs(np.diff(sent, axis=0)) <= HARDEST * DT * (1 + 1e-9)).all()


@given(st.lists(st.tuples(NUMBERS, NUMBERS).map(np.array), min_size=1, max_size=60))
def test_it_always_comes_to_a_stand_in_time_and_on_its_arc(asked: list[FloatArray]) -> None:
    ticked = Ticked()
    for wanted in asked:
        ticked.tick(wanted)
    begin = ticked.limiter.velocity
    # The axis that needs longer decides for both.
    ticks = math.ceil(float((np.abs(begin) / (HARDEST * DT)).max()) - 1e-9)
    for _ in range(max(ticks, 1)):
        ticked.tick(None)
        velocity = ticked.sent[-1]
        assert velocity[0] * begin[1] == pytest.approx(velocity[1] * begin[0], abs=1e-12)
    assert ticked.limiter.at_rest
    assert (np.abs(np.diff(ticked.sent, axis=0)) <= HARDEST * DT * (1 + 1e-9)).all()


def test_a_velocity_within_the_limits_is_reached_exactly_and_kept_without_a_word() -> None:
    ticked = Ticked()
    wanted = np.array([0.31, -0.47])
    words = [ticked.tick(wanted) for _ in range(60)]
    # 0.31 m/s at 0.6 m/s^2 take 26 ticks of 20 ms.
    assert words[:25] == [("acceleration",)] * 25 and words[26:] == [()] * 34
    assert np.array_equal(ticked.sent[-1], wanted)


def test_a_velocity_beyond_the_limits_is_cut_off_and_said() -> None:
    ticked = Ticked()
    words = [ticked.tick(np.array([2.0, 0.1])) for _ in range(60)]
    assert words[0] == ("velocity", "acceleration") and words[-1] == ("velocity",)
    assert ticked.sent[-1].tolist() == [0.5, 0.1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_slows_it_down(bad: float) -> None:
    ticked = Ticked()
    for _ in range(60):
        ticked.tick(np.array([0.3, 0.0]))
    assert ticked.tick(np.array([0.3, bad])) == ("nan",)
    assert ticked.sent[-1][0] == pytest.approx(0.3 - 0.6 * DT)


def driving(silent_ms: int, measured: FloatArray | None, wanted: FloatArray | None = None) -> FloatArray:
    """What is sent first after a silence of a base that was sent 0.4 m/s and -0.6 rad/s."""
    ticked = Ticked()
    for _ in range(60):
        ticked.tick(np.array([0.4, -0.6]))
    ticked.steady_ns += silent_ms * MS
    ticked.tick(wanted, measured)
    return ticked.sent[-1]


SLOWER = np.array([0.4, -0.6]) * (1 - 1 / 34)  # 0.4 m/s at 0.6 m/s^2: 34 ticks


def test_ticks_that_were_missed_were_driven_on_with_what_was_sent_last() -> None:
    assert driving(100, np.zeros(2)) == pytest.approx(SLOWER)


@pytest.mark.parametrize(
    ("measured", "goes_on_from"),
    [
        (np.array([0.4, -0.6]), [0.4, -0.6]),  # the driver is patient
        (np.array([0.45, -0.7]), [0.4, -0.6]),  # never faster than it was sent
        (np.array([0.1, 0.0]), [0.1, 0.0]),
        (np.array([-0.2, 0.3]), [0.0, 0.0]),
        (None, [0.0, 0.0]),
    ],
)
def test_after_a_longer_silence_it_goes_on_from_where_the_base_is_slower(
    measured: FloatArray | None, goes_on_from: list[float]
) -> None:
    # 0.4 m/s and 0.012 more are beyond what would be sent: exactly from there.
    sent = driving(600, measured, np.array([0.5, -0.9]))
    assert sent == pytest.approx([goes_on_from[0] + 0.6 * DT, goes_on_from[1] - 2.0 * DT])


def test_ticks_that_were_never_sent_are_a_silence_too() -> None:
    ticked = Ticked()
    for _ in range(60):
        ticked.tick(np.array([0.4, 0.0]))
    for _ in range(12):
        ticked.tick(np.array([0.4, 0.0]), np.array([0.4, 0.0]))
        ticked.limiter.undo()
    ticked.tick(np.array([0.4, 0.0]), np.zeros(2))
    assert ticked.sent[-1][0] == pytest.approx(0.6 * DT)


class Watched:
    """A watch over a base that is sent and does something, odometry at 20 Hz."""

    def __init__(self) -> None:
        self.watch = BaseWatch(BASE)
        self.now_ns = 10**15

    def says(self, seconds: float, sent: FloatArray | float, does: FloatArray | float) -> list[str]:
        """What is said of a base that is sent and does such a velocity, constant or over time [N, 2]."""
        ticks = round(seconds / DT)
        sent, does = (np.broadcast_to(value, (ticks, 2)) for value in (sent, does))
        texts = []
        for tick in range(ticks):
            self.now_ns += PERIOD_NS
            if tick % 3 == 0:
                self.watch.take(BaseMeasured(does[tick], self.now_ns))
            text = self.watch.strays(sent[tick], self.now_ns)
            if text:
                texts.append(text)
        return texts


def test_a_base_that_does_not_do_what_it_is_sent_is_told_within_two_seconds() -> None:
    assert (
        Watched()
        .says(2.0, np.array([0.3, 0.0]), 0.0)[0]
        .startswith(
            "the base is at 0.00 m/s, 0.00 rad/s and was sent 0.30 m/s, 0.00 rad/s; are its motors off"
        )
    )
    assert Watched().says(2.0, np.array([0.0, -0.2]), 0.0)
    assert Watched().says(2.0, 0.0, np.array([0.1, 0.0])), "it rolls though it is to stand"
    assert Watched().says(2.0, np.array([0.3, 0.0]), np.array([-0.3, 0.0]))


def test_a_base_that_is_slow_to_follow_is_not_told() -> None:
    time = np.arange(0.0, 12.0, DT)
    for frequency in (0.05, 0.2, 1.0):
        for lag in (0.1, 0.3):
            sent = np.column_stack([MOST[i] * np.sin(2 * np.pi * frequency * time) for i in (0, 1)])
            does = np.column_stack([MOST[i] * np.sin(2 * np.pi * frequency * (time - lag)) for i in (0, 1)])
            assert Watched().says(12.0, sent, does) == [], (frequency, lag)


def test_neither_a_bump_nor_noise_is_told() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.1, (500, 2)) * MOST
    assert Watched().says(10.0, np.array([0.3, 0.2]), np.array([0.3, 0.2]) + noise) == []
    does = np.tile([0.3, 0.2], (200, 1))
    does[60:90] = 0.0
    assert Watched().says(4.0, np.array([0.3, 0.2]), does) == []


def test_a_base_stands_while_it_is_slower_than_a_tenth_of_its_limits() -> None:
    watch = BaseWatch(BASE)
    assert watch.moves(0) == "", "not known"
    for velocity, moves in (([0.04, -0.08], False), ([0.06, 0.0], True), ([0.0, -0.1], True)):
        watch.take(BaseMeasured(np.array(velocity), MS))
        assert bool(watch.moves(MS)) is moves
    assert watch.moves(MS).startswith("the base moves at 0.00 m/s, -0.10 rad/s")
    assert watch.moves(500 * MS) == "", "not known any more"


def test_what_was_measured_before_a_driver_s_patience_was_over_is_not_what_the_base_does_now() -> None:
    patient = BASE.odometry.model_copy(update={"max_age_ms": 1500.0})
    watch = BaseWatch(BASE.model_copy(update={"odometry": patient}))
    assert watch.lately(0) is None
    watch.take(BaseMeasured(np.ones(2), 1000 * MS))
    assert watch.lately(1200 * MS) is not None
    assert watch.lately(1201 * MS) is None and watch.velocity(1201 * MS) is not None


def test_odometry_grows_old() -> None:
    watch = BaseWatch(BASE)
    assert watch.stale(0) == "base: no odometry came yet; is /odom being published?"
    watch.take(BaseMeasured(np.ones(2), 1000 * MS))
    watch.take(None)
    assert watch.stale(1200 * MS) == ""
    assert watch.stale(1201 * MS) == "base: the newest odometry: 201 ms old; is /odom being published?"
    assert watch.stale(800 * MS), "from the future"
    assert watch.velocity(1201 * MS) is None
