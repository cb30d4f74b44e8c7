"""The demo task in closed loop under latency: success and duration of every mode, in virtual time.

Inference takes 0 to 500 ms, +-30 %, whatever it costs this machine; scenes are those of seeds that training
never saw. Everything between cameras and joints is the runtime's own, see `_latency_episode`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

import numpy as np

from vla_ros.action.schedule import MODES
from vla_ros.benchmarks._latency_episode import JITTER, PERIOD_NS, SYNC_STEPS, Cell, Episode
from vla_ros.benchmarks._latency_plot import Curve, panels
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.sim.task import EVALUATION_SEED_START

LATENCIES_MS = (0, 100, 200, 300, 500)
SEEDS = 50
GOAL_LATENCY_MS, GOAL_POINTS, GOAL_TIMES = 300, 5.0, 1.2
REPORT_EVERY = 25

Job = tuple[int, str, float]


def run(progress: Progress) -> Bench:
    """The table and the plot; needs the bundle `franka_pick` and the FR3's twin with EGL."""
    jobs = all_jobs(SEEDS)
    done = []
    for episode in episodes(jobs, max(1, len(os.sched_getaffinity(0)))):
        done.append(episode)
        if len(done) % REPORT_EVERY == 0:
            progress(f"{len(done)} of {len(jobs)} episodes")
    return report(done)


def all_jobs(seeds: int) -> list[Job]:
    """(seed, mode, latency in ms), seed by seed: what is there at any time compares all modes alike."""
    first = EVALUATION_SEED_START
    return [
        (seed, mode, latency)
        for seed in range(first, first + seeds)
        for latency in LATENCIES_MS
        for mode in MODES
    ]


def episodes(jobs: Sequence[Job], processes: int) -> Iterator[Episode]:
    """Run all jobs, in processes of their own; in the order of the jobs."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare) as pool:
        yield from pool.map(_work, jobs)


_cell: Cell | None = None


def _prepare() -> None:
    global _cell
    _cell = Cell()


def _work(job: Job) -> Episode:
    assert _cell is not None
    return _cell.run(*job)


def report(done: Iterable[Episode]) -> Bench:
    """Rows per latency and mode, whether the goal is met, and the plot."""
    cells: dict[tuple[float, str], list[Episode]] = {}
    for episode in done:
        cells.setdefault((episode.latency_ms, episode.mode), []).append(episode)
    rows = [_row(latency, mode, found) for (latency, mode), found in sorted(cells.items(), key=_order)]
    rows.append(_goal(cells))
    count = max(len(found) for found in cells.values())
    notes = [
        f"{count} unseen seeds each, from {EVALUATION_SEED_START}. latency: from the images to the chunk, "
        f"+-{100 * JITTER:.0f} %. interval: 95 %, Wilson. seconds: median of the successes, from the start. "
        "lost: how often per episode the policy's chunks ran out and the arm was brought to a hold.",
        f"Inference back to back, {1e9 / PERIOD_NS:.0f} Hz (the rate of the training data) at most; sync: "
        f"{SYNC_STEPS} steps of each chunk, then the next observation. Limits on.",
    ]
    if any(mode == "rtc" for _, mode in cells):
        notes.append(
            "rtc: crossfade, of chunks that the policy was guided to continue where its bundle can be."
        )
    return Bench("latency: the demo task in closed loop", rows, notes, plot=chart(cells))


def _order(item: tuple[tuple[float, str], object]) -> tuple[float, int]:
    (latency, mode), _ = item
    return latency, [str(known) for known in MODES].index(mode)


def _row(latency_ms: float, mode: str, found: list[Episode]) -> dict[str, Value]:
    won = _won(found)
    interval = wilson_interval(len(won), len(found))
    return {
        "latency_ms": latency_ms,
        "mode": mode,
        "success_%": round(100 * len(won) / len(found), 1),
        "interval_%": f"{100 * interval.low:.0f} to {100 * interval.high:.0f}",
        "seconds": _median_s(won),
        "wrong_block": sum(episode.outcome == "wrong_block" for episode in found),
        "timeout": sum(episode.outcome == "timeout" for episode in found),
        "episodes": len(found),
        "chunks_per_s": round(_mean([episode.chunks / episode.seconds for episode in found]), 2),
        "lost": round(_mean([sum(episode.holds.values()) for episode in found]), 2),
        "target": None,
        "met": None,
    }


def _goal(cells: dict[tuple[float, str], list[Episode]]) -> dict[str, Value]:
    """The mode that is best at the goal's latency, against itself without latency."""
    late = {mode: _won(found) for (latency, mode), found in cells.items() if latency == GOAL_LATENCY_MS}
    best = max(late, key=lambda mode: (len(late[mode]), -(_median_s(late[mode]) or np.inf)))
    found, before = cells[GOAL_LATENCY_MS, best], cells[0, best]
    won, won_before = late[best], _won(before)
    lost_points = 100 * (len(won_before) / len(before) - len(won) / len(found))
    seconds, seconds_before = _median_s(won), _median_s(won_before)
    times = seconds / seconds_before if seconds and seconds_before else float("inf")
    return {
        "latency_ms": GOAL_LATENCY_MS,
        "mode": f"best: {best}; loses {lost_points:.0f} points, {times:.2f} times as long as at 0 ms",
        "target": f"loses <= {GOAL_POINTS:g} points, <= {GOAL_TIMES:g} times as long",
        "met": lost_points <= GOAL_POINTS + 1e-9 and times <= GOAL_TIMES,
    }


def chart(cells: dict[tuple[float, str], list[Episode]]) -> str:
    """Success and duration against latency, one curve per mode, as a standalone SVG."""
    latencies = sorted({latency for latency, _ in cells})
    success, duration = [], []
    for mode in MODES:
        found = [cells.get((latency, mode), []) for latency in latencies]
        if not any(found):
            continue
        counts = [(len(_won(each)), len(each)) for each in found]
        bounds = [wilson_interval(*count) for count in counts]
        shares = [100 * won / total if total else np.nan for won, total in counts]
        success.append(
            Curve(mode, latencies, shares, [100 * b.low for b in bounds], [100 * b.high for b in bounds])
        )
        seconds = [[episode.seconds for episode in _won(each)] for each in found]
        quartiles = np.array(
            [np.percentile(each, [25, 50, 75]) if each else [np.nan] * 3 for each in seconds]
        )
        duration.append(Curve(mode, latencies, quartiles[:, 1], quartiles[:, 0], quartiles[:, 2]))
    lowest = min(float(np.min(np.asarray(curve.low))) for curve in success)
    return panels(
        "inference latency, ms",
        [
            ("success, % (95 % interval)", (10.0 * np.floor(lowest / 10.0), 102.0), success),
            ("seconds to success, median (quartiles)", None, duration),
        ],
    )


def _won(found: list[Episode]) -> list[Episode]:
    return [episode for episode in found if episode.outcome == "success"]


def _median_s(won: list[Episode]) -> float | None:
    return round(float(np.median([episode.seconds for episode in won])), 2) if won else None


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))
