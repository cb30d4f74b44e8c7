"""The world of the hand-over benchmark, in virtual time: a reference, a policy that knows it up to a constant
error per chunk, a robot with a lag, and how the outcome is measured. Nothing here depends on the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.types import FloatArray

MS = 1_000_000
TICK_NS = 20 * MS
JOINTS, HORIZON, STEP_NS = 14, 50, 20 * MS
CHUNK_ERROR = 0.020  # rad, standard deviation of a chunk's constant error per joint
JITTER = 0.30  # latency is uniform within +- this share
ROBOT_LAG_S = 0.050
# What the robot does of a command given at each tick: its lag, and half a tick of holding the command.
ROBOT_DELAY_NS = round(ROBOT_LAG_S * 1e9) + TICK_NS // 2
WARM_UP_S = 5.0
# The reference's parameters are drawn; this seed and this scale give RMS jerk 2.0 rad/s^3, a largest step of
# 27 mrad, and 1.0 mrad of tracking when it is sent noise-free and early by the robot's delay.
_REFERENCE_SEED, _REFERENCE_SCALE, _SINES = 1255, 1.084, 3
LAGS_MS = (-200, 700)  # looked for in this range


class Reference:
    """A smooth motion of 14 joints: per joint three sines of 0.2 to 0.5 Hz."""

    def __init__(self) -> None:
        rng = np.random.default_rng(_REFERENCE_SEED)
        shape = (JOINTS, _SINES)
        self._amplitude = _REFERENCE_SCALE * rng.uniform(0.05, 0.2, shape)
        self._frequency = 2 * np.pi * rng.uniform(0.2, 0.5, shape)
        self._phase = rng.uniform(0, 2 * np.pi, shape)

    def __call__(self, times_ns: ArrayLike) -> FloatArray:
        """rad, float64 [N, 14], at times [N]."""
        t = np.asarray(times_ns, dtype=np.float64)[:, None, None] / 1e9
        angles = self._frequency * t + self._phase
        return np.asarray(np.sum(self._amplitude * np.sin(angles), axis=2))


class Contender(Protocol):
    """A way to drive the robot from chunks. Times are ns of virtual time, which starts at 0."""

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """A tick begins; the robot's joints are `measured` [14]."""
        ...

    def observation(self, now_ns: int) -> int | None:
        """The policy is free: the time of the observation it is to start from now, or None."""
        ...

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """A chunk [50, 14] arrived: row k is the reference at `observed_ns` + k STEP_NS, with an error."""
        ...

    def command(self, now_ns: int) -> FloatArray | None:
        """What is sent in this tick, [14] rad, or None where there is nothing to send."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How well the robot followed.

    rms: of robot against reference at the same time, mrad. lag: how late the robot is, ms.
    jerk: RMS of the commands' third difference over dt^3, rad/s^3. step: the commands' largest, mrad.
    starved: ticks without a new command, %. chunks: per second.
    """

    rms: float
    lag: float
    jerk: float
    step: float
    starved: float
    chunks: float


class _Policy:
    """Inference that takes its time, one observation after the other."""

    def __init__(self, reference: Reference, latency_ms: float, period_ms: float | None, seed: int) -> None:
        self._reference = reference
        self._latency_ns = latency_ms * MS
        # Without a latency, back to back still is once per tick.
        self._period_ns = TICK_NS if period_ms is None else round(period_ms * MS)
        self._rng = np.random.default_rng(seed)
        self._next_ns = self._free_ns = 0
        self._running: tuple[int, FloatArray, int] | None = None
        self.done = 0

    def advance(self, contender: Contender, now_ns: int) -> None:
        """All that happens up to `now_ns`: chunks arrive, inference starts anew."""
        while True:
            if self._running is not None:
                observed_ns, rows, done_ns = self._running
                if done_ns > now_ns:
                    return
                contender.add(rows, observed_ns, done_ns)
                self._running = None
                self.done += 1
                self._free_ns = done_ns
            at_ns = max(self._free_ns, self._next_ns)
            if at_ns > now_ns:
                return
            start = contender.observation(at_ns)
            if start is not None:
                self._running = (start, self._infer(start), at_ns + self._duration())
                self._next_ns = at_ns + self._period_ns
            elif at_ns == now_ns:
                return
            else:
                # Not then, and nothing has changed until now.
                self._free_ns = now_ns

    def _duration(self) -> int:
        return round(self._latency_ns * self._rng.uniform(1 - JITTER, 1 + JITTER))

    def _infer(self, observed_ns: int) -> FloatArray:
        exact = self._reference(observed_ns + STEP_NS * np.arange(HORIZON))
        return exact + CHUNK_ERROR * self._rng.standard_normal(JOINTS)


def simulate(
    contender: Contender, latency_ms: float, period_ms: float | None, seconds: float, seed: int
) -> Outcome:
    """Drive the robot for a while; period_ms: of inference, None back to back."""
    reference = Reference()
    policy = _Policy(reference, latency_ms, period_ms, seed)
    count = round(seconds * 1e9) // TICK_NS
    times = np.arange(count, dtype=np.int64) * TICK_NS
    share = 1 - np.exp(-TICK_NS / 1e9 / ROBOT_LAG_S)
    joints, sent = np.zeros((count, JOINTS)), np.zeros((count, JOINTS))
    starved = np.zeros(count, dtype=bool)
    q = reference([0])[0]
    held = q
    for tick, now_ns in enumerate(times.tolist()):
        joints[tick] = q
        contender.observe(now_ns, q)
        policy.advance(contender, now_ns)
        command = contender.command(now_ns)
        starved[tick] = command is None
        held = held if command is None else command
        sent[tick] = held
        # What this tick made room for, such as a queue that fell below its threshold.
        policy.advance(contender, now_ns)
        q = q + share * (held - q)
    begin = round(WARM_UP_S * 1e9) // TICK_NS
    errors = joints[begin:] - reference(times[begin:])
    return Outcome(
        rms=1e3 * _rms(errors),
        lag=_lag_ms(reference, joints[begin:], times[begin:]),
        jerk=_rms(np.diff(sent[begin:], 3, axis=0)) / (TICK_NS / 1e9) ** 3,
        step=1e3 * float(np.abs(np.diff(sent[begin:], axis=0)).max()),
        starved=100 * float(starved[begin:].mean()),
        chunks=policy.done / seconds,
    )


def _rms(values: FloatArray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _lag_ms(reference: Reference, joints: FloatArray, times: NDArray[np.int64]) -> float:
    """The lag at which the joints correlate best with the reference, ms."""
    begin_ms = int(times[0]) // MS
    fine = reference(np.arange(begin_ms - LAGS_MS[1], int(times[-1]) // MS - LAGS_MS[0] + 1) * MS)
    at = times // MS - begin_ms + LAGS_MS[1]
    centred = joints - joints.mean(axis=0)
    scores = {}
    for lag in range(*LAGS_MS):
        shifted = fine[at - lag]
        shifted = shifted - shifted.mean(axis=0)
        scores[lag] = float(np.sum(centred * shifted) / np.sqrt(np.sum(shifted**2)))
    return float(max(scores, key=scores.__getitem__))


class Exact:
    """The noise-free reference, early by the robot's delay: what no policy can beat."""

    def __init__(self) -> None:
        self._reference = Reference()

    def observe(self, now_ns: int, measured: FloatArray) -> None:
        """See Contender."""

    def observation(self, now_ns: int) -> int | None:
        """See Contender."""
        return None

    def add(self, rows: FloatArray, observed_ns: int, now_ns: int) -> None:
        """See Contender."""

    def command(self, now_ns: int) -> FloatArray | None:
        """See Contender."""
        return self._reference([now_ns + ROBOT_DELAY_NS])[0]
