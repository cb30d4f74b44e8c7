"""Not one command beyond a limit, whatever is asked for: every robot YAML under attack, in virtual time.

A supervisor as control_node runs it is given hostile chunks and leader arms, requests at random, clocks that
jump, joint states and odometry that lie and a loop that misses ticks; everything it sends is held against
every limit.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from vla_ros.benchmarks._invariant_enemy import attacked
from vla_ros.benchmarks._invariant_judge import LIMITS, Worst, judge
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.resources import roots

# In all, over all robots.
TICKS = 1_000_000
# Of one seed: a robot that starts anew from home sees more of the beginnings.
ATTACK = 5_000


@dataclass(frozen=True)
class Attack:
    """What one seed did to one robot: counts by word, the worst of each limit, and other rules broken.

    moving: ticks in which an arm was sent somewhere; seconds: CPU time of the ticks.
    """

    robot: str
    seed: int
    ticks: int
    moving: int
    seconds: float
    worst: Sequence[Worst]
    complaints: Sequence[str]
    words: Counter[str]
    events: Counter[str]
    refused: Counter[str]

    @property
    def broken(self) -> list[str]:
        """What was broken, for people; the seed brings it back."""
        limits = [f"{worst.limit} ({worst.used:.4g})" for worst in self.worst if worst.broken]
        found = [*limits, *self.complaints[:3]]
        return [f"{self.robot}, seed {self.seed}: {text}" for text in found]


def attack(file: Path, ticks: int, seed: int) -> Attack:
    """Attack the robot of a YAML for so many ticks, and judge what it sent."""
    begin = time.process_time()
    robot, enemy = attacked(file, ticks, seed)
    seconds = time.process_time() - begin
    moving = robot.sources["policy"] + robot.sources["home"]
    complaints = [*robot.complaints, *(robot.base.complaints if robot.base is not None else ())]
    return Attack(
        robot.config.name, seed, ticks, moving, seconds, judge(robot), complaints,
        robot.words, robot.events, enemy.refused,
    )  # fmt: skip


def robots() -> list[Path]:
    """Every robot YAML that is installed."""
    return sorted(
        {path.stem: path for root in roots() for path in root.glob("robot_configs/*.yaml")}.values()
    )


def run(progress: Progress) -> Bench:
    """Every robot, in as many processes as there are cores."""
    files = robots()
    seeds = -(-TICKS // (ATTACK * len(files)))
    attacks = []
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(attack, file, ATTACK, seed) for seed in range(seeds) for file in files]
        for done, job in enumerate(as_completed(jobs), 1):
            attacks.append(job.result())
            broken = sum(bool(each.broken) for each in attacks)
            progress(f"{done * ATTACK} of {len(jobs) * ATTACK} ticks, {broken} attacks with a limit broken")
    rows = [row for file in files for row in _rows([each for each in attacks if each.robot == file.stem])]
    broken_texts = [text for each in attacks for text in each.broken]
    notes = [
        "used: share of a limit that was used at most; least left: of a distance that is to be kept, in mm.",
        "speeds, acceleration and jerk: finite differences of all that was sent, 1e-6 allowed for rounding;",
        "workspace 8 mm and distances 5 mm allowed, for the way between two ticks is not straight.",
        *broken_texts[:20],
    ]
    return Bench(f"invariant: {len(attacks) * ATTACK} ticks under attack", rows, notes)


def _rows(attacks: Sequence[Attack]) -> Iterator[dict[str, Value]]:
    """One robot's rows: a first one for its ticks, then one per limit."""
    name = attacks[0].robot
    ticks = sum(each.ticks for each in attacks)
    complaints = sum(len(each.complaints) for each in attacks)
    yield {
        "robot": name,
        "limit": "rules of streams and holds",
        "ticks": ticks,
        "moving": sum(each.moving for each in attacks),
        "ticks_per_s": ticks / sum(each.seconds for each in attacks),
        "broken": complaints,
        "target": "0 broken",
        "met": complaints == 0,
    }
    for limit in LIMITS:
        worst = [each for attack in attacks for each in attack.worst if each.limit == limit]
        if not worst:
            continue
        broken = sum(each.broken for each in worst)
        distance = limit in ("forbidden", "arm_distance")
        used = min(each.used for each in worst) if distance else max(each.used for each in worst)
        yield {
            "robot": name,
            "limit": limit,
            "used": None if distance else used,
            "least_left_mm": used * 1000 if distance else None,
            "broken": broken,
            "target": "0 broken",
            "met": broken == 0,
        }
