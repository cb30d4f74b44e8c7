"""What a Franka's motors are sent every millisecond stays within what the robot checks, whatever is asked for
and whatever becomes of the messages on the way: otherwise it stops with a reflex."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from tests.safety.libfranka import broken
from tests.safety.line import ARM, MS, START_NS, Line
from tests.safety.plant import Bench
from vla_ros.safety.limits import JointLimiter
from vla_ros.sim.controllers import TrajectoryPoint
from vla_ros.types import FloatArray

pytest.importorskip("trajectory_msgs.msg", reason="needs the ROS 2 message packages")

HOME = np.array(ARM.home)
SETTLED = 0.15
Wish = Callable[[float], FloatArray | None]
Late = Callable[[], int | None]

pytestmark = pytest.mark.complaint(
    "franka_ros2 61", "franka_ros2 91", "franka_ros2 127", "franka_ros2 168", "franka_ros2 174"
)


def drive(
    wish: Wish,
    seconds: float = 3.0,
    late: Late = lambda: 0,
    woken: Callable[[], float] = lambda: 0.0,
    missed: Callable[[float], bool] = lambda _: False,
    held_up: bool = False,
    rate_hz: int = 100,
) -> FloatArray:
    """What the motors are sent, [N, 7], when the joints are wanted at wish(seconds) (None: to stop).

    woken: how late the loop wakes up, s; missed: whether it misses the tick at `seconds` altogether. held_up:
    the first of those it has worked out when it is too late to send it.
    """
    line = Line(late)
    limiter = JointLimiter(ARM.limits, 1 / rate_hz)
    limiter.reset(HOME)
    before = None
    for tick in range(int(seconds * rate_hz)):
        time = tick / rate_hz
        now = START_NS + round((time + woken()) * 1e9)
        line.run_until(now // MS * MS)
        late_now, was_late = missed(time), missed(time - 1 / rate_hz)
        if late_now and (was_late or not held_up):
            before = None
            continue
        limiter.tick(now)
        target = wish(time) if time > SETTLED else None
        if target is None:
            step = limiter.plan_stop()
        else:
            step = limiter.plan(target, np.zeros(7) if before is None else (target - before) * rate_hz)
        before = target
        limiter.commit(step)
        if late_now:
            limiter.undo()
            before = None
            continue
        line.say(limiter.motion(), now)
    line.run_until(line.now_ns + 1500 * MS)
    sent = np.array(line.sent)
    assert np.abs(np.diff(sent[-100:], axis=0)).max() < 1e-12, "it came to rest"
    assert np.abs(sent - HOME).max() > 0.05, "it moved"
    return sent


def smooth(time: float) -> FloatArray:
    """Up to some 0.8 of the velocities and accelerations allowed."""
    return HOME + 0.25 * np.sin(3.5 * (time - SETTLED)) * np.array([1, -1, 1, -1, 1.2, -1.2, 1.2])


def noisy(time: float) -> FloatArray:
    noise = np.random.default_rng(round(time * 1e4)).normal(scale=0.02, size=7)
    return smooth(time) + noise


def alternating(time: float) -> FloatArray:
    """Everything is turned round again and again, each joint at its own moment, at times beyond its limit."""
    turns = np.floor(time / 0.13 + np.arange(7) / 7) % 2
    return HOME + np.where(turns, 1, -1) * (0.5 if time < 1.5 else 9.0)


def to_the_ends(time: float) -> FloatArray:
    return HOME + np.where(np.floor(time / 2 + np.arange(7) / 3) % 2, 9.0, -9.0)


WISHES = [smooth, noisy, alternating, to_the_ends]


def up_to_3_ms(seed: int, lost: float = 0.0) -> Late:
    """Each message late by 0..3 ms, and one in 1 / lost of them lost, never two in a row."""
    rng = np.random.default_rng(seed)

    def fates() -> Iterator[int | None]:
        while True:
            yield int(rng.uniform(0, 3) * MS)
            if rng.random() < lost:
                yield None

    return fates().__next__


@pytest.mark.parametrize("wish", WISHES)
def test_whatever_is_wanted(wish: Wish) -> None:
    assert broken(drive(wish, 6.0 if wish is to_the_ends else 3.0)) == {}


@pytest.mark.parametrize("rate_hz", [50, 100, 250])
@pytest.mark.parametrize("wish", [smooth, alternating])
def test_messages_that_are_late_or_lost(wish: Wish, rate_hz: int) -> None:
    assert broken(drive(wish, late=up_to_3_ms(1, lost=0.2), rate_hz=rate_hz)) == {}


@pytest.mark.parametrize("wish", [smooth, alternating])
def test_a_loop_that_wakes_up_late(wish: Wish) -> None:
    rng = np.random.default_rng(2)
    sent = drive(wish, late=up_to_3_ms(3), woken=lambda: rng.exponential(0.001) % 0.005)
    assert broken(sent) == {}


@pytest.mark.parametrize("held_up", [False, True])
@pytest.mark.parametrize("ticks", [1, 4, 40])
def test_a_loop_that_misses_ticks(ticks: int, held_up: bool) -> None:
    sent = drive(
        alternating,
        late=up_to_3_ms(4),
        missed=lambda time: time > 0.5 and time % 0.5 < ticks / 100 - 1e-6,
        held_up=held_up,
    )
    assert broken(sent) == {}


@pytest.mark.parametrize("wish", [smooth, alternating])
@pytest.mark.parametrize("end", [0.8, 1.13, 1.7])
def test_a_stop_in_full_motion(wish: Wish, end: float) -> None:
    """A hold and an emergency stop are the same: the joints brake together."""
    sent = drive(lambda time: wish(time) if not end < time < end + 0.6 else None, late=up_to_3_ms(5))
    assert broken(sent) == {}
    held = sent[round((end + 0.45) * 1000) : round((end + 0.6) * 1000)]
    assert np.abs(np.diff(held, axis=0)).max() < 1e-9


@pytest.mark.parametrize("wish", [smooth, alternating])
@pytest.mark.parametrize("end", [0.8, 1.13, 1.7])
def test_the_control_process_is_killed_in_full_motion(wish: Wish, end: float) -> None:
    """The stream breaks off: what was said last brings the arm to rest, and soon."""
    sent = drive(wish, seconds=end, late=up_to_3_ms(6))
    assert broken(sent) == {}
    assert np.abs(np.diff(sent[round((end + 0.45) * 1000) :], axis=0)).max() < 1e-9


def control(
    chunks: Callable[[int], FloatArray],
    requests: dict[int, str],
    mode: str,
    end: int = 300,
    off: float = 0.0,
) -> tuple[Bench, FloatArray]:
    """The whole control loop: ten joint targets 50 ms apart every 20 ticks, some of them late; messages late.

    chunks: targets [10, 7] of the chunk at a tick, as offsets from home; requests: {tick: what is asked for};
    off: by how much the controller's own reference is off the measured joints before, rad.
    """
    bench, line = Bench(mode), Line(up_to_3_ms(7, lost=0.1))
    line.controller.reset(bench.q + off)
    bench.start()
    for tick in range(end):
        if tick % 20 == 0 and bench.supervisor.mode in ("waiting", "policy"):
            bench.add(bench.joint_chunk(HOME + chunks(tick), dt_ms=50))
        if tick in requests:
            bench.request(requests[tick])
        line.run_until(bench.now_ns + bench.period_ns)
        command = bench.tick()
        if command is not None:
            line.say(command.motion, command.stamp_ns)
    line.run_until(line.now_ns + 1000 * MS)
    return bench, np.array(line.sent)


def wave(tick: int) -> FloatArray:
    time = (tick + 5 * np.arange(1, 11)) / 100
    return 0.25 * np.sin(2.5 * time)[:, None] * np.array([1, -1, 1, -1, 1, -1, 1])


def rough(tick: int) -> FloatArray:
    return wave(tick) + np.random.default_rng(tick).normal(scale=0.05, size=(10, 7))


def hostile(tick: int) -> FloatArray:
    return np.tile(np.where((np.arange(7) + tick // 20) % 2, 0.22, -0.22), (10, 1))


@pytest.mark.parametrize("mode", ["newest", "crossfade", "ensemble", "sync"])
@pytest.mark.parametrize("chunks", [wave, rough, hostile])
def test_chunks_of_every_kind_in_every_mode(chunks: Callable[[int], FloatArray], mode: str) -> None:
    bench, sent = control(chunks, {}, mode)
    assert broken(sent) == {}
    assert np.abs(sent - HOME).max() > 0.05, bench.reasons()


def test_a_start_with_the_controller_a_little_off_the_joints_that_are_measured() -> None:
    """As a controller is that carries a load, or that has only just been started."""
    _, sent = control(wave, {}, "newest", off=0.018)
    assert broken(sent) == {}


@pytest.mark.parametrize("requests", [{150: "stop"}, {133: "estop"}, {120: "stop", 200: "home"}])
@pytest.mark.parametrize("chunks", [wave, hostile])
def test_requests_in_full_motion(chunks: Callable[[int], FloatArray], requests: dict[int, str]) -> None:
    _, sent = control(chunks, requests, "ensemble", end=400)
    assert broken(sent) == {}
    assert np.abs(np.diff(sent[-500:], axis=0)).max() < 1e-9


def test_a_controller_that_was_a_little_elsewhere_when_the_stream_began() -> None:
    line = Line()
    line.controller.reset(HOME + 0.018)
    limiter = JointLimiter(ARM.limits, 0.01)
    limiter.reset(HOME)
    for tick in range(150):
        now = START_NS + tick * 10 * MS
        line.run_until(now)
        limiter.tick(now)
        wished = limiter.plan(smooth(tick / 100), np.zeros(7)) if tick > 14 else limiter.plan_stop()
        limiter.commit(wished)
        line.say(limiter.motion(), now)
    sent = np.array(line.sent)
    assert sent[0, 0] == HOME[0] + 0.018
    assert np.abs(sent[145] - HOME).max() < 1e-4
    assert broken(sent) == {}


def test_the_checks_see_what_breaks_them() -> None:
    """The stream that controllers are usually sent, positions that are each due one period later, and one
    that runs into the joints' ends."""
    line = Line()
    for tick in range(100):
        line.run_until(START_NS + tick * 10 * MS)
        point = TrajectoryPoint(smooth(SETTLED + tick / 100), 10 * MS)
        line.controller.joint_trajectory(ARM.joints, [point], 0, line.now_ns)
    assert set(broken(np.array(line.sent))) == {"acceleration", "jerk"}
    ends = np.linspace(HOME, [2.7, 1.7, 2.8, -0.2, 2.7, 4.4, 2.9], 2000)
    assert set(broken(ends)) >= {"velocity"}
