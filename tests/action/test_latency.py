import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.action.latency import WINDOW, ActuationLatency, Latency

MS = 1_000_000


class Arm:
    """An arm that answers what it is sent with a delay and then a first-order lag, in closed form, while each
    joint follows a sine of its own."""

    def __init__(self, delay_s: float, lag_s: float, hz: float, amplitude: float, joints: int = 7) -> None:
        rng = np.random.default_rng(0)
        self.delay_s, self.lag_s, self.amplitude = delay_s, lag_s, amplitude
        self.rate = 2 * np.pi * hz * rng.uniform(0.7, 1.3, joints)
        self.phase = rng.uniform(0, 2 * np.pi, joints)

    def sent(self, t: float) -> np.ndarray:
        return self.amplitude * np.sin(self.rate * t + self.phase)

    def measured(self, t: float) -> np.ndarray:
        gain, turn = 1 / np.hypot(1, self.rate * self.lag_s), np.arctan(self.rate * self.lag_s)
        return self.amplitude * gain * np.sin(self.rate * (t - self.delay_s) + self.phase - turn)


def drive(
    latency: ActuationLatency,
    arm: Arm,
    seconds: float,
    begin: float = 0.0,
    rate_hz: float = 100.0,
    noise: float = 0.0,
    glitch_every: int = 0,
    jitter_s: float = 0.0,
    offset: float = 0.0,
    seed: int = 0,
) -> list[int]:
    """The estimate at each tick; joint states are up to a period old."""
    rng = np.random.default_rng(seed)
    estimates = []
    for tick in range(round(seconds * rate_hz)):
        t = begin + tick / rate_hz
        seen = t - rng.uniform(0, 1 / rate_hz)
        q = arm.measured(seen) + rng.normal(0, 1, len(arm.rate)) * noise + offset
        if glitch_every and tick % glitch_every == 0:
            q[rng.integers(len(q))] += rng.choice([-1.0, 1.0, np.nan, 40.0])
        latency.measured(round(seen * 1e9), q)
        at = t + rng.uniform(0, jitter_s)
        latency.sent(round(at * 1e9), arm.sent(at))
        estimates.append(latency.estimate_ns)
    return estimates


@pytest.mark.complaint("lerobot 4223", "lerobot 2541")
@settings(max_examples=12)
@given(st.floats(0.0, 0.4), st.floats(0.2, 0.8), st.floats(0.05, 0.5), st.sampled_from([0, 300 * MS]))
def test_a_delay_is_found_from_cold_start(delay_s, hz, amplitude, start_ns) -> None:
    latency = ActuationLatency(start_ns)
    drive(latency, Arm(delay_s, 0.0, hz, amplitude), 12.0)
    assert latency.estimate_ns / 1e9 == pytest.approx(delay_s, abs=0.002)


@pytest.mark.parametrize("hz", [0.05, 0.3, 0.5])
def test_a_lag_is_found_as_a_delay_of_its_time_constant(hz: float) -> None:
    latency = ActuationLatency(0)
    drive(latency, Arm(0.0, 0.05, hz, 0.2), 12.0)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.05, abs=0.003)


@pytest.mark.complaint("lerobot 4454")
@pytest.mark.parametrize(
    "disturbance",
    [
        {"noise": 1e-3},
        {"glitch_every": 6},
        {"jitter_s": 0.008},
        {"rate_hz": 30.0},
        {"rate_hz": 500.0},
    ],
    ids=str,
)
def test_noise_glitches_jitter_and_rate_do_not_matter(disturbance) -> None:
    latency = ActuationLatency(0)
    drive(latency, Arm(0.04, 0.05, 0.3, 0.2), 8.0, **disturbance)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.09, abs=0.004)


def test_standing_still_says_nothing() -> None:
    latency = ActuationLatency(70 * MS)
    drive(latency, Arm(0.0, 0.05, 0.3, 0.0), 4.0, noise=1e-3)
    assert latency.estimate_ns == 70 * MS
    drive(latency, Arm(0.0, 0.05, 0.3, 0.2), 10.0, begin=4.0)
    learnt = latency.estimate_ns
    assert learnt != 70 * MS
    drive(latency, Arm(0.0, 0.05, 0.3, 0.0), 4.0, begin=15.0, noise=1e-3)
    assert latency.estimate_ns == learnt


def test_an_arm_that_sags_is_not_late() -> None:
    latency = ActuationLatency(0)
    # All one way: late by 15 mrad / (94 mrad/s) = 160 ms, if the sag were taken for lateness.
    arm = Arm(0.0, 0.05, 0.05, 0.3)
    arm.phase[:] = -np.pi / 2
    drive(latency, arm, 7.0, offset=-0.015)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.05, abs=0.01)


def test_motion_at_constant_velocity_says_nothing() -> None:
    latency = ActuationLatency(70 * MS)
    for tick in range(800):
        latency.measured(tick * 10 * MS - MS, np.full(7, (tick - 1) / 1000.0))
        latency.sent(tick * 10 * MS, np.full(7, tick / 1000.0))
    assert latency.estimate_ns == 70 * MS


def test_an_arm_that_shakes_instead_of_following_says_nothing() -> None:
    latency = ActuationLatency(70 * MS)
    rng = np.random.default_rng(1)
    for tick in range(1000):
        latency.measured(tick * 10 * MS - MS, 0.03 * rng.normal(size=7))
        latency.sent(tick * 10 * MS, np.full(7, 0.06 * np.sin(0.03 * tick)))
    assert latency.estimate_ns == 70 * MS


def test_one_bad_command_or_stamp_does_not_stop_it() -> None:
    latency = ActuationLatency(0)
    arm = Arm(0.1, 0.0, 0.4, 0.3)
    drive(latency, arm, 1.0)
    latency.sent(1000 * MS, np.full(7, np.nan))
    latency.measured(60_000 * MS, arm.measured(1.0))
    drive(latency, arm, 5.0, begin=1.01)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.1, abs=0.005)


@pytest.mark.complaint("lerobot 4580")
def test_the_estimate_drifts_and_never_jumps() -> None:
    latency = ActuationLatency(0)
    estimates = drive(latency, Arm(0.3, 0.0, 0.4, 0.3), 8.0) + drive(
        latency, Arm(0.05, 0.0, 0.4, 0.3), 20.0, begin=8.0
    )
    assert max(estimates) / 1e9 > 0.25
    assert estimates[-1] / 1e9 == pytest.approx(0.05, abs=0.01), "a change is noticed"
    assert np.abs(np.diff(estimates)).max() <= 0.05 * 20 * MS + 1, "5 % of the time that passed"


def test_it_is_bounded_and_a_start_out_of_bounds_too() -> None:
    latency = ActuationLatency(10**12)
    assert latency.estimate_ns == 500 * MS
    assert ActuationLatency(-5).estimate_ns == 0
    drive(latency, Arm(0.8, 0.0, 0.2, 0.3), 5.0)
    assert 0 <= latency.estimate_ns <= 500 * MS


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.integers(-(10**10), 10**10),
            st.floats(allow_nan=True, allow_infinity=True),
            st.sampled_from([7, 7, 7, 2]),
        ),
        max_size=60,
    )
)
def test_no_order_of_events_is_fatal_and_what_follows_is_right(events) -> None:
    latency = ActuationLatency(0)
    for is_sent, stamp_ns, angle, joints in events:
        (latency.sent if is_sent else latency.measured)(stamp_ns, np.full(joints, angle))
        assert 0 <= latency.estimate_ns <= 500 * MS
    latency.clear_history()
    drive(latency, Arm(0.1, 0.0, 0.5, 0.3), 7.0, begin=20.0, rate_hz=50.0)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.1, abs=0.005)


def test_after_the_clock_stepped_back_it_goes_on_learning() -> None:
    latency = ActuationLatency(0)
    drive(latency, Arm(0.1, 0.0, 0.4, 0.3), 3.0, begin=100.0)
    drive(latency, Arm(0.1, 0.0, 0.4, 0.3), 5.0, begin=50.0)
    assert latency.estimate_ns / 1e9 == pytest.approx(0.1, abs=0.005)


def test_it_costs_little_enough_for_every_tick() -> None:
    """Processor time, of the fastest of several runs: others use the machine too."""
    arm = Arm(0.0, 0.05, 0.3, 0.2, joints=14)
    rows = [(round(t * 1e9), arm.sent(t), arm.measured(t)) for t in np.arange(0, 3, 0.01)]
    took = []
    for _ in range(3):
        latency = ActuationLatency(0)
        begin = time.process_time()
        for stamp_ns, sent, measured in rows:
            latency.measured(stamp_ns, measured)
            latency.sent(stamp_ns, sent)
        took.append((time.process_time() - begin) / (2 * len(rows)))
    assert latency.estimate_ns > 0
    assert min(took) < 100e-6, "30 us per call on an idle machine of today"


# Latency


def test_running_latency_is_empty_at_first() -> None:
    assert Latency().typical_ns is None
    assert Latency().high_ns is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 3 * WINDOW))
def test_running_latency_is_the_median_and_p95_of_the_newest(seed, count) -> None:
    values = np.random.default_rng(seed).integers(-(10**9), 10**9, count).tolist()
    latency = Latency()
    for value in values:
        latency.add(value)
    newest = sorted(values[-WINDOW:])
    for share, found in ((0.5, latency.typical_ns), (0.95, latency.high_ns)):
        place = share * (len(newest) - 1)
        assert newest[int(place)] <= found <= newest[int(np.ceil(place))]


def test_outliers_do_not_move_the_running_latency() -> None:
    latency = Latency()
    for value, _ in zip(itertools.cycle([50 * MS] * 24 + [5000 * MS]), range(200), strict=False):
        latency.add(value)
    assert (latency.typical_ns, latency.high_ns) == (50 * MS, 50 * MS)
