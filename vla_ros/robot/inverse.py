"""The search for the joints of one tool pose: a damped descent within limits, and where another may begin.

Only arithmetic: what the arm is comes as a function `look` from joints [J] to the tool's pose (4x4) and its
Jacobian (6xJ), both in the base frame; see `vla_ros.robot.kinematics`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from vla_ros.types import FloatArray

Look = Callable[[FloatArray], tuple[FloatArray, FloatArray]]

# A solution within these is good enough to command; the solver itself aims a hundred times lower.
POSITION_TOLERANCE = 1e-4
ROTATION_TOLERANCE = 1e-3
_POSITION_GOAL = 1e-6
_ROTATION_GOAL = 1e-5

# 1 mm of position weighs as much as 10 mrad of rotation.
_POSITION_WEIGHT = 10.0
# Floor of the Levenberg-Marquardt damping: bounds the step near a singularity, and is small enough
# (against squared singular values of 0.05 and more elsewhere) not to slow convergence.
_DAMPING = 1e-4
# Largest joint step of one iteration, rad: the linearisation holds no further.
_STEP = 0.3
_ITERATIONS = 60
# Rounds in which the joints that a step leaves on their limits are found: two or three do. And of these, the
# ones that exchange all wrong joints at once.
_PIVOTS, _BLOCK_PIVOTS = 50, 8
# Where singularities begin (smallest singular value of the weighted Jacobian; 0.7 at the FR3's home),
# and how firmly the joints are held at one. Six joints work near a singularity most of the time (0.06 at
# ALOHA's home, its wrist nearly in line): thirty times as firm and they lag 8 mrad behind a slow turn there,
# and rest 50 mrad off in line; less firm and nothing is calmer.
_SINGULAR = 0.3
_HOLD = 0.003
# How firmly they are held for each rad^2 (or 0.01 m^2) that the target is away: out of reach they would else
# tremble between postures that are equally near. On a way that is followed it comes to nothing.
_HOLD_FAR = 1.0
# An iteration that leaves more than this of the cost ends the search. A tick has others after it and need not
# crawl.
_STALLED, _STALLED_TICK = 0.9999, 0.99

# All searches for one target together take no more iterations than this.
_ALL_ITERATIONS = 200
# Another search is only worth it where the first brought the tool so much of the way nearer: a target out of
# reach, or an arm that stands at its limit since the call before, is left as it is.
_NEARER = 0.5
# How far from the start another search's joints may be: rad for each rad (or 0.1 m) that the tool has to go,
# and rad in all.
_AWAY_PER_WAY = 1.5
_AWAY = math.pi / 2
# Width of the difference in which a singular value's slope is taken, and the furthest mirrored posture, rad.
_WIDTH = 1e-4
_ASIDE = math.pi


@dataclass(frozen=True)
class Solution:
    """Joints that bring the tool to a target, or as near as was found.

    q: float64 [J]; position_error: m; rotation_error: rad, both of `forward(q)` against the target.
    """

    q: FloatArray
    position_error: float
    rotation_error: float

    @property
    def reached(self) -> bool:
        """Whether the target is met within 0.1 mm and 1 mrad."""
        return self.position_error <= POSITION_TOLERANCE and self.rotation_error <= ROTATION_TOLERANCE

    @property
    def distance(self) -> float:
        """Both errors in one, rad: 1 mm counts as 10 mrad."""
        return math.hypot(_POSITION_WEIGHT * self.position_error, self.rotation_error)


def descend(
    look: Look,
    goal: FloatArray,
    start: FloatArray,
    low: FloatArray,
    high: FloatArray,
    pull: FloatArray | None = None,
    iterations: int = _ITERATIONS,
) -> tuple[Solution, int]:
    """The nearest to `goal` (4x4) that going downhill from `start` finds within [low, high], and the
    iterations that it took.

    Levenberg-Marquardt with the damping of Sugihara (IEEE T-RO 27(5), 2011: proportional to the squared
    error, plus a floor). pull [J], rad: how far the redundant motion drifts in this call, which is then one
    tick of a control loop: the joints are held near a singularity and to a target far off (both judged at
    `start`), and what comes slowly is left to the next tick.
    """
    tick, hold = pull is not None, 0.0
    end = _STALLED_TICK if tick else _STALLED
    q, best_cost, scale = start, np.inf, 0.5
    for iteration in range(iterations):
        pose, jacobian = look(q)
        error = np.empty(6)
        error[:3] = goal[:3, 3] - pose[:3, 3]
        error[3:] = pin.log3(goal[:3, :3] @ pose[:3, :3].T)
        errors = (math.sqrt(error[:3] @ error[:3]), math.sqrt(error[3:] @ error[3:]))
        error[:3] *= _POSITION_WEIGHT
        jacobian[:3] *= _POSITION_WEIGHT
        cost = float(error @ error)
        if iteration == 0 and tick:
            hold = _hold_near_singularity(jacobian) + _HOLD_FAR * cost
        back = start - q
        total = cost + hold * float(back @ back)
        if total < best_cost:
            stalled = total > end * best_cost
            best, best_cost = (q, errors, jacobian, error, cost, back), total
            scale = max(scale * 0.5, 1e-3)
        else:
            # Further away than before: once more from there, more carefully.
            stalled = scale > 1e3
            q, errors, jacobian, error, cost, back = best
            scale *= 10.0
        if pull is None and (stalled or (errors[0] <= _POSITION_GOAL and errors[1] <= _ROTATION_GOAL)):
            break
        damping = scale * cost + _DAMPING
        anchor = hold * back if pull is None else hold * back + damping * pull
        step = _step(jacobian, error, damping + hold, anchor, low - q, high - q)
        if pull is not None:
            # The pull belongs to this call's first step only. It may cost a little, which the next ones make
            # up for.
            pull, best_cost = None, best_cost + ROTATION_TOLERANCE**2
        elif not step.any():
            break
        q = np.minimum(np.maximum(q + step, low), high)
    q, errors, *_ = best
    return Solution(np.array(q), *errors), iteration + 1


def search(look: Look, goal: FloatArray, start: FloatArray, low: FloatArray, high: FloatArray) -> Solution:
    """`descend`, and where that misses, again from postures beyond the nearest singularities.

    What stops a descent is nearly always a joint limit on the way that its branch takes: an elbow or a wrist
    bent to the other side meets the target. Only a miss from afar is tried again, and only joints count that
    are hardly further from the start than the tool is from the target (_NEARER, _AWAY_PER_WAY): a target that
    moves on a little, as along a line, never makes the arm jump to another branch.
    """
    first, used = descend(look, goal, start, low, high)
    if first.reached:
        return first
    way = _distance(look(start)[0], goal)
    if first.distance > _NEARER * way:
        return first
    away = min(_AWAY_PER_WAY * way, _AWAY)
    low, high = np.maximum(low, start - away), np.minimum(high, start + away)
    for begin in _others(look, first.q, start, low, high):
        left = _ALL_ITERATIONS - used
        if left <= 0:
            break
        other, more = descend(look, goal, begin, low, high, iterations=min(left, _ITERATIONS))
        used += more
        if other.reached:
            return other
    return first


def _others(
    look: Look, stuck: FloatArray, start: FloatArray, low: FloatArray, high: FloatArray
) -> Iterator[FloatArray]:
    """Postures [J] within [low, high] from which another branch may be found, the likeliest first."""
    for aside in _mirrored(look, stuck):
        yield np.minimum(np.maximum(stuck + aside, low), high)
    yield np.minimum(np.maximum(2 * start - stuck, low), high)
    yield (low + high) / 2


def _mirrored(look: Look, q: FloatArray) -> Iterator[FloatArray]:
    """The ways [J], rad, from q to where the tool is again across one of the two nearest singularities.

    Along the right singular vector v of a small singular value s with the left one u, the tool moves by
    s t + u^T (dJ/dv) v t^2 / 2 to second order: it is back at the other root. For an elbow that is the
    posture bent to the other side.
    """
    left, values, right = np.linalg.svd(_weighted(look(q)[1]), full_matrices=False)
    for u, value, v in list(zip(left.T, values, right, strict=True))[:-3:-1]:
        ahead, behind = _weighted(look(q + _WIDTH * v)[1]), _weighted(look(q - _WIDTH * v)[1])
        bend = float(u @ (ahead - behind) @ v) / (2 * _WIDTH)
        if 2.0 * value < _ASIDE * abs(bend):
            yield (-2.0 * value / bend) * v


def _weighted(jacobian: FloatArray) -> FloatArray:
    jacobian[:3] *= _POSITION_WEIGHT
    return jacobian


def _distance(pose: FloatArray, goal: FloatArray) -> float:
    """As `Solution.distance`, of a pose."""
    turn = pin.log3(goal[:3, :3] @ pose[:3, :3].T)
    return math.hypot(*(_POSITION_WEIGHT * (goal[:3, 3] - pose[:3, 3])), *turn)


def _hold_near_singularity(jacobian: FloatArray) -> float:
    """Weight that holds the joints where they are: 0 away from singularities, _HOLD at one.

    jacobian: 6xJ, weighted; its smallest singular value is the measure.
    """
    smallest = math.sqrt(max(np.linalg.eigvalsh(jacobian @ jacobian.T)[-min(jacobian.shape)], 0.0))
    nearness = max(0.0, 1.0 - smallest / _SINGULAR)
    return _HOLD * nearness * nearness


def _step(
    jacobian: FloatArray,
    error: FloatArray,
    damping: float,
    anchor: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> FloatArray:
    """Solve (J^T J + damping) d = J^T e + anchor for d [J] within [low, high], at most _STEP per joint.

    With anchor = damping * p this is the d that minimises |J d - e|^2 + damping |d - p|^2, which in the
    null space of J is p itself.
    """
    hessian = jacobian.T @ jacobian
    hessian.flat[:: len(hessian) + 1] += damping
    gradient = jacobian.T @ error + anchor
    step = np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)
    if ((step < low) | (step > high)).any():
        step = _within(hessian, gradient, step, low, high)
    largest = np.abs(step).max()
    return step * (_STEP / largest) if largest > _STEP else step


def _within(
    hessian: FloatArray, gradient: FloatArray, step: FloatArray, low: FloatArray, high: FloatArray
) -> FloatArray:
    """The d [J] within [low, high] that minimises d^T H d / 2 - g^T d; step: the free minimum.

    Block principal pivoting (Portugal, Judice and Vicente, Math. Comp. 63(208), 1994): joints outside are put
    on their edge, those that would rather come off theirs are released, all at once, and the rest is solved
    again until nothing changes. Should that go in circles, one at a time (Murty's rule), which cannot.
    """
    at_low: NDArray[np.bool_] = step < low
    at_high: NDArray[np.bool_] = step > high
    for pivot in range(_PIVOTS):
        step = np.where(at_low, low, np.where(at_high, high, 0.0))
        free = ~(at_low | at_high)
        if free.any():
            rest = gradient[free] - hessian[free] @ step
            step[free] = np.linalg.solve(hessian[np.ix_(free, free)], rest)
        push = gradient - hessian @ step
        to_low = np.where(free, step < low, at_low & (push < 0.0))
        to_high = np.where(free, step > high, at_high & (push > 0.0))
        wrong = (to_low != at_low) | (to_high != at_high)
        if not wrong.any():
            break
        if pivot >= _BLOCK_PIVOTS:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        at_low, at_high = np.where(wrong, to_low, at_low), np.where(wrong, to_high, at_high)
    return np.minimum(np.maximum(step, low), high)
