"""A chunk's targets as a curve over time: what lies between its rows.

linear  positions and joints linearly, orientations by slerp: continuous, velocity steps at each row.
cubic   a C2 cubic spline through the rows (scipy's, "not-a-knot"). Orientations are splined as quaternions in
        four dimensions, with the sign that makes neighbours agree, and normalised: exact at the rows, C2, the
        same in every base and tool frame (both act on quaternions as orthogonal maps), and without the seam at
        pi or the limit of one turn that rotation vectors have. Rows of constant turning rate are met to
        (step / 2)^4 / 384 rad.
screw   tool poses along the screw (SE(3) geodesic) from each row to the next; joints linearly.

A gripper's width is held until the next row is due. Nothing is extrapolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from vla_ros.action.rotations import angle_between, slerp_one
from vla_ros.types import ActionChunk, FloatArray

Interpolation = Literal["linear", "cubic", "screw"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "screw")

# Rows further apart than this, rad, do not say which way the turn between them goes; there slerp is as good
# as anything, and a spline of quaternions could come near zero length.
WIDE_STEP = np.pi / 2
# Below this turn, rad, a screw is a straight line to rounding.
STRAIGHT = 1e-7


@dataclass(frozen=True)
class Columns:
    """Where what is in a chunk's targets. orientations: columns of unit quaternions xyzw; positions: those of
    the same poses; grippers: columns that are held."""

    channels: tuple[str, ...]
    positions: tuple[slice, ...]
    orientations: tuple[slice, ...]
    grippers: NDArray[np.intp]


def columns_of(channels: tuple[str, ...]) -> Columns:
    """The columns that these channel names (vla_ros.robot.channels) give."""
    where = {name: index for index, name in enumerate(channels)}
    arms = [
        name.removesuffix("/tcp/orientation.x") for name in channels if name.endswith("/tcp/orientation.x")
    ]
    turns = [where[f"{arm}/tcp/orientation.x"] for arm in arms]
    places = [where[f"{arm}/tcp/position.x"] for arm in arms]
    grippers = [index for index, name in enumerate(channels) if name.endswith("/gripper")]
    return Columns(
        channels,
        tuple(slice(index, index + 3) for index in places),
        tuple(slice(index, index + 4) for index in turns),
        np.array(grippers, dtype=np.intp),
    )


class Curve:
    """The targets of one chunk at any time between its first and last due time."""

    def __init__(self, chunk: ActionChunk, columns: Columns, interpolation: Interpolation) -> None:
        self.due_ns = chunk.due_ns
        self.first_ns, self.last_ns = int(chunk.due_ns[0]), int(chunk.due_ns[-1])
        self._columns = columns
        self._rows = _continuous(chunk.targets, columns)
        self._slerped = columns.orientations
        self._screws: list[_Screws] = []
        if len(self._rows) < 2:
            return
        seconds = (chunk.due_ns - chunk.due_ns[0]) / 1e9
        if interpolation == "cubic":
            # [4, H - 1, C], highest power first.
            self._polynomials = np.ascontiguousarray(CubicSpline(seconds, self._rows).c.swapaxes(0, 1))
            self._slerped = tuple(turn for turn in columns.orientations if _wide(self._rows[:, turn]))
        else:
            slopes = np.diff(self._rows, axis=0) / np.diff(seconds)[:, None]
            self._polynomials = np.stack([slopes, self._rows[:-1]], axis=1)
        if interpolation == "screw":
            self._slerped = ()
            pairs = zip(columns.positions, columns.orientations, strict=True)
            self._screws = [_Screws(self._rows, place, turn) for place, turn in pairs]

    def covers(self, time_ns: int) -> bool:
        """Whether the time lies between the first and the last due time, both included."""
        return self.first_ns <= time_ns <= self.last_ns

    def at(self, time_ns: int) -> FloatArray:
        """Targets float64 [C] at a covered time; ValueError elsewhere."""
        if not self.covers(time_ns):
            raise ValueError(f"{time_ns} ns lies outside {self.first_ns} to {self.last_ns} ns")
        row = int(self.due_ns.searchsorted(time_ns, side="right")) - 1
        begin = int(self.due_ns[row])
        if time_ns == begin:
            return self._rows[row].copy()
        after = (time_ns - begin) / 1e9
        share = (time_ns - begin) / (int(self.due_ns[row + 1]) - begin)
        c = self._polynomials[row]
        powers = (after**3, after * after, after, 1.0) if len(c) == 4 else (after, 1.0)
        out = np.asarray(np.array(powers) @ c, dtype=np.float64)
        for turn in self._columns.orientations:
            q = out[turn]
            q /= math.sqrt(q @ q)
        for turn in self._slerped:
            out[turn] = slerp_one(self._rows[row, turn], self._rows[row + 1, turn], share)
        for screws in self._screws:
            screws.put(out, row, share)
        grippers = self._columns.grippers
        if len(grippers):
            out[grippers] = self._rows[row, grippers]
        return out

    def held(self, time_ns: int, column: int) -> float:
        """One column's value at the row that was due last, at a covered time."""
        return float(self._rows[int(self.due_ns.searchsorted(time_ns, side="right")) - 1, column])


def _continuous(targets: FloatArray, columns: Columns) -> FloatArray:
    """A copy in which each quaternion has the sign nearest to the one before it."""
    rows = np.array(targets, dtype=np.float64)
    for turn in columns.orientations:
        q = rows[:, turn]
        flips = np.where((q[1:] * q[:-1]).sum(axis=1) < 0, -1.0, 1.0)
        q[1:] *= np.cumprod(flips)[:, None]
    return rows


def _wide(quaternions: FloatArray) -> bool:
    return bool((angle_between(quaternions[1:], quaternions[:-1]) > WIDE_STEP).any())


class _Screws:
    """The screw motions from each row of a tool pose to the next: turning by `angle` [H - 1] rad about `axis`
    [H - 1, 3] through `centre` [H - 1, 3] while moving by `along` [H - 1] m along it (Chasles; Murray, Li,
    Sastry 1994, section 2.3)."""

    def __init__(self, rows: FloatArray, place: slice, turn: slice) -> None:
        self._place, self._turn = place, turn
        self._p, self._q = rows[:, place], rows[:, turn]
        # In the base frame: next = turned * row.
        first, second = self._q[:-1], self._q[1:]
        turned = _multiply(second, first * np.array([-1.0, -1.0, -1.0, 1.0]))
        sine = np.sqrt((turned[:, :3] ** 2).sum(axis=1))
        self._angle = 2.0 * np.arctan2(sine, turned[:, 3])
        straight = self._angle < STRAIGHT
        self._axis = np.where(straight[:, None], 0.0, turned[:, :3] / np.where(straight, 1.0, sine)[:, None])
        moved = self._p[1:] - self._p[:-1]
        self._along = (moved * self._axis).sum(axis=1)
        across = moved - self._along[:, None] * self._axis
        # The centre c solves (1 - R) c = p1 - R p0 across the axis; relative to p0 it is this.
        half = np.tan(np.where(straight, 1.0, self._angle) / 2.0)[:, None]
        arm = 0.5 * (across + np.cross(self._axis, across) / half)
        self._arm = np.where(straight[:, None], 0.0, arm)
        self._moved = moved
        self._straight = straight

    def put(self, out: FloatArray, row: int, share: float) -> None:
        """Write the pose `share` of the way from `row` to the next into its columns of `out`."""
        out[self._turn] = slerp_one(self._q[row], self._q[row + 1], share)
        if self._straight[row]:
            out[self._place] = self._p[row] + share * self._moved[row]
            return
        axis, angle = self._axis[row], share * self._angle[row]
        c = self._arm[row]
        spoke = -c
        turned = math.cos(angle) * spoke + math.sin(angle) * _cross(axis, spoke)
        out[self._place] = self._p[row] + c + turned + share * self._along[row] * axis


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    x, y, z = a.tolist()
    u, v, w = b.tolist()
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


def _multiply(p: FloatArray, q: FloatArray) -> FloatArray:
    """Hamilton products [N, 4] of xyzw quaternions."""
    vector = p[:, 3:] * q[:, :3] + q[:, 3:] * p[:, :3] + np.cross(p[:, :3], q[:, :3])
    return np.column_stack([vector, p[:, 3] * q[:, 3] - (p[:, :3] * q[:, :3]).sum(axis=1)])
