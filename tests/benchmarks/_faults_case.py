"""One fault: what is done, what it may lead to, and how a run of it is played and judged."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.benchmarks._faults_judge import (
    DRIVER_PERIOD_S,
    NS,
    Limits,
    carried_out,
    largest_motion,
    limit_use,
    rest_from,
    stretches,
    worst,
)
from vla_ros.benchmarks._faults_stage import Stage
from vla_ros.errors import VlaRosError
from vla_ros.nodes.operator import GraphError

Row = dict[str, Any]
ITSELF, START, RESET, NOT = "by itself", "after start", "after reset", "not"
WARN = 30  # rcl_interfaces/Log
# Slower than this, rad/s, is at rest; the driver's own settling is slower.
STILL = 0.02
# After the hold nothing may move further than this, rad: what a position-controlled arm settles by.
SETTLING = 0.002
# Finite differences of float64 positions at 100 Hz have this relative error in the jerk.
ROUNDING = 1e-3
ITSELF_S, ASKED_S = 6.0, 15.0


@dataclass(frozen=True)
class Bound:
    """Within which time a fault has to be noticed, and what says so."""

    ms: float
    source: str


@dataclass(frozen=True)
class Fault:
    """See the module.

    inject, mend: begin and end it. lasts_s: how long it stays. arm: "holds" (has to come to rest within it
    and stay there), "moves" (has to go on), "either". bound: None where going on is the right answer and
    nothing has to be noticed. words: a pattern of the warnings that count as notice, beside a change of
    source (to `source`, to any when None). recovery: the right ways back. prepare: brings the arm into the
    state in which the fault comes. driver_runs: whether the arm's own motion can be judged meanwhile;
    driver_hears: whether commands reach it meanwhile.
    """

    name: str
    inject: Callable[[Stage], object]
    mend: Callable[[Stage], object]
    lasts_s: float
    arm: str
    bound: Callable[[Stage], Bound] | None
    words: str = "$^"
    recovery: tuple[str, ...] = (ITSELF,)
    prepare: Callable[[Stage], object] = Stage.start_moving
    source: str | None = None
    driver_runs: bool = True
    driver_hears: bool = True


def play(fault: Fault, stage: Stage) -> Row:
    """Bring the arm into motion, inject, watch, mend, watch it recover; returns the table's row."""
    stage.rest()
    fault.prepare(stage)
    before = stage.observer.source
    begin_ns = stage.begin_ns = time.time_ns()
    fault.inject(stage)
    stage.operator.sleep(fault.lasts_s - (time.time_ns() - begin_ns) / NS)
    end_ns = time.time_ns()
    fault.mend(stage)
    recovered, after_s = recover(stage, fault, time.time_ns())
    done_ns = time.time_ns()
    stage.operator.sleep(0.1)
    return judge(fault, stage, before, (begin_ns, end_ns, done_ns), recovered, after_s)


def recover(stage: Stage, fault: Fault, mended_ns: int) -> tuple[str, float]:
    """("by itself", "after start", "after reset" or "not", seconds from the fault's end, or from what was
    asked, until the policy controls the arm again)."""

    def controls() -> bool:
        observer = stage.observer
        fresh = bool(observer.chunks) and observer.chunks[-1][0] > mended_ns
        return observer.source == "policy" and fresh and stage.observer.sent[-1].at_ns > mended_ns

    for how, services, patience_s in (
        (ITSELF, (), ITSELF_S if ITSELF in fault.recovery else 0.5),
        (START, ("policy_node/start", "control_node/start"), ASKED_S),
        (RESET, ("control_node/reset", "policy_node/start", "control_node/start"), ASKED_S),
    ):
        begin = time.monotonic()
        try:
            for service in services:
                stage.operator.trigger(service)
            stage.wait(controls, patience_s, "the policy to control the arm")
        except GraphError:
            stage.watch()
            continue
        return how, time.monotonic() - begin
    return NOT, float("nan")


def judge(
    fault: Fault, stage: Stage, before: str, times: tuple[int, int, int], recovered: str, after_s: float
) -> Row:
    """The row of a fault, from what was recorded between its preparation and its recovery."""
    begin_ns, end_ns, done_ns = times
    observer = stage.observer
    noticed_ns, told = noticed(fault, stage, before, begin_ns, end_ns)
    held_ns = left_policy(stage, before, begin_ns, end_ns)
    sent = [each for each in list(observer.sent) if each.at_ns <= done_ns]
    if not fault.driver_hears:
        sent = [each for each in sent if not begin_ns <= each.at_ns <= end_ns]
    given = stage.arm.limits
    limits = Limits(*map(np.array, (given.position, given.velocity, given.acceleration, given.jerk)))
    # Before the first message the driver held the arm where the scene put it.
    reference = carried_out(sent, stage.arm.joints, observer.joints[0][1])
    if stage.sim_time:
        # Simulated time comes in steps, and late: each tick's command counts, not when the driver had it.
        use = worst(
            limit_use(stretch, stage.period_s, limits)
            for stretch in stretches(list(observer.commands), stage.period_s)
        )
    else:
        use = limit_use(reference, DRIVER_PERIOD_S, limits)
    moves = [at for at, source in list(observer.sources) if source in ("policy", "home")]
    moved_again_ns = next((at for at in moves if at > (held_ns or end_ns)), done_ns)
    joints = [(at, q) for at, q in list(observer.joints) if begin_ns <= at <= done_ns]
    joint_times = np.array([at for at, _ in joints], dtype=np.float64)
    joint_q = np.array([q for _, q in joints])
    rested_ns = rest_from(joint_times, joint_q, STILL, min(moved_again_ns, end_ns)) if len(joints) else None
    if not fault.driver_runs:
        rested_ns = None
    after_hold = None
    if rested_ns is not None and held_or_dead(fault, held_ns):
        window = (joint_times >= rested_ns) & (joint_times <= moved_again_ns)
        after_hold = largest_motion(joint_q[window])
    bound = fault.bound(stage) if fault.bound is not None else None
    detected_ms = None if noticed_ns is None else (noticed_ns - begin_ns) / 1e6
    did = what_the_arm_did(fault, held_ns, rested_ns, begin_ns)
    met = (
        (bound is None or (detected_ms is not None and detected_ms <= bound.ms))
        and use.share <= 1 + ROUNDING
        and (after_hold is None or after_hold <= SETTLING)
        and (fault.arm != "holds" or (rested_ns is not None or not fault.driver_runs))
        and (fault.arm != "moves" or held_ns is None)
        and recovered in fault.recovery
    )
    if not met:
        file = stage.logs / f"{re.sub('[^a-z0-9]+', '_', fault.name.lower())}.npz"
        first_ns = sent[0].at_ns if sent else 0
        sources = [f"{at} {source}" for at, source in observer.sources]
        published = [(each.at_ns, each.stamp_ns, *each.points[0].positions) for each in sent]
        marks = np.array([first_ns, begin_ns, end_ns, done_ns])
        np.savez(file, reference=reference, times=marks, sources=sources, sent=np.array(published))
    return {
        "fault": fault.name,
        "detected_ms": None if detected_ms is None else round(detected_ms, 1),
        "bound": "" if bound is None else f"{bound.ms:.0f} ms: {bound.source}",
        "told": told,
        "arm": did,
        "largest_limit_use": round(use.share, 4),
        "limit": use.what,
        "motion_after_hold_rad": None if after_hold is None else round(after_hold, 5),
        "recovered": recovered,
        "recovered_after_s": None if np.isnan(after_s) else round(after_s, 2),
        "met": bool(met),
    }


def held_or_dead(fault: Fault, held_ns: int | None) -> bool:
    """Whether the arm is to be at rest from some moment on."""
    return held_ns is not None or fault.arm == "holds"


def left_policy(stage: Stage, before: str, begin_ns: int, end_ns: int) -> int | None:
    """When control_node first said that another source than `before` controls the arm."""
    return next(
        (at for at, source in list(stage.observer.sources) if begin_ns < at <= end_ns and source != before),
        None,
    )


def noticed(fault: Fault, stage: Stage, before: str, begin_ns: int, end_ns: int) -> tuple[int | None, str]:
    """(when the graph first said that something is wrong, in what words)."""
    found: list[tuple[int, str]] = []
    for at, source in list(stage.observer.sources):
        if begin_ns < at <= end_ns and source != before and fault.source in (None, source):
            found.append((at, f"source {source}"))
            break
    for said in list(stage.observer.log):
        if begin_ns < said.at_ns <= end_ns and said.level >= WARN and re.search(fault.words, said.text):
            found.append((said.at_ns, said.text))
            break
    if not found:
        return None, ""
    at = min(found)[0]
    text = next((text for _, text in reversed(found) if not text.startswith("source ")), found[0][1])
    return at, " ".join(text.split())[:100]


def what_the_arm_did(fault: Fault, held_ns: int | None, rested_ns: float | None, begin_ns: int) -> str:
    """Words for the table."""
    if held_ns is None and fault.arm != "holds":
        return "kept moving"
    parts = []
    if held_ns is not None:
        parts.append(f"hold after {(held_ns - begin_ns) / 1e6:.0f} ms")
    if rested_ns is not None:
        parts.append(f"at rest after {(rested_ns - begin_ns) / 1e6:.0f} ms")
    return ", ".join(parts) or "did not come to rest"


def broken(fault: Fault, error: VlaRosError) -> Row:
    """The row of a fault that could not be played to its end."""
    return {
        "fault": fault.name,
        "detected_ms": None,
        "bound": "",
        "told": " ".join(str(error).split())[:300],
        "arm": "",
        "largest_limit_use": None,
        "limit": "",
        "motion_after_hold_rad": None,
        "recovered": NOT,
        "recovered_after_s": None,
        "met": False,
    }
