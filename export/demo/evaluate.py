"""Closed-loop success of a policy in the simulator, without ROS, on seeds never trained on.

Timing follows the real graph: observations are taken every ``--period``, the chunk arrives after
``--delay``, each step is due at the observation's time plus k x 0.1 s, the command looks ahead by the
actuation latency, and the hand reports its width at 15 Hz. A chunk that arrives is decoded as policy_node
decodes it, with what was asked of the hand before.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from vla_ros.action.decode import decode
from vla_ros.action.last_targets import LastTargets
from vla_ros.action.normalise import Scaling, normalise
from vla_ros.action.rotations import matrix_to_quaternion, quaternion_to_matrix
from vla_ros.action.schedule import MODES, make_scheduler
from vla_ros.evaluation.statistics import wilson_interval
from vla_ros.export.demo.encoding import VIEWS, shrink, state_vector
from vla_ros.export.demo.expert import ACTION_SIZE, HORIZON
from vla_ros.export.demo.manifest import manifest_fields
from vla_ros.export.demo.text import encode
from vla_ros.export.demo.tracking import TICK_S, Tracker
from vla_ros.policy.manifest import Manifest
from vla_ros.resources import robot_config
from vla_ros.robot.channels import gripper_channel
from vla_ros.robot.config import Robot
from vla_ros.robot.load import load_robot
from vla_ros.sim.task import EVALUATION_SEED_START, TIME_LIMIT, PickTask, draw_scene
from vla_ros.sim.world import World
from vla_ros.types import FloatArray, Observation, RawChunk

GRIP_FORCE = 30.0
GRIPPER_STATE_PERIOD_S = 1 / 15
LEAD_S = 0.04

# images [2, 96, 128, 3] uint8, tokens int64 [16], state float32 [10] normalised, noise [16, 10]
# -> normalised chunk float32 [16, 10]
Infer = Callable[
    [NDArray[np.uint8], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]],
    NDArray[np.float32],
]


@dataclass(frozen=True)
class Policy:
    """A network with what its bundle declares, and the scaling of its action and its state."""

    infer: Infer
    tokenizer: Any
    manifest: Manifest
    action: Scaling
    proprio: Scaling


@dataclass(frozen=True)
class Timing:
    """Seconds between observations, and from an observation to its chunk."""

    period: float
    delay: float
    mode: str = "ensemble"


@dataclass(frozen=True)
class Episode:
    """What became of one seed. ``closest``: smallest distance of tool and named block [m]."""

    seed: int
    outcome: str
    duration: float
    closest: float


@cache
def franka() -> Robot:
    """The robot that the demo policy is for."""
    return load_robot(robot_config("franka"))


def observed(tool: FloatArray, width: float, stamp: float) -> Observation:
    """What a chunk is decoded from: tool pose [4, 4] and gripper width [m] at ``stamp`` [s]."""
    pose = np.concatenate([tool[:3, 3], matrix_to_quaternion(tool[:3, :3])])
    state = {"arm/tcp_pose": pose, "arm/gripper": np.array([width])}
    return Observation({}, state, "", {}, round(stamp * 1e9))


def run(world: World, tracker: Tracker, policy: Policy, seed: int, timing: Timing) -> Episode:
    """One episode of one seed."""
    rng = np.random.default_rng([seed, 2])
    scene = draw_scene(seed)
    world.reset(scene)
    tracker.reset()
    judge = PickTask(scene.target)
    tokens = encode(policy.tokenizer, scene.instruction)
    physics_steps = round(TICK_S / world.timestep)
    period = max(1, round(timing.period / TICK_S))
    phase = rng.uniform(0, GRIPPER_STATE_PERIOD_S)
    widths = [world.gripper_width]
    waiting: list[tuple[float, RawChunk, Observation]] = []
    asked = LastTargets(policy.manifest.outputs)
    hand = franka().arms["arm"].gripper
    assert hand is not None
    scheduler = make_scheduler(timing.mode, {gripper_channel("arm"): hand.width})
    gripper, closest, tick = np.nan, np.inf, 0
    while judge.outcome == "running":
        now = tick * TICK_S
        if tick % period == 0:
            tool = world.tcp_pose
            sampled = max(0.0, (now - phase) // GRIPPER_STATE_PERIOD_S * GRIPPER_STATE_PERIOD_S)
            width = widths[min(round((sampled + phase) / TICK_S), len(widths) - 1)]
            images = np.stack([shrink(world.render(camera)) for camera in VIEWS])
            state = normalise(state_vector(tool, width), policy.proprio).astype(np.float32)
            noise = rng.standard_normal((HORIZON, ACTION_SIZE), dtype=np.float32)
            raw = RawChunk(policy.infer(images, tokens, state, noise))
            waiting.append((now + timing.delay, raw, observed(tool, width, now)))
        while waiting and waiting[0][0] <= now + 1e-9:
            _, raw, seen = waiting.pop(0)
            chunk = decode(raw, seen, policy.manifest, policy.action, franka(), last=asked.rows)
            asked.published(chunk, seen.state)
            scheduler.add(chunk, round(now * 1e9))
        target = scheduler.sample(round((now + LEAD_S) * 1e9))
        if target is not None:
            pose = np.eye(4)
            pose[:3, 3] = target.values[:3]
            pose[:3, :3] = quaternion_to_matrix(target.values[3:7])
            tracker.track(pose)
            if target.values[7] != gripper:
                gripper = float(target.values[7])
                world.command_gripper(gripper, GRIP_FORCE)
        world.step(physics_steps)
        tick += 1
        widths.append(world.gripper_width)
        judge.update(world.block_heights(), world.time)
        offset = world.tcp_pose[:3, 3] - world.block_pose(scene.target)[:3, 3]
        closest = min(closest, float(np.linalg.norm(offset)))
        if world.time > TIME_LIMIT + 1:
            break
    return Episode(seed, judge.outcome, world.time, closest)


def torch_policy(checkpoint: Path, flow_steps: int) -> Policy:
    """Policy from a training checkpoint."""
    import torch

    from vla_ros.export.demo.model import sample
    from vla_ros.export.demo.text import build_tokenizer
    from vla_ros.export.demo.train import load_policy

    torch.set_num_threads(1)
    model, action, proprio = load_policy(checkpoint)

    @torch.no_grad()
    def infer(
        images: NDArray[np.uint8],
        tokens: NDArray[np.int64],
        state: NDArray[np.float32],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        views = torch.from_numpy(images)[:, None]
        keys, values = model.prefix(
            views[0], views[1], torch.from_numpy(tokens)[None], torch.from_numpy(state)[None]
        )
        return sample(model, keys, values, torch.from_numpy(noise)[None], flow_steps)[0].numpy()

    manifest = Manifest.model_validate({**manifest_fields(flow_steps, (0.0, 0.0)), "sha256": {}})
    return Policy(infer, build_tokenizer(), manifest, action.scaling, proprio.scaling)


def bundle_policy(directory: Path) -> Policy:
    """Policy from an exported bundle, through the runtime's own backend."""
    from vla_ros.policy.bundle import load_bundle
    from vla_ros.policy.onnx_backend import OnnxPolicy
    from vla_ros.policy.prompt import read_tokenizer

    bundle = load_bundle(directory)
    network = OnnxPolicy(bundle, threads=1)

    def infer(
        images: NDArray[np.uint8],
        tokens: NDArray[np.int64],
        state: NDArray[np.float32],
        noise: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        inputs: dict[str, NDArray[Any]] = {"image.front": images[:1], "image.wrist": images[1:]}
        inputs |= {"tokens": tokens[None], "state": state[None]}
        return network.infer(inputs, noise).values

    return Policy(infer, read_tokenizer(bundle), bundle.manifest, bundle.action, bundle.proprio)


_worker: tuple[World, Tracker, Policy] | None = None


def _prepare(source: Path, flow_steps: int) -> None:
    global _worker
    world = World()
    policy = bundle_policy(source) if source.is_dir() else torch_policy(source, flow_steps)
    _worker = (world, Tracker(world), policy)


def _episode(job: tuple[int, Timing]) -> Episode:
    assert _worker is not None
    return run(*_worker, *job)


def main(
    source: Annotated[Path, typer.Argument(help="Bundle directory or training checkpoint")],
    episodes: Annotated[int, typer.Option(min=1)] = 100,
    first_seed: Annotated[int, typer.Option(min=EVALUATION_SEED_START)] = EVALUATION_SEED_START,
    period: Annotated[float, typer.Option(help="Seconds between observations")] = 0.1,
    delay: Annotated[float, typer.Option(help="Seconds from observation to chunk")] = 0.07,
    mode: Annotated[str, typer.Option(help=f"How chunks hand over: {', '.join(MODES)}")] = "ensemble",
    flow_steps: Annotated[int, typer.Option(help="Euler steps (checkpoints only)")] = 8,
    processes: Annotated[int, typer.Option(min=1)] = 1,
    verbose: Annotated[bool, typer.Option(help="List every failed seed")] = True,
) -> None:
    """Run closed-loop episodes and print the success rate with its 95 % interval."""
    console = Console()
    jobs = [(first_seed + i, Timing(period, delay, mode)) for i in range(episodes)]
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_prepare,
        initargs=(source, flow_steps),
    ) as pool:
        results = list(track(pool.map(_episode, jobs), "episodes", total=len(jobs)))
    if verbose:
        for r in results:
            if r.outcome != "success":
                console.print(f"seed {r.seed}: {r.outcome}, closest {r.closest * 1e3:.0f} mm")
    won = [r for r in results if r.outcome == "success"]
    interval = wilson_interval(len(won), len(results))
    table = Table("episodes", "successes", "success", "95 % interval", "wrong block", "median s")
    table.add_row(
        str(len(results)),
        str(len(won)),
        f"{len(won) / len(results):.1%}",
        f"{interval.low:.1%} to {interval.high:.1%}",
        str(sum(r.outcome == "wrong_block" for r in results)),
        f"{np.median([r.duration for r in won]):.1f}" if won else "-",
    )
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
