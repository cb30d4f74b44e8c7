"""A chunk's targets as a curve over time: what lies between its rows.

linear  positions and joints linearly, orientations by slerp: continuous, velocity steps at each row.
cubic   a C2 cubic spline through the rows, "not-a-knot" (as scipy's CubicSpline). Orientations are splined
        as quaternions in four dimensions, with the sign that makes neighbours agree, and normalised: exact at
        the rows, C2, the same in every base and tool frame (both act on quaternions as orthogonal maps), and
        without the seam at pi or the limit of one turn that rotation vectors have. Between rows of constant
        turning rate the error is some (step / 2)^4 / 384 rad.
screw   tool poses along the screw (SE(3) geodesic) from each row to the next; joints linearly.

A gripper's width is held until the next row is due. Nothing is extrapolated.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.rotations import slerp
from vla_ros.action.spline import cubic_pieces
from vla_ros.types import ActionChunk, FloatArray

Interpolation = Literal["linear", "cubic", "screw"]
INTERPOLATIONS: tuple[Interpolation, ...] = ("linear", "cubic", "screw")

# Rows further apart than this, rad, do not say which way the turn between them goes; there slerp is as good
# as anything, and a spline of quaternions could come near zero length.
WIDE_STEP = math.pi / 2
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
        self.columns = columns
        self.first_ns, self.last_ns = int(chunk.due_ns[0]), int(chunk.due_ns[-1])
        self._due = chunk.due_ns.tolist()
        self.rows = _continuous(chunk.targets, columns)
        # [H, order, C], highest power first; the last piece is the last row alone.
        order = 4 if interpolation == "cubic" else 2
        self._pieces = np.zeros((len(self.rows), order, self.rows.shape[1]))
        self._pieces[:, -1] = self.rows
        self.slerped = columns.orientations
        self.screws: list[Screws] = []
        if len(self.rows) < 2:
            return
        if order == 4:
            self._pieces[:-1] = cubic_pieces(chunk.due_ns, self.rows)
            self.slerped = tuple(turn for turn in columns.orientations if _wide(self.rows[:, turn]))
        else:
            self._pieces[:-1, 0] = np.diff(self.rows, axis=0) / np.diff(chunk.due_ns / 1e9)[:, None]
        self._pieces[:, :-1, columns.grippers] = 0.0
        if interpolation == "screw":
            pairs = zip(columns.positions, columns.orientations, strict=True)
            self.screws = [Screws(self.rows, place, turn) for place, turn in pairs]

    def covers(self, time_ns: int) -> bool:
        """Whether the time lies between the first and the last due time, both included."""
        return self.first_ns <= time_ns <= self.last_ns

    def at(self, time_ns: int) -> FloatArray:
        """Targets float64 [C] at a covered time; ValueError elsewhere."""
        return np.asarray(evaluate([self], time_ns)[0])

    def piece(self, time_ns: int) -> tuple[int, float, list[float], FloatArray]:
        """(row that was due last, share of the way to the next, powers [order], coefficients [order, C])."""
        if not self.first_ns <= time_ns <= self.last_ns:
            raise ValueError(f"{time_ns} ns lies outside {self.first_ns} to {self.last_ns} ns")
        row = bisect_right(self._due, time_ns) - 1
        passed = time_ns - self._due[row]
        share = passed / (self._due[row + 1] - self._due[row]) if passed else 0.0
        x = passed / 1e9
        pieces = self._pieces
        return row, share, [x * x * x, x * x, x, 1.0] if pieces.shape[1] == 4 else [x, 1.0], pieces[row]


def evaluate(curves: list[Curve], time_ns: int) -> FloatArray:
    """Targets float64 [N, C] of curves of the same channels and interpolation, at a time that each covers.

    All at once: numpy's cost here is per call, and up to a horizon's worth of chunks overlap.
    """
    places = [curve.piece(time_ns) for curve in curves]
    powers = np.array([place[2] for place in places])
    out = np.asarray(np.einsum("np,npc->nc", powers, np.array([place[3] for place in places])))
    for turn in curves[0].columns.orientations:
        q = out[:, turn]
        q /= np.sqrt(np.einsum("nc,nc->n", q, q))[:, None]
        some = [index for index, curve in enumerate(curves) if turn in curve.slerped and places[index][1]]
        if some:
            first = np.array([curves[index].rows[places[index][0], turn] for index in some])
            second = np.array([curves[index].rows[places[index][0] + 1, turn] for index in some])
            out[some, turn] = slerp(first, second, [places[index][1] for index in some])
    for index, curve in enumerate(curves):
        row, share = places[index][:2]
        for screws in curve.screws if share else ():
            out[index, screws.place] = screws.position(row, share)
    return out


def _continuous(targets: FloatArray, columns: Columns) -> FloatArray:
    """A copy in which each quaternion has the sign nearest to the one before it."""
    rows = np.array(targets, dtype=np.float64)
    for turn in columns.orientations:
        q = rows[:, turn]
        turned = np.einsum("hc,hc->h", q[1:], q[:-1]) < 0
        if turned.any():
            q[1:] *= np.cumprod(np.where(turned, -1.0, 1.0))[:, None]
    return rows


def _wide(quaternions: FloatArray) -> bool:
    cosine = np.einsum("hc,hc->h", quaternions[1:], quaternions[:-1]).min()  # of half the angle
    return bool(cosine < math.cos(WIDE_STEP / 2))


class Screws:
    """The screw motions from each row of a tool pose to the next: turning by `angle` [H - 1] rad about `axis`
    [H - 1, 3] through a point `arm` [H - 1, 3] m from the row's position, while moving by `along` [H - 1] m
    along it (Chasles; Murray, Li and Sastry 1994, section 2.3). The orientation on the way is the slerp."""

    def __init__(self, rows: FloatArray, place: slice, turn: slice) -> None:
        self.place = place
        q, self._p = rows[:, turn], rows[:, place]
        # In the base frame: the next orientation is this one times the row's.
        turned = _multiply(q[1:], q[:-1] * np.array([-1.0, -1.0, -1.0, 1.0]))
        sine = np.sqrt((turned[:, :3] ** 2).sum(axis=1))
        self._angle = 2.0 * np.arctan2(sine, turned[:, 3])
        self._straight = self._angle < STRAIGHT
        straight = self._straight[:, None]
        self._axis = np.where(straight, 0.0, turned[:, :3] / np.where(straight, 1.0, sine[:, None]))
        self._moved = np.diff(self._p, axis=0)
        self._along = (self._moved * self._axis).sum(axis=1)
        across = self._moved - self._along[:, None] * self._axis
        # A turn about c takes p to c + R (p - c): so c - p is half the way across, and as far sideways as the
        # angle says.
        half = np.tan(np.where(self._straight, 1.0, self._angle) / 2.0)[:, None]
        self._arm = 0.5 * (across + np.cross(self._axis, across) / half)

    def position(self, row: int, share: float) -> FloatArray:
        """Position [3] m, `share` of the way from `row` to the next."""
        if self._straight[row]:
            return np.asarray(self._p[row] + share * self._moved[row])
        axis, angle, arm = self._axis[row], share * self._angle[row], self._arm[row]
        turned = math.cos(angle) * arm + math.sin(angle) * _cross(axis, arm)
        return np.asarray(self._p[row] + arm - turned + share * self._along[row] * axis)


def _cross(a: FloatArray, b: FloatArray) -> FloatArray:
    x, y, z = a.tolist()
    u, v, w = b.tolist()
    return np.array([y * w - z * v, z * u - x * w, x * v - y * u])


def _multiply(p: FloatArray, q: FloatArray) -> FloatArray:
    """Hamilton products [N, 4] of xyzw quaternions."""
    vector = p[:, 3:] * q[:, :3] + q[:, 3:] * p[:, :3] + np.cross(p[:, :3], q[:, :3])
    return np.column_stack([vector, p[:, 3] * q[:, 3] - (p[:, :3] * q[:, :3]).sum(axis=1)])
