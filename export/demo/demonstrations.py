"""Make the demonstrations: the scripted expert drives the simulated arm, frames are stored.

What is executed is disturbed (smooth offsets, kicks, mistimed grasps, odd starts, varying delay);
what is stored as the label is the expert's clean chunk from the state measured at that frame, so
that recovery is learned and mistakes are not (DART, Laskey et al. 2017). Every frame is labelled for
each of the three blocks: the expert needs no memory, so the same picture teaches three instructions.

Shards of 20 episodes, ``.npz``; a finished shard is not made again. Seeds are below the evaluation
seeds of ``vla_ros.sim.task``.
"""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.spatial.transform import Rotation

from vla_ros.export.demo.encoding import COLORS, VIEWS, block_pixels, shrink, state_vector
from vla_ros.export.demo.expert import STEP_S, aligned_yaw, plan_chunk, pointing_down, tool_yaw
from vla_ros.export.demo.tracking import TICK_S, Plan, Tracker
from vla_ros.sim.task import EVALUATION_SEED_START, HOME_JOINTS, PickTask, draw_scene
from vla_ros.sim.world import World

EPISODES_PER_SHARD = 20
FRAME_TICKS = 10
EPISODE_LIMIT_S = 11.0
GRIP_FORCE = 30.0
GRIPPER_STATE_PERIOD_S = 1 / 15

FloatArray = NDArray[np.float64]


@dataclass
class Disturbance:
    """Smooth random offset of the executed target, an Ornstein-Uhlenbeck process plus kicks.

    Every new plan starts where the arm was pushed to, so an offset acts like a drift velocity of
    offset / 0.1 s: centimetres here become decimetres on the way.
    """

    rng: np.random.Generator
    sigma: FloatArray = field(init=False)
    value: FloatArray = field(init=False)
    kick: FloatArray = field(init=False)
    kick_left: float = 0.0

    def __post_init__(self) -> None:
        level = self.rng.choice([0.1, 0.45, 0.9], p=[0.3, 0.4, 0.3])
        # x y z [m], yaw, roll, pitch [rad]
        self.sigma = level * np.array([0.012, 0.012, 0.010, 0.10, 0.02, 0.02])
        self.value = self.rng.normal(size=6) * self.sigma
        self.kick = np.zeros(6)

    def step(self, dt: float, calm: float) -> FloatArray:
        """Next offset [6]. ``calm`` in [0, 1] scales it down near the grasp."""
        rate = dt / 0.5
        self.value += -rate * self.value + np.sqrt(2 * rate) * self.sigma * self.rng.normal(size=6)
        self.kick_left -= dt
        if self.kick_left <= 0:
            self.kick[:] = 0.0
            if self.rng.random() < 0.25 * dt:
                self.kick = self.rng.normal(size=6) * (0.016, 0.016, 0.012, 0.12, 0.02, 0.02)
                self.kick_left = self.rng.uniform(0.3, 0.7)
        return self.value * calm + self.kick


def _start(world: World, tracker: Tracker, rng: np.random.Generator, target: int) -> None:
    """Sometimes begin elsewhere than at home: anywhere, or close to a block."""
    kind = rng.random()
    if kind < 0.5:
        return
    if kind < 0.75:
        position = rng.uniform((0.33, -0.28, 0.10), (0.66, 0.28, 0.5))
        yaw = rng.uniform(-0.8, 0.8)
    else:
        index = target if rng.random() < 0.7 else int(rng.integers(3))
        block = world.block_pose(index)
        yaw = aligned_yaw(0.0, tool_yaw(block[:3, :3])) + rng.normal() * 0.35
        aside = rng.normal(size=2) * 0.025
        floor = 0.02 if np.linalg.norm(aside) < 0.008 else 0.075
        position = np.array([*(block[:2, 3] + aside), floor + abs(rng.normal()) * 0.05])
    tilt = Rotation.from_rotvec([*rng.normal(size=2) * 0.05, 0.0]).as_matrix()
    pose = np.eye(4)
    pose[:3, :3] = tilt @ pointing_down(yaw)
    pose[:3, 3] = position
    joints = tracker.solve(pose, np.array(HOME_JOINTS), iterations=40)
    width = 0.08 if rng.random() < 0.85 else rng.uniform(0.0, 0.08)
    world.place_arm(joints, width)
    tracker.reset()


class HeldYaw:
    """For the first seconds the hand is kept turned by changing angles instead of aligned.

    Otherwise it aligns from afar and pictures of a turned block at close range would be rare.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng([seed, 3])
        self._until = self._rng.uniform(2.0, 6.0)
        self._next = 0.0
        self._offset = 0.0

    def apply(self, pose: FloatArray, aligned: float, now: float) -> None:
        """Replace the rotation of ``pose`` in place; ``aligned``: yaw the expert wants [rad]."""
        if now >= self._until:
            return
        if now >= self._next:
            self._offset = self._rng.uniform(-0.8, 0.8)
            self._next = now + self._rng.uniform(0.6, 1.5)
        pose[:3, :3] = pointing_down(aligned + self._offset)


def run_episode(world: World, tracker: Tracker, seed: int, turned: bool = False) -> dict[str, NDArray]:
    """One disturbed episode; with the hand held turned for a while if ``turned``.

    Returns its frames as arrays whose first axis is time, and ``success`` (bool).
    """
    rng = np.random.default_rng([seed, 1])
    scene = draw_scene(seed)
    world.reset(scene)
    tracker.reset()
    _start(world, tracker, rng, scene.target)
    judge, noise = PickTask(scene.target), Disturbance(rng)
    held_yaw = HeldYaw(seed) if turned else None
    wanted_yaw = aligned_yaw(
        tool_yaw(world.tcp_pose[:3, :3]), tool_yaw(world.block_pose(scene.target)[:3, :3])
    )
    lead = rng.uniform(0.02, 0.06)
    early_grasp = rng.uniform(1.0, 4.0) if rng.random() < 0.2 else np.inf
    gripper_phase = rng.uniform(0, GRIPPER_STATE_PERIOD_S)
    gripper_age = rng.uniform(0.0, 0.03)
    widths = [world.gripper_width]
    physics_steps = round(TICK_S / world.timestep)
    active: Plan | None = None
    waiting: list[tuple[float, Plan]] = []
    gripper = np.nan
    finished = np.inf
    frames: dict[str, list] = {
        k: [] for k in ("images", "state", "labels", "tool", "blocks", "pixels", "width")
    }
    tick = 0
    while world.time < min(EPISODE_LIMIT_S, finished):
        now = tick * TICK_S
        if tick % FRAME_TICKS == 0:
            tool = world.tcp_pose
            blocks = np.stack([world.block_pose(i) for i in range(3)])
            chunks = [plan_chunk(tool, world.gripper_width, block) for block in blocks]
            labels, targets = chunks[scene.target]
            due = now + STEP_S * np.arange(1, len(labels) + 1, dtype=np.float64)
            waiting.append(
                (now + rng.uniform(0.02, 0.10), Plan(targets, labels[:, 9].astype(np.float64), due))
            )
            # The hand reports at 15 Hz and a little late.
            sampled = (now - gripper_age - gripper_phase) // GRIPPER_STATE_PERIOD_S
            sampled_at = max(0.0, sampled * GRIPPER_STATE_PERIOD_S + gripper_phase)
            width = widths[min(round(sampled_at / TICK_S), len(widths) - 1)]
            frames["images"].append(np.stack([shrink(world.render(c)) for c in VIEWS]))
            frames["state"].append(state_vector(tool, width))
            frames["labels"].append(np.stack([c[0] for c in chunks]))
            frames["tool"].append(tool.astype(np.float32))
            frames["blocks"].append(blocks.astype(np.float32))
            frames["pixels"].append(np.stack([block_pixels(world, c, blocks) for c in VIEWS]))
            frames["width"].append(world.gripper_width)
        while waiting and waiting[0][0] <= now:
            active = waiting.pop(0)[1]
        if active is not None:
            pose, value = active.at(now + lead)
            block = world.block_pose(scene.target)[:3, 3]
            near = float(np.linalg.norm(world.tcp_pose[:3, 3] - block))
            offset = noise.step(TICK_S, float(np.clip(near / 0.10, 0.12, 1.0)))
            pose = pose.copy()
            pose[:3, 3] += offset[:3]
            # The table is not part of the exercise.
            pose[2, 3] = max(pose[2, 3], 0.012)
            if held_yaw is not None:
                held_yaw.apply(pose, wanted_yaw, now)
            turn = Rotation.from_euler("zxy", offset[3:]).as_matrix()
            pose[:3, :3] = turn @ pose[:3, :3]
            tracker.track(pose)
            wanted = 0.0 if early_grasp <= now < early_grasp + 0.6 else float(value >= 0.5)
            if wanted != gripper:
                gripper = wanted
                world.command_gripper(0.08 * gripper, GRIP_FORCE)
        world.step(physics_steps)
        tick += 1
        widths.append(world.gripper_width)
        outcome = judge.update(world.block_heights(), world.time)
        if outcome != "running" and finished == np.inf:
            finished = world.time + 0.4
    count = len(frames["state"])
    arrays = {name: np.stack(values) for name, values in frames.items()}
    arrays["width"] = arrays["width"].astype(np.float32)
    arrays["colors"] = np.tile(
        np.array([COLORS.index(b.color) for b in scene.blocks], dtype=np.uint8), (count, 1)
    )
    arrays["target"] = np.full(count, scene.target, dtype=np.uint8)
    arrays["seed"] = np.full(count, seed, dtype=np.int32)
    arrays["success"] = np.array(judge.outcome == "success")
    return arrays


def make_shard(path: Path, first_seed: int, turned: bool, counter: Any) -> None:
    """Run 20 episodes from ``first_seed`` and write them as one file.

    ``counter``: shared integer (``multiprocessing.Value``), incremented per episode.
    """
    world = World()
    tracker = Tracker(world)
    episodes = []
    for seed in range(first_seed, first_seed + EPISODES_PER_SHARD):
        episodes.append(run_episode(world, tracker, seed, turned))
        with counter.get_lock():
            counter.value += 1
    merged: dict[str, Any] = {
        key: np.concatenate([e[key] for e in episodes]) for key in episodes[0] if key != "success"
    }
    merged["success"] = np.array([bool(e["success"]) for e in episodes])
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **merged)
    partial.rename(path)
    world.close()


def _work(jobs: Any, counter: Any) -> None:
    while True:
        job = jobs.get()
        if job is None:
            return
        make_shard(Path(job[0]), job[1], job[2], counter)


def main(
    out: Annotated[Path, typer.Option(help="Directory of the shards")] = Path("build/demo/data"),
    episodes: Annotated[int, typer.Option(min=20, help="Rounded up to whole shards of 20")] = 900,
    first_seed: Annotated[int, typer.Option(min=0)] = 0,
    processes: Annotated[int, typer.Option(min=1)] = 2,
    turned: Annotated[bool, typer.Option(help="Keep the hand turned for a while")] = False,
) -> None:
    """Make demonstrations of the pick task."""
    shards = -(-episodes // EPISODES_PER_SHARD)
    if first_seed + shards * EPISODES_PER_SHARD > EVALUATION_SEED_START:
        raise typer.BadParameter(
            f"--first-seed {first_seed} with {episodes} episodes reaches the evaluation seeds, "
            f"which start at {EVALUATION_SEED_START}"
        )
    out.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("spawn")
    jobs, counter = context.Queue(), context.Value("i", 0)
    todo = 0
    for index in range(shards):
        seed = first_seed + index * EPISODES_PER_SHARD
        path = out / f"shard_{seed:06d}.npz"
        if not path.exists():
            jobs.put((str(path), seed, turned))
            todo += EPISODES_PER_SHARD
    workers = [context.Process(target=_work, args=(jobs, counter)) for _ in range(processes)]
    for worker in workers:
        jobs.put(None)
        worker.start()
    columns = (TextColumn("episodes"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        task = progress.add_task("", total=todo)
        while any(w.is_alive() for w in workers):
            progress.update(task, completed=counter.value)
            time.sleep(0.5)
        progress.update(task, completed=counter.value)
    failed = [w.exitcode for w in workers if w.exitcode]
    if failed:
        raise SystemExit(f"a worker process ended with {failed[0]}; run again to resume")
    print(f"{shards} shards in {out}")


if __name__ == "__main__":
    typer.run(main)
