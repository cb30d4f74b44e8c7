"""No pause, no step and no shaking where one chunk follows another, in virtual time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from vla_ros.action.schedule import make_scheduler
from vla_ros.types import ActionChunk, FloatArray

MS = 1_000_000
TICK_MS = 10
T0 = 1_700_000_000_000_000_000
JOINTS = tuple(f"arm/joint{number}" for number in range(1, 8))

Reference = Callable[[FloatArray], FloatArray]


def sway(ms: FloatArray) -> FloatArray:
    """A smooth way of 7 joints, rad [N, 7] at times [N], moving all the time: 0.25 to 0.75 rad/s."""
    t = np.asarray(ms)[:, None] / 1000
    phase = np.arange(7)
    return 0.5 * t + 0.25 / 2.0 * np.sin(2.0 * t + phase)


def run(
    mode: str,
    rows: int,
    row_ms: float,
    latency_ms: float,
    seconds: float = 6.0,
    error: float = 0.0,
    reference: Reference = sway,
) -> tuple[FloatArray, FloatArray]:
    """What is asked of the arm while a policy infers back to back: (times ms [N], targets rad [N, 7]).

    error: each chunk is off by a constant of this standard deviation, rad, as sampled chunks are.
    """
    rng = np.random.default_rng(0)
    scheduler = make_scheduler(mode, {})
    arrives, waiting = latency_ms, 0.0
    times, targets = [], []
    for ms in np.arange(0.0, seconds * 1000, TICK_MS):
        if ms >= arrives:
            observed, waiting = waiting, ms
            due_ms = observed + np.arange(1, rows + 1) * row_ms
            values = reference(due_ms) + error * rng.normal(size=7)
            due = T0 + np.rint(due_ms * MS).astype(np.int64)
            chunk = ActionChunk(JOINTS, values, due, T0 + round(observed * MS))
            scheduler.add(chunk, T0 + round(ms * MS))
            arrives = ms + latency_ms
        target = scheduler.sample(T0 + round(ms * MS))
        if target is not None:
            times.append(ms)
            targets.append(target.values)
        else:
            assert not times, f"no target at {ms} ms"
    return np.array(times), np.array(targets)


def speeds(targets: FloatArray) -> FloatArray:
    return np.diff(targets, axis=0) / (TICK_MS / 1000)


def shake(targets: FloatArray) -> float:
    """RMS of the second difference, rad/s^2."""
    return float(np.sqrt(np.mean((np.diff(targets, 2, axis=0) / (TICK_MS / 1000) ** 2) ** 2)))


@pytest.mark.complaint("openpi 393", "GR00T 285")
@pytest.mark.parametrize("mode", ["newest", "crossfade", "ensemble"])
@pytest.mark.parametrize(("rows", "row_ms", "latency_ms"), [(50, 20.0, 86.0), (16, 33.3, 150.0)])
def test_the_arm_does_not_wait_for_inference(mode: str, rows: int, row_ms: float, latency_ms: float) -> None:
    """There, with 86 ms of inference at 50 Hz the robot stops after every chunk until the next is there."""
    _, targets = run(mode, rows, row_ms, latency_ms)
    assert len(targets) > 550
    # All joints of the reference move at 0.25 rad/s at least, and so does what is asked for.
    assert speeds(targets).min() > 0.2
    assert speeds(targets).max() < 0.8


@pytest.mark.complaint("GR00T 285")
@pytest.mark.parametrize("mode", ["crossfade", "ensemble"])
def test_chunks_that_differ_make_no_step_where_they_meet(mode: str) -> None:
    """There, the arm jerks from one chunk to the next. Here chunks are 20 mrad apart (standard deviation): at
    once, that would be a step of up to 100 mrad, 10 rad/s."""
    _, hard = run("newest", 50, 20.0, 150.0, error=0.02)
    _, targets = run(mode, 50, 20.0, 150.0, error=0.02)
    assert np.abs(speeds(hard)).max() > 4.0
    assert np.abs(speeds(targets)).max() < 1.5
    times, _ = run(mode, 50, 20.0, 150.0)
    assert np.sqrt(np.mean((targets - sway(times)) ** 2)) < 0.02


@pytest.mark.complaint("GR00T 114")
def test_a_policy_that_samples_does_not_shake_the_arm() -> None:
    """There, what is sampled anew with every inference is passed on as it comes."""
    _, hard = run("newest", 16, 50.0, 100.0, error=0.02)
    _, faded = run("crossfade", 16, 50.0, 100.0, error=0.02)
    _, calm = run("ensemble", 16, 50.0, 100.0, error=0.02)
    _, exact = run("ensemble", 16, 50.0, 100.0)
    assert shake(faded) < 0.5 * shake(hard)
    assert shake(calm) < 0.1 * shake(hard)
    assert shake(calm) < 3 * shake(exact)


@pytest.mark.complaint("X-VLA 38")
def test_anchors_over_seconds_become_a_smooth_motion() -> None:
    """30 anchors over 4 s. There, each was sent when its time had come, and the arm moved abruptly."""
    period_ms = 4000 / 30

    def reach(ms: FloatArray) -> FloatArray:
        return np.tile(0.5 * np.sin(2 * np.pi * ms / 3000)[:, None], 7)

    times, targets = run("newest", 30, period_ms, 300.0, seconds=5.0, reference=reach)
    assert targets == pytest.approx(reach(times), abs=2e-3)
    fastest, strongest = 0.5 * 2 * np.pi / 3, 0.5 * (2 * np.pi / 3) ** 2
    assert np.abs(speeds(targets)).max() < 1.1 * fastest
    # Straight lines between anchors would change the speed within one tick by what takes 133 ms.
    assert np.abs(np.diff(speeds(targets), axis=0)).max() / (TICK_MS / 1000) < 3 * strongest
