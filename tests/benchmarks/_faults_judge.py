"""What the recorded messages say: pure functions on numpy arrays, times in ns.

The commanded motion is judged as the driver carries it out: row 0 of every message is where the arm is to be
one control period after it, and where no message comes for longer, the rows after it are followed to their
end, where the arm stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.types import FloatArray

NS = 1_000_000_000
# The longest pause that is filled in: by then every way to rest has ended.
LONGEST_FILL_S = 2.0


@dataclass(frozen=True)
class Sent:
    """One message to the driver. at_ns: when it was published; after_s [P], q, v, a [P, J] its rows (v and a
    None where the message carries none)."""

    at_ns: int
    after_s: FloatArray
    q: FloatArray
    v: FloatArray | None
    a: FloatArray | None


@dataclass(frozen=True)
class Limits:
    """Of one arm: position [J, 2] rad, velocity, acceleration, jerk [J]."""

    position: FloatArray
    velocity: FloatArray
    acceleration: FloatArray
    jerk: FloatArray


@dataclass(frozen=True)
class Use:
    """The largest share of a limit that a stream used; above 1 it broke it. `what` names limit and joint."""

    share: float
    what: str


def way_to_rest(sent: Sent, after_s: NDArray[np.floating]) -> FloatArray:
    """Joints [N, J] at `after_s` [N] seconds after the message, following its rows: quintic where they carry
    velocity and acceleration, straight lines where not. After the last row it stays there."""
    rows = np.clip(np.searchsorted(sent.after_s, after_s, side="right") - 1, 0, len(sent.after_s) - 1)
    out = np.empty((len(after_s), sent.q.shape[1]))
    for index, (row, time_s) in enumerate(zip(rows, after_s, strict=True)):
        if row == len(sent.after_s) - 1 or time_s <= sent.after_s[0]:
            out[index] = sent.q[row]
            continue
        step = float(sent.after_s[row + 1] - sent.after_s[row])
        share = float(time_s - sent.after_s[row]) / step
        if sent.v is None or sent.a is None:
            out[index] = sent.q[row] + share * (sent.q[row + 1] - sent.q[row])
        else:
            out[index] = _quintic(sent.q, sent.v, sent.a, int(row), step, share)
    return out


def _quintic(q: FloatArray, v: FloatArray, a: FloatArray, row: int, step: float, s: float) -> FloatArray:
    """The polynomial of degree 5 with the rows' position, velocity and acceleration at both ends."""
    p0, p1 = q[row], q[row + 1]
    v0, v1 = v[row] * step, v[row + 1] * step
    a0, a1 = a[row] * step**2, a[row + 1] * step**2
    c3 = 10 * (p1 - p0) - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1
    c4 = -15 * (p1 - p0) + 8 * v0 + 7 * v1 + 1.5 * a0 - a1
    c5 = 6 * (p1 - p0) - 3 * v0 - 3 * v1 - 0.5 * a0 + 0.5 * a1
    value: FloatArray = p0 + v0 * s + a0 / 2 * s**2 + c3 * s**3 + c4 * s**4 + c5 * s**5
    return value


def commanded(messages: Sequence[Sent], period_s: float) -> FloatArray:
    """Joints [N, J], one per control period: row 0 of each message, and the way to rest where periods passed
    without one."""
    rows: list[FloatArray] = []
    slots = tick_slots([sent.at_ns for sent in messages], period_s)
    for index, sent in enumerate(messages):
        missed = int(slots[index] - slots[index - 1]) - 1 if index else 0
        if missed > 0:
            shown = min(missed, round(LONGEST_FILL_S / period_s))
            rows.extend(way_to_rest(messages[index - 1], period_s * np.arange(2, shown + 2)))
        rows.append(sent.q[0])
    return np.array(rows)


def tick_slots(at_ns: Sequence[int], period_s: float) -> NDArray[np.int64]:
    """The control period [N] in which each message was published.

    Ticks are due on a fixed grid and happen late, never early: the grid's phase is where, seen round the
    period, the longest stretch without any message ends.
    """
    period = round(period_s * NS)
    times = np.array(at_ns, dtype=np.int64)
    if not len(times):
        return times
    phases = np.unique(times % period)
    pauses = np.diff(phases, prepend=phases[-1] - period)
    return np.asarray((times - phases[int(np.argmax(pauses))]) // period, dtype=np.int64)


def limit_use(q: FloatArray, period_s: float, limits: Limits) -> Use:
    """The largest share of any limit that the sampled motion q [N, J] uses, by finite differences."""
    worst = Use(0.0, "")
    if not len(q):
        return worst
    low, high = limits.position.T
    middle, half = (low + high) / 2, (high - low) / 2
    series: FloatArray = q
    tables: list[tuple[str, FloatArray, FloatArray]] = [("position", np.abs(q - middle), half)]
    for order, (name, limit) in enumerate(
        (("velocity", limits.velocity), ("acceleration", limits.acceleration), ("jerk", limits.jerk)), 1
    ):
        series = np.diff(q, n=order, axis=0) / period_s**order
        tables.append((name, np.abs(series), limit))
    for name, values, limit in tables:
        if not len(values):
            continue
        share = values / limit
        if not np.isfinite(share).all():
            return Use(float("inf"), f"{name} (not finite)")
        _, joint = np.unravel_index(int(np.argmax(share)), share.shape)
        if share.max() > worst.share:
            worst = Use(float(share.max()), f"{name} of joint {int(joint) + 1}")
    return worst


def speeds(times_ns: FloatArray, q: FloatArray, over_s: float = 0.05) -> tuple[FloatArray, FloatArray]:
    """(times_ns [M], fastest joint's speed [M] rad/s over the last `over_s`) of measured joints q [N, J]."""
    before = np.searchsorted(times_ns, times_ns - over_s * NS, side="right") - 1
    use = before >= 0
    elapsed = np.maximum((times_ns[use] - times_ns[before[use]]) / NS, 1e-6)
    moved = np.max(np.abs(q[use] - q[before[use]]), axis=1)
    return times_ns[use], moved / elapsed


def rest_from(times_ns: FloatArray, q: FloatArray, still: float, until_ns: float) -> float | None:
    """The moment from which, until `until_ns`, no joint was faster than `still` rad/s, or None."""
    times, speed = speeds(times_ns, q)
    inside = times <= until_ns
    times, speed = times[inside], speed[inside]
    if not len(times):
        return None
    fast = np.flatnonzero(speed > still)
    if not len(fast):
        return float(times[0])
    last = int(fast[-1])
    return None if last == len(times) - 1 else float(times[last + 1])


def largest_motion(q: FloatArray) -> float:
    """The furthest that any joint is from where it was first, rad; 0 of nothing."""
    return float(np.max(np.abs(q - q[0]))) if len(q) else 0.0
