"""Inverse kinematics of every arm of every robot YAML, within the YAML's position limits.

- random: ten thousand reachable poses per arm, each solved from joints a control step away (30 mrad standard
  deviation per joint), and from 0.1 and 0.3 rad away, as the first target after a start may be.
- lines: straight ways between postures some 0.15 rad apart, followed at 100 Hz as the control loop does. Some
  lead through places that the arm cannot get to: those for which no start gives a solution are counted apart.
- lines through the wrist in line: to both sides of postures in which the axes before and behind the wrist's
  middle joint are in line. There the tool lags while two joints make a quarter turn.
- beyond reach: targets 0.1 to 0.5 m further out than the arm is long, and how many of the postures found had
  a nearer one around them.

A pose is met within 0.1 mm and 1 mrad.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.benchmarks.invariant import robots
from vla_ros.robot.kinematics import Kinematics, Solution
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import FloatArray

POSES, LINES, STARTS, BEYOND, NEIGHBOURS = 10_000, 100, 30, 200, 200
AWAY = (0.03, 0.1, 0.3)
TARGET_P50_MS = 0.5
TICKS, RESTS = 200, 100
# The joint that brings the axes before and behind it in line at 0; all these wrists have it last but one.
WRIST = -2
# A posture is nearer if it takes this share off the cost.
NEARER = 0.01
# The share of the joints' velocity limits that may be used while a line is followed.
SPEED_SHARE = 0.8


@dataclass(frozen=True)
class Case:
    """One arm: its kinematics with the YAML's limits, its home, and the longest joint step in a tick, rad."""

    name: str
    arm: Kinematics
    home: FloatArray
    reach: FloatArray


def run(progress: Progress) -> Bench:
    """All arms; the same arm of a second robot or side is not measured again."""
    rows: list[dict[str, Value]] = []
    for case in cases():
        progress(case.name)
        rng = np.random.default_rng(0)
        for away in AWAY:
            rows.append(_random(case, away, rng))
        rows.append(_lines(case, False, rng))
        if case.arm.lower[WRIST] < 0.0 < case.arm.upper[WRIST]:
            rows.append(_lines(case, True, rng))
        rows.append(_beyond(case, rng))
    notes = [
        "one solution per call of `inverse`, one thread. worst: of all poses, met or not.",
        "0.1 and 0.3 rad away a pose may lie behind a joint limit or a singularity, where no way leads that "
        "only ever comes nearer: then postures beyond the nearest singularities are tried. The end of a line "
        "that another posture would reach, but no steady way from here, counts as not met.",
    ]
    return Bench("kinematics: inverse kinematics of every arm", rows, notes)


def cases() -> Iterator[Case]:
    """Every arm of every installed robot, each kind once."""
    seen = set()
    for file in robots():
        robot = load_robot(file)
        for arm_name, arm in robot.arms.items():
            kinematics = Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
            kinematics.lower, kinematics.upper = np.array(arm.limits.position).T
            somewhere = kinematics.forward(0.4 * kinematics.lower + 0.6 * kinematics.upper)
            kind = (str(arm.limits.position), somewhere.round(9).tobytes())
            if kind in seen:
                continue
            seen.add(kind)
            reach = SPEED_SHARE * np.array(arm.limits.velocity) * 0.01
            name = robot.name if len(robot.arms) == 1 else f"{robot.name}/{arm_name}"
            yield Case(name, kinematics, np.array(arm.home), reach)


def met(solution: Solution, arm: Kinematics) -> bool:
    """Whether a target is met, within the limits."""
    return solution.reached and bool(np.all((solution.q >= arm.lower) & (solution.q <= arm.upper)))


def _random(case: Case, away: float, rng: np.random.Generator) -> dict[str, Value]:
    arm = case.arm
    milliseconds = np.empty(POSES)
    position, rotation = np.empty(POSES), np.empty(POSES)
    missed = 0
    for index, q in enumerate(rng.uniform(arm.lower, arm.upper, (POSES, len(arm.lower)))):
        target = arm.forward(q)
        start = np.clip(q + rng.normal(0.0, away, len(q)), arm.lower, arm.upper)
        begin = time.perf_counter()
        solution = arm.inverse(target, start, arm.lower, arm.upper)
        milliseconds[index] = 1e3 * (time.perf_counter() - begin)
        position[index], rotation[index] = solution.position_error, solution.rotation_error
        missed += not met(solution, arm)
    p50, p99 = (float(value) for value in np.percentile(milliseconds, [50, 99]))
    step = away == AWAY[0]
    return {
        "arm": case.name,
        "what": f"random, {away:g} rad away",
        "poses": POSES,
        "not_met": missed,
        "worst_mm": 1e3 * float(position.max()),
        "worst_mrad": 1e3 * float(rotation.max()),
        "p50_ms": p50,
        "p99_ms": p99,
        "target": f"all met, p50 <= {TARGET_P50_MS:g} ms" if step else None,
        "met": missed == 0 and p50 <= TARGET_P50_MS if step else None,
    }


def _lines(case: Case, in_line: bool, rng: np.random.Generator) -> dict[str, Value]:
    """Straight ways between two postures that are near each other, as the control loop follows them."""
    arm = case.arm
    milliseconds, position, rotation = [], [], []
    not_met = ends = impossible = 0
    for _ in range(LINES):
        one, other = _ends(case, in_line, rng)
        q, ticks = one, []
        way = list(_way(arm.forward(one), arm.forward(other)))
        for target in way:
            low, high = np.maximum(arm.lower, q - case.reach), np.minimum(arm.upper, q + case.reach)
            begin = time.perf_counter()
            ticks.append(arm.inverse(target, q, low, high, case.home))
            milliseconds.append(1e3 * (time.perf_counter() - begin))
            q = ticks[-1].q
        missed = [index for index, solution in enumerate(ticks) if not solution.reached]
        if missed and not _possible(arm, way[max(missed, key=lambda n: ticks[n].position_error)], one, rng):
            impossible += 1
            continue
        position += [solution.position_error for solution in ticks]
        rotation += [solution.rotation_error for solution in ticks]
        not_met += len(missed)
        ends += not met(ticks[-1], arm)
    p50, p99 = (float(value) for value in np.percentile(milliseconds, [50, 99]))
    return {
        "arm": case.name,
        "what": "lines through the wrist in line" if in_line else "lines",
        "poses": len(position),
        "not_met": not_met,
        "worst_mm": 1e3 * max(position),
        "worst_mrad": 1e3 * max(rotation),
        "p50_ms": p50,
        "p99_ms": p99,
        "target": f"p50 <= {TARGET_P50_MS:g} ms",
        "met": p50 <= TARGET_P50_MS,
        "lines_not_met_at_end": ends,
        "lines_without_solution": impossible,
    }


def _possible(arm: Kinematics, target: FloatArray, start: FloatArray, rng: np.random.Generator) -> bool:
    """Whether some posture meets a target, as far as many starts can tell."""
    starts = [start, *rng.uniform(arm.lower, arm.upper, (STARTS, len(start)))]
    return any(arm.inverse(target, each, arm.lower, arm.upper).reached for each in starts)


def _ends(case: Case, in_line: bool, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """Two postures, 0.05 rad per joint (standard deviation) to both sides of a random one; in_line: that one
    has its wrist in line, and it is turned 0.1 rad to each side."""
    low, high = case.arm.lower, case.arm.upper
    middle = rng.uniform(low, high)
    aside = rng.normal(0.0, 0.05, len(low))
    if in_line:
        middle[WRIST], aside[WRIST] = 0.0, 0.1
    return np.clip(middle + aside, low, high), np.clip(middle - aside, low, high)


def _way(one: FloatArray, other: FloatArray) -> Iterator[FloatArray]:
    """Poses 4x4 at 100 Hz along the straight line, turning about one axis, from rest to rest; then a rest."""
    turn = pin.log3(one[:3, :3].T @ other[:3, :3])
    share = np.linspace(0.0, 1.0, TICKS)
    for value in [*(share**2 * (3 - 2 * share)), *np.ones(RESTS)]:
        pose = np.eye(4)
        pose[:3, :3] = one[:3, :3] @ pin.exp3(value * turn)
        pose[:3, 3] = (1 - value) * one[:3, 3] + value * other[:3, 3]
        yield pose


def _beyond(case: Case, rng: np.random.Generator) -> dict[str, Value]:
    """Targets moved out of reach, from where they were reached: what is found, against postures around it."""
    arm = case.arm
    nearer = said_met = 0
    for q in rng.uniform(arm.lower, arm.upper, (BEYOND, len(arm.lower))):
        target = arm.forward(q)
        outwards = target[:3, 3] / np.linalg.norm(target[:3, 3])
        furthest = float(np.sum(np.linalg.norm(np.diff(_origins(arm, q), axis=0), axis=1)))
        target[:3, 3] = outwards * (furthest + rng.uniform(0.1, 0.5))
        solution = arm.inverse(target, q, arm.lower, arm.upper)
        said_met += solution.reached
        cost = _cost(arm.forward(solution.q), target)
        around = solution.q + rng.normal(0.0, 0.02, (NEIGHBOURS, len(q)))
        best = min(_cost(arm.forward(other), target) for other in np.clip(around, arm.lower, arm.upper))
        nearer += best < (1 - NEARER) * cost
    return {
        "arm": case.name,
        "what": "beyond reach",
        "poses": BEYOND,
        "not_met": BEYOND - said_met,
        "nearer_postures_around": nearer,
        "target": "none said to be met",
        "met": said_met == 0,
    }


def _origins(arm: Kinematics, q: FloatArray) -> FloatArray:
    """Where base, joints and tool are, [J + 2, 3] m: the way along the arm is the furthest it can reach."""
    data = arm.model.createData()
    ordered = q[[arm.joints.index(name) for name in arm.model.names[1:]]]
    pin.framesForwardKinematics(arm.model, data, ordered)
    base = data.oMf[arm.base].translation
    return np.array(
        [base, *(placement.translation for placement in data.oMi[1:]), data.oMf[arm.tool].translation]
    )


def _cost(pose: FloatArray, target: FloatArray) -> float:
    """What inverse kinematics makes small: 1 mm weighs as much as 10 mrad."""
    turn = pin.log3(target[:3, :3] @ pose[:3, :3].T)
    return float(100.0 * np.sum((pose[:3, 3] - target[:3, 3]) ** 2) + turn @ turn)
