"""An arm that stands still though its commands move on, told from one that is late, soft, stiff or pushed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.safety.plant import Bench
from vla_ros.robot.config import JointLimits
from vla_ros.safety import modes
from vla_ros.safety.following import PATIENCE_NS, SPAN_NS, TRAVEL, FollowWatch
from vla_ros.safety.joints import Measured
from vla_ros.safety.limits import JointLimiter
from vla_ros.types import FloatArray

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
PERIOD_MS = 10
NAMES = ("waist", "shoulder", "wrist")
LIMITS = JointLimits(
    position=[(-3.0, 3.0)] * 3, velocity=[2.0, 2.0, 4.0], acceleration=[10.0, 10.0, 20.0], jerk=[5000.0] * 3
)
# From a joint's command having gone TRAVEL further: up to two spans until one lies beyond wholly, the dead
# time that is let pass, and some ticks.
WITHIN_MS = (2 * SPAN_NS + PATIENCE_NS) // MS + 5 * PERIOD_MS


@dataclass(frozen=True)
class Arm:
    """A healthy arm. lag_s: of the first order; dead_ms: before it; sticks: half the width of its play, rad;
    speed: most, rad/s; sags: rad; softness: rad less per rad; states_ms: between joint states; late_ms: their
    way."""

    lag_s: float = 0.0
    dead_ms: int = 0
    sticks: float = 0.0
    speed: float = 10.0
    sags: float = 0.0
    softness: float = 0.0
    states_ms: int = 10
    late_ms: int = 0


def simulate(arm: Arm, sent: FloatArray) -> list[Measured]:
    """The newest joint states at each of the ticks in which [N, 3] was sent."""
    dead = arm.dead_ms // PERIOD_MS
    pulled = sent[0].copy()
    place = sent[0].copy()
    places = []
    for tick in range(len(sent)):
        way = sent[max(tick - dead, 0)] - pulled
        share = 1.0 if arm.lag_s == 0.0 else 1.0 - np.exp(-PERIOD_MS / 1e3 / arm.lag_s)
        pulled = pulled + np.clip(share * way, -arm.speed * PERIOD_MS / 1e3, arm.speed * PERIOD_MS / 1e3)
        place = np.clip(place, pulled - arm.sticks, pulled + arm.sticks)
        places.append(place * (1.0 - arm.softness) - arm.sags)
    every, late = max(arm.states_ms // PERIOD_MS, 1), arm.late_ms // PERIOD_MS
    stamps = [max((tick - late) // every * every, 0) for tick in range(len(sent))]
    return [Measured(places[stamp], START_NS + stamp * PERIOD_MS * MS) for stamp in stamps]


def followed(wanted: FloatArray) -> FloatArray:
    """What is sent for targets [N, 3]: as fast as the limits allow, and from rest."""
    limiter = JointLimiter(LIMITS, PERIOD_MS / 1e3)
    limiter.reset(wanted[0])
    sent = []
    for target in wanted:
        limiter.commit(limiter.plan(target, np.zeros(3)))
        sent.append(limiter.motion().q[0])
    return np.array(sent)


def first_told(sent: FloatArray, measured: list[Measured]) -> int | None:
    """The tick in which the watch says that the arm stands, None if never."""
    watch = FollowWatch(NAMES)
    for tick, (q, newest) in enumerate(zip(sent, measured, strict=True)):
        watch.look(START_NS + tick * PERIOD_MS * MS, q, newest)
        if watch.still:
            return tick
    return None


def frozen(sent: FloatArray, since: int, arm: Arm | None = None) -> list[Measured]:
    """An arm that follows until tick `since` and says with new stamps that it is where it was then."""
    moving = simulate(arm or Arm(0.04), sent)
    last = moving[since]
    return [
        each if tick <= since else Measured(last.q, START_NS + tick * PERIOD_MS * MS)
        for tick, each in enumerate(moving)
    ]


@st.composite
def targets(draw: st.DrawFn, seconds: float = 8.0) -> FloatArray:
    """Chunks as policies make them: places held, ways at constant speed, waves, and jumps back and forth."""
    seed = draw(st.integers(0, 2**32 - 1))
    reach = draw(st.sampled_from([0.03, 0.1, 0.3, 1.0]))
    longest = draw(st.sampled_from([0.06, 0.2, 0.5, 2.0]))
    rng = np.random.default_rng(seed)
    rows: list[FloatArray] = [np.zeros((1, 3))]
    count = 1
    while count < seconds * 1e3 / PERIOD_MS:
        ticks = max(int(rng.uniform(0.2, 1.0) * longest * 1e3 / PERIOD_MS), 1)
        here, there = rows[-1][-1], rng.uniform(-reach, reach, 3) * (rng.random(3) < 0.7)
        kind = rng.integers(0, 4)
        if kind == 0:
            rows.append(np.tile(there, (ticks, 1)))
        elif kind == 1:
            rows.append(np.linspace(here, there, ticks + 1)[1:])
        elif kind == 2:
            rows.append(np.tile(here, (ticks, 1)))
        else:
            times = np.arange(1, 5 * ticks + 1)[:, None] * PERIOD_MS / 1e3
            rows.append(here + 0.5 * reach * np.sin(2 * np.pi * rng.uniform(0.2, 6.0) * times) * np.ones(3))
        count += len(rows[-1])
    return np.concatenate(rows)[: round(seconds * 1e3 / PERIOD_MS)]


# What is to be had: fast and slow drivers; Dynamixels that stick by 0.01 rad, and sag; joint states at 30 Hz
# that were on their way for a tenth of a second.
late = st.builds(
    Arm, st.floats(0.04, 0.3), st.integers(0, 300), st.floats(0, 0.009), st.floats(0.5, 4.0),
    st.floats(-0.3, 0.3), st.floats(0, 0.3), st.sampled_from([1, 10, 20, 30]), st.sampled_from([0, 30]),
)  # fmt: skip
stiff = st.builds(
    Arm, st.floats(0, 0.08), st.integers(0, 300), st.floats(0.0, 0.03), st.floats(0.5, 4.0),
    st.floats(-0.3, 0.3), st.just(0.0), st.sampled_from([1, 10, 30, 70]), st.sampled_from([0, 100]),
)  # fmt: skip


@given(st.one_of(late, stiff), targets())
@settings(max_examples=150, deadline=None)
def test_an_arm_that_follows_is_never_accused(arm: Arm, wanted: FloatArray) -> None:
    sent = followed(wanted)
    told = first_told(sent, simulate(arm, sent))
    assert told is None, f"after {told} ticks"


@pytest.mark.parametrize("lag_s", [0.04, 0.3, 0.5])
@pytest.mark.parametrize("period_ms", [60, 120, 240, 400, 500, 520, 700, 1500])
def test_whoever_cannot_follow_every_turn_is_not_accused(lag_s: float, period_ms: int) -> None:
    """A policy of two minds sends the arm back and forth faster than it can go."""
    ticks = np.arange(1500)
    wanted = np.where((ticks * PERIOD_MS // (period_ms // 2)) % 2 == 0, 0.06, -0.06)
    sent = np.tile(wanted[:, None], 3)
    assert np.ptp(sent) > TRAVEL
    assert first_told(sent, simulate(Arm(lag_s, 300), sent)) is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_short_turns_back_are_not_counted_in_either_direction(sign: float) -> None:
    """Longer than a span there, too short back for a slow arm to answer."""
    wanted = np.where(np.arange(1500) * PERIOD_MS % 700 < 640, 0.0, sign * 0.12)
    sent = np.tile(wanted[:, None], 3)
    assert first_told(sent, simulate(Arm(0.5), sent)) is None


@given(
    st.floats(0.05, 2.0), st.sampled_from([-1.0, 1.0]), st.integers(0, 2), st.integers(0, 120),
    st.sampled_from([0.0, 0.005]), st.booleans(),
)  # fmt: skip
@settings(max_examples=80, deadline=None)
def test_an_arm_that_stands_is_told_soon_after_it_was_sent_on(
    speed: float, way: float, joint: int, since: int, noise: float, stays: bool
) -> None:
    """However slow, in either direction, in the middle of a motion or from rest."""
    times = np.arange(1200) * PERIOD_MS / 1e3
    begins = 0.4
    sent = np.zeros((len(times), 3))
    travel = way * speed * np.maximum(times - begins, 0.0)
    sent[:, joint] = np.clip(travel, -0.6, 0.6) if stays else travel
    # What it is sent in the first two spans may not count.
    counted = since + 2 * SPAN_NS // MS // PERIOD_MS + 1
    beyond = np.abs(sent[:, joint] - sent[counted, joint]) >= TRAVEL
    beyond[:counted] = False
    assume(beyond.any())
    # Noise may bring the last of a motion to be seen late: only of an arm that stood before.
    noise *= since <= begins * 1e3 / PERIOD_MS
    rng = np.random.default_rng(since)
    measured = [
        Measured(each.q + rng.uniform(-noise, noise, 3), each.stamp_ns) for each in frozen(sent, since, Arm())
    ]
    told = first_told(sent, measured)
    gone = int(np.argmax(beyond))
    assert told is not None and told <= gone + WITHIN_MS // PERIOD_MS
    assert np.ptp(sent[since : told + 1, joint]) >= TRAVEL


@given(targets(20.0), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_an_arm_that_stands_is_told_whatever_it_is_sent_next(wanted: FloatArray, since: int) -> None:
    sent = followed(wanted)
    told = first_told(sent, frozen(sent, since))
    # By other means: the first half second that lies beyond the first half second of standing.
    long = 2 * SPAN_NS // MS // PERIOD_MS + 2
    first = sent[since + 1 : since + 1 + long]
    windows = np.lib.stride_tricks.sliding_window_view(sent[since + len(first) :], long, axis=0)
    further = (windows.min(axis=2) >= first.max(axis=0) + TRAVEL) | (
        windows.max(axis=2) <= first.min(axis=0) - TRAVEL
    )
    rows = np.flatnonzero(further.any(axis=1))
    assume(len(rows))
    due = since + len(first) + int(rows[0]) + WITHIN_MS // PERIOD_MS
    assume(due < len(sent))
    assert told is not None and told <= due


def test_an_arm_without_torque_is_told_once_it_has_dropped() -> None:
    times = np.arange(800) * PERIOD_MS / 1e3
    sent = np.column_stack([0.2 * np.minimum(times, 3.0), np.zeros(800), 0.3 * np.sin(times)])
    dropped = np.array([0.0, -0.4, 0.1])
    measured = [Measured(dropped * (1 - np.exp(-t / 0.3)), START_NS + round(t * 1e9)) for t in times]
    told = first_told(sent, measured)
    assert told is not None and 100 < told < 280


def test_who_pushes_an_arm_or_blocks_one_joint_accuses_nobody() -> None:
    times = np.arange(1000) * PERIOD_MS / 1e3
    sent = 0.1 * times[:, None] * np.ones(3)
    pushed = [Measured(np.array([-0.1 * t, 0.0, 0.0]), START_NS + round(t * 1e9)) for t in times]
    assert first_told(sent, pushed) is None
    blocked = [Measured(np.array([0.0, 0.0, 0.1 * t]), START_NS + round(t * 1e9)) for t in times]
    assert first_told(sent, blocked) is None


def test_what_was_not_measured_accuses_nobody() -> None:
    """Joint states that stop are another watchdog's, and meanwhile the arm may have gone and come."""
    ticks = np.arange(600)
    sent = np.where((ticks > 100) & (ticks < 190), 0.4, 0.0)[:, None] * np.ones(3)
    still = [Measured(np.zeros(3), START_NS + int(tick) * PERIOD_MS * MS) for tick in ticks]
    assert first_told(sent, still) is not None
    silent = [still[90] if 90 < tick < 200 else still[tick] for tick in ticks]
    assert first_told(sent, silent) is None
    never_again = [still[min(tick, 90)] for tick in ticks]
    assert first_told(sent, never_again) is None


def test_nothing_is_told_while_time_stands_still_and_it_begins_anew_when_it_goes_back() -> None:
    watch = FollowWatch(NAMES)
    for q in np.linspace(0, 0.4, 500):
        watch.look(START_NS, np.full(3, q), Measured(np.zeros(3), START_NS))
    assert watch.still == ""
    for tick in range(300):
        now_ns = START_NS + tick * PERIOD_MS * MS
        watch.look(now_ns, np.full(3, 0.002 * tick), Measured(np.zeros(3), now_ns))
    assert "waist was sent 0." in watch.still and "no joint of the arm moved" in watch.still
    watch.look(START_NS, np.zeros(3), Measured(np.zeros(3), START_NS))
    assert watch.still == ""


def test_at_a_kilohertz_it_is_told_as_soon() -> None:
    watch = FollowWatch(NAMES)
    told = None
    for ms in range(3000):
        now_ns = START_NS + ms * MS
        watch.look(now_ns, np.full(3, 0.2 * ms / 1e3), Measured(np.zeros(3), now_ns))
        if watch.still and told is None:
            told = ms
    assert told is not None and told >= TRAVEL / 0.2 * 1e3 + PATIENCE_NS / MS
    assert told <= TRAVEL / 0.2 * 1e3 + SPAN_NS / MS + WITHIN_MS


def _slow_chunk(bench: Bench, shift: float) -> None:
    """4 s in which one joint goes so far, rad."""
    rows = np.linspace(0.0, shift, 21)[1:, None] * np.eye(7)[5]
    bench.add(bench.joint_chunk(bench.q + rows, dt_ms=200))


def test_an_arm_that_stands_is_an_emergency_stop_long_before_it_is_far_from_its_command() -> None:
    bench = Bench()
    bench.start()
    _slow_chunk(bench, 0.4)
    bench.tick(100)
    assert bench.supervisor.source == "policy"
    bench.follows = False
    for _ in range(400):
        bench.tick()
        if bench.supervisor.mode == modes.ESTOP:
            break
    assert np.max(np.abs(bench.sent[-1] - bench.q)) < 0.25
    reason = bench.supervisor.estop_reason
    assert reason.startswith("not_following: arm: fr3_joint6 was sent 0.1"), reason
    assert "no joint of the arm moved though joint states come; is the driver listening" in reason
    bench.tick(50)
    assert bench.commands[-1] is None, "nor is it sent there when the driver listens again"
    bench.follows = True
    bench.request("reset")
    bench.request("start")
    _slow_chunk(bench, 0.4)
    bench.tick(380)
    assert bench.supervisor.source == "policy", "it begins anew"
    bench.assert_limits()


def test_an_arm_that_is_driven_away_is_noticed_by_how_far_it_is() -> None:
    bench = Bench()
    bench.start()
    _slow_chunk(bench, 0.4)
    bench.tick(50)
    bench.follows = False
    for _ in range(200):
        bench.q = bench.q - 0.01 * np.eye(7)[5]
        bench.tick()
        if bench.supervisor.mode == modes.ESTOP:
            break
    assert "fr3_joint6 is 0.5" in bench.supervisor.estop_reason
    assert "rad from its command" in bench.supervisor.estop_reason


def test_commands_that_were_not_sent_are_not_counted() -> None:
    bench = Bench(follows=False)
    bench.start()
    _slow_chunk(bench, 0.4)
    for _ in range(380):
        bench.tick()
        bench.supervisor.unsent(bench.steady_ns)
    assert "not_following" not in bench.reasons()


def test_what_was_sent_before_a_stop_is_not_counted() -> None:
    """The arm stands, but neither stream sends it far: in between somebody may have brought it back."""
    bench = Bench(follows=False)
    for shift in (0.08, -0.08):
        bench.start()
        _slow_chunk(bench, shift)
        bench.tick(420)
        assert np.max(np.abs(bench.sent[-1] - bench.q)) > 0.07
        bench.request("stop")
        for _ in range(100):
            bench.tick()
            if bench.supervisor.mode == modes.IDLE:
                break
        assert bench.supervisor.mode == modes.IDLE
    assert "not_following" not in bench.reasons()


def test_a_hold_is_left_alone_and_what_follows_it_is_not() -> None:
    held = Bench(follows=False)
    held.start()
    _slow_chunk(held, 0.6)
    held.tick(130)
    held.supervisor.lose("policy_gone", "the policy is gone", held.now_ns)
    held.tick(100)
    assert held.supervisor.mode == modes.WAITING, held.reasons()
    _slow_chunk(held, 0.1)
    held.tick(30)
    assert "not_following" in held.reasons()
