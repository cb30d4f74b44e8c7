"""Hand-over between chunks: tracking, jerk and lag under latency, beside others' rules, in virtual time.

A policy returns 50 steps of 20 ms of a smooth 14-joint reference, plus an error that is constant per chunk
and joint (sigma 20 mrad). Its latency is 0, 60, 150 or 300 ms, +-30 %. Commands go out at 50 Hz to a robot
with a first-order lag of 50 ms. Nobody is told a latency unless the row says so: ours finds the robot's from
cold start, out of what it sent and what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vla_ros.action.latency import ActuationLatency
from vla_ros.action.schedule import MODES, make_scheduler
from vla_ros.benchmarks._handover_others import (
    LATENCY_KS,
    AsyncAverage,
    BlockingBroker,
    Crossfade,
    ReplacedQueue,
)
from vla_ros.benchmarks._handover_world import (
    HORIZON,
    JOINTS,
    STEP_NS,
    TICK_NS,
    WARM_UP_S,
    Contender,
    Exact,
    Outcome,
    simulate,
)
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.robot.config import JointLimits
from vla_ros.safety.limits import JointLimiter
from vla_ros.types import ActionChunk, FloatArray

SECONDS, SEED = 60.0, 1
# Shorter runs are enough to choose a constant by hand.
TUNING_SECONDS = 20.0
LATENCIES_MS = (0, 60, 150, 300)
SLOW_PERIOD_MS = 1000 / 3
DEFAULT_MODE = "ensemble"
EXECUTED = 25
CHANNELS = tuple(f"{side}/joint{index}" for side in ("left", "right") for index in range(1, 8))
# {latency, ms: tracking, mrad; jerk, rad/s^3}
TARGETS = {60: (8.0, 25.0), 150: (12.0, 25.0), 300: (17.0, 50.0)}
TARGET_STEP, TARGET_LAG_SPREAD_MS = 28.0, 5.0
OPENPI, QUEUE = "openpi, blocking broker", "lerobot, queue, unguided"
ASYNC, ASYNC_FILTERED = "lerobot, async average", "lerobot, async, filter in rad"
EVA_TUNED, EVA_SHIPPED = "EVA-CLIENT, tuned by hand", "EVA-CLIENT, as shipped"
# What was measured on the others' own code, back to back: {contender: {latency, ms: tracking, mrad}}.
PUBLISHED: dict[str, dict[float, float]] = {
    OPENPI: {60: 42, 150: 77, 300: 141},
    QUEUE: {60: 29, 150: 30, 300: 30},
    ASYNC: {60: 25.5, 150: 25.7, 300: 25.7},
    EVA_TUNED: {60: 28, 150: 25, 300: 34},
    EVA_SHIPPED: {60: 22, 150: 50, 300: 100},
}


def limits() -> JointLimits:
    """Of the benchmark's robot. The reference asks for 1.36 rad/s at most: 1.4 keep a step below 28 mrad."""
    return JointLimits(
        position=[(-3.0, 3.0)] * JOINTS,
        velocity=[1.4] * JOINTS,
        acceleration=[7.0] * JOINTS,
        jerk=[3000.0] * JOINTS,
    )


class Ours:
    """The scheduler of a mode, measured actuation latency and the joint limiter, as control_node has them.

    In mode sync `EXECUTED` rows of each chunk are executed and the robot waits for the next.
    """

    def __init__(self, mode: str) -> None:
        self._sync = mode == "sync"
        self._scheduler = make_scheduler(mode, {})
        self._limiter = JointLimiter(limits(), TICK_NS / 1e9)
        self._latency = ActuationLatency(0)
        self._wanted: FloatArray | None = None
        self._began = False

    @property
    def latency_ms(self) -> float:
        """The actuation latency found so far."""
        return self._latency.estimate_ns / 1e6

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""
        if not self._began:
            self._limiter.reset(measured)
            self._began = True
        self._latency.measured(now_ns, measured)

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        last_ns = self._scheduler.last_due_ns()
        if self._sync and last_ns is not None and now_ns <= last_ns:
            return None
        return now_ns

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""
        rows = rows[:EXECUTED] if self._sync else rows
        due = observed_ns + STEP_NS * np.arange(len(rows), dtype=np.int64)
        self._scheduler.add(ActionChunk(CHANNELS, rows, due, observed_ns), now_ns)

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        target = self._scheduler.sample(now_ns + self._latency.estimate_ns + TICK_NS)
        if target is None:
            self._wanted = None
            self._limiter.commit(self._limiter.plan_stop())
        else:
            before = target.values if self._wanted is None else self._wanted
            self._wanted = target.values
            velocity = (target.values - before) / (TICK_NS / 1e9)
            self._limiter.commit(self._limiter.plan(target.values, velocity))
        sent = self._limiter.motion().q[0]
        self._latency.sent(now_ns, sent)
        return None if target is None else sent


def contenders(latency_ms: float, period_ms: float | None) -> dict[str, Callable[[], Contender]]:
    """{name: how to make it}, for a latency and a period of inference (None back to back)."""
    tuned = _tuned(latency_ms, period_ms)
    crossfades: dict[str, Callable[[], Contender]] = {
        EVA_TUNED: lambda: Crossfade(tuned),
        EVA_SHIPPED: lambda: Crossfade(Crossfade.SHIPPED),
    }
    # Sync infers at a rate of its own, and rtc hands over like crossfade.
    modes = [mode for mode in MODES if mode != "rtc" and not (mode == "sync" and period_ms is not None)]
    ours: dict[str, Callable[[], Contender]] = {_ours(mode): partial(Ours, mode) for mode in modes}
    if period_ms is not None:
        return {**crossfades, **ours}
    return {
        OPENPI: BlockingBroker,
        QUEUE: ReplacedQueue,
        ASYNC: partial(AsyncAverage, filtered=False),
        ASYNC_FILTERED: partial(AsyncAverage, filtered=True),
        **crossfades,
        **ours,
    }


def run(progress: Progress) -> Bench:
    """The table: back to back, then at 3 Hz."""
    exact = simulate(Exact(), 0, None, SECONDS, SEED)
    rows = [_row("noise-free reference, early by the robot's lag", 0, None, exact)]
    lags = []
    for period_ms in (None, SLOW_PERIOD_MS):
        for latency_ms in LATENCIES_MS:
            outcomes: dict[str, Outcome] = {}
            for name, make in contenders(latency_ms, period_ms).items():
                progress(f"{latency_ms} ms, {_rate(period_ms)}: {name}")
                outcomes[name] = simulate(make(), latency_ms, period_ms, SECONDS, SEED)
                rows.append(_row(name, latency_ms, period_ms, outcomes[name], outcomes.get(EVA_TUNED)))
            if period_ms is None:
                lags.append(outcomes[_ours(DEFAULT_MODE)].lag)
    spread = max(lags) - min(lags)
    row: dict[str, Value] = {
        "contender": f"{_ours(DEFAULT_MODE)}, lags apart by",
        "lag_ms": spread,
    }
    rows.append({**row, "target": f"<= {TARGET_LAG_SPREAD_MS:g} ms", "met": spread <= TARGET_LAG_SPREAD_MS})
    notes = [
        f"Virtual time, the same on every machine: {SECONDS:.0f} s each, the first {WARM_UP_S:.0f} s left "
        f"out. {HORIZON} steps of 20 ms per chunk, commands at 50 Hz.",
        "tracking: RMS of the robot against the reference at the same time; lag: of the robot, where it "
        "correlates best (its own is 60 ms: 50 ms, and half a tick of holding); jerk: RMS of the commands' "
        "third difference; step: their largest; starved: ticks without a new command. A goal on tracking and "
        f"jerk includes steps <= {TARGET_STEP:g} mrad and none starved.",
        "published: measured on the others' own code; beside it their rules as restated here. EVA-CLIENT's "
        "constant is chosen for each latency and rate out of its whole range, by tracking. Filter: its "
        "server drops observations less than 1 from the last one used, in radians nearly all of them.",
        "vla_ros: no constant; the robot's lag is found from cold start out of commands and measured joints. "
        "Its limiter is on, at 1.4 rad/s (28 mrad a step). Mode rtc is left out: it hands over like "
        "crossfade, and this policy cannot be guided.",
    ]
    return Bench("handover: tracking and jerk under inference latency", rows, notes)


def _tuned(latency_ms: float, period_ms: float | None) -> int:
    """The latency constant that tracks best."""

    def tracking(latency_k: int) -> float:
        return simulate(Crossfade(latency_k), latency_ms, period_ms, TUNING_SECONDS, SEED).rms

    return min(LATENCY_KS, key=tracking)


def _ours(mode: str) -> str:
    return f"vla_ros, {mode}"


def _rate(period_ms: float | None) -> str:
    return "back to back" if period_ms is None else f"{1000 / period_ms:.0f} Hz"


def _row(
    name: str, latency_ms: float, period_ms: float | None, outcome: Outcome, tuned: Outcome | None = None
) -> dict[str, Value]:
    row: dict[str, Value] = {
        "contender": name,
        "inference": _rate(period_ms),
        "latency_ms": latency_ms,
        "tracking_mrad": round(outcome.rms, 2),
        "published_mrad": PUBLISHED.get(name, {}).get(latency_ms) if period_ms is None else None,
        "lag_ms": outcome.lag,
        "jerk_rad_s3": round(outcome.jerk, 1),
        "step_mrad": round(outcome.step, 1),
        "starved_%": round(outcome.starved, 1),
        "target": None,
        "met": None,
    }
    if name != _ours(DEFAULT_MODE):
        return row
    if period_ms is None and latency_ms in TARGETS:
        tracking, jerk = TARGETS[round(latency_ms)]
        row["target"] = f"<= {tracking:g}, jerk {jerk:g}"
        within = outcome.rms <= tracking and outcome.jerk <= jerk and outcome.step <= TARGET_STEP + 1e-6
        row["met"] = within and outcome.starved == 0
    elif period_ms is not None and tuned is not None:
        row["target"] = "<= EVA, tuned"
        row["met"] = outcome.rms <= tuned.rms and outcome.jerk <= tuned.jerk
    return row
