"""Train the demo policy on the CPU: flow matching plus supervised by-products.

The by-products (where the named block appears in each camera, where it lies relative to the tool,
how it is turned) make the vision part converge in minutes; they are dropped at export. Resumable:
the checkpoint holds everything, and the batch of step n depends on seed and n alone.

Data parallel over single-threaded processes: on cores that others use too, the convolution
library's threads wait for each other busily and lose most of the time.
"""

from __future__ import annotations

import copy
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.distributed as dist
import typer
from rich.console import Console
from torch import Tensor
from torch.nn import functional

from vla_ros.action.normalise import denormalise, normalise
from vla_ros.export.demo.dataset import Batch, Demonstrations, Statistics
from vla_ros.export.demo.encoding import NETWORK_HEIGHT, NETWORK_WIDTH
from vla_ros.export.demo.model import Auxiliary, Config, DemoPolicy, sample
from vla_ros.export.demo.text import build_tokenizer

WARMUP_STEPS = 150
EMA_DECAY = 0.998
NOISE_DRAWS = 2
WEIGHT_DECAY = 1e-3
SAVE_EVERY_S = 120
CHECK_EVERY = 400
LOSS_WEIGHTS = {
    "flow": 1.0,
    "heat": 0.05,
    "point": 0.5,
    "block": 0.5,
    "yaw": 0.4,
    "turn": 0.3,
    "map": 0.3,
}
# All that a checkpoint holds besides tensors: our two classes, and numpy arrays and numbers.
CHECKPOINT_TYPES = [
    Config,
    Statistics,
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.bool_)),
    *(value.__reduce__()[0] for value in (np.zeros(1), np.float64(0))),
]

console = Console()


def flow_loss(model: DemoPolicy, context: Tensor, actions: Tensor, weight: Tensor) -> Tensor:
    """Flow-matching loss over several noise draws per sample; ``weight`` [16, 10]."""
    draws = NOISE_DRAWS
    keys, values = model.keys_values(context)
    keys, values = keys.repeat(1, draws, 1, 1, 1), values.repeat(1, draws, 1, 1, 1)
    target = actions.repeat(draws, 1, 1)
    noise = torch.randn_like(target)
    t = torch.rand(target.shape[0])
    mixed = (1 - t[:, None, None]) * noise + t[:, None, None] * target
    with torch.autocast("cpu", torch.bfloat16):
        velocity = model.velocity(keys, values, mixed, t)
    return ((velocity - (target - noise)).square() * weight).mean()


def auxiliary_loss(found: Auxiliary, batch: Batch) -> dict[str, Tensor]:
    """Losses of the by-products; a view in which the block is not seen is left out."""
    rows, columns = NETWORK_HEIGHT // 4, NETWORK_WIDTH // 4
    y = (torch.arange(rows) + 0.5).repeat_interleave(columns)
    x = (torch.arange(columns) + 0.5).repeat(rows)
    each = torch.arange(len(batch.chosen))
    losses = dict.fromkeys(("heat", "point", "turn", "map"), torch.zeros(()))
    for view, seen in enumerate(found.seen):
        where = batch.pixels[each, view, batch.chosen]
        visible = ~where.isnan().any(dim=1)
        if visible.any():
            u, v = where[visible, :1] * columns, where[visible, 1:] * rows
            bump = torch.softmax(-((x - u).square() + (y - v).square()) / 1.5, dim=1)
            log = seen.heat[visible, 0].log_softmax(dim=1)
            losses["heat"] = losses["heat"] - (bump * log).sum(dim=1).mean()
            miss = (seen.points[visible, 0] - where[visible]).abs()
            losses["point"] = losses["point"] + miss.mean()
            turn = batch.turns[each, view, batch.chosen][visible]
            losses["turn"] = losses["turn"] + (seen.turn[visible] - turn).square().mean()
        everywhere = batch.pixels[:, view]
        sample_index, block_index = (~everywhere.isnan().any(dim=2)).nonzero(as_tuple=True)
        spots = everywhere[sample_index, block_index]
        column, row = (spots[:, 0] * columns).long(), (spots[:, 1] * rows).long()
        guess = seen.turn_map[sample_index, :, row, column]
        truth = batch.turns[sample_index, view, block_index]
        losses["map"] = losses["map"] + (guess - truth).square().mean()
    losses["block"] = functional.smooth_l1_loss(found.block, batch.block, beta=0.1)
    losses["yaw"] = (found.yaw - batch.turns[each, 1, batch.chosen]).square().mean()
    return losses


def step_weights(demonstrations: Demonstrations, action: Statistics) -> Tensor:
    """Weight per chunk step and channel [16, 10]: near steps span less and matter as much."""
    labels = np.concatenate([s["labels"].reshape(-1, 16, 10) for s in demonstrations.shards])
    spread = normalise(labels, action.scaling).std(axis=0)
    weight = np.clip(1 / np.maximum(spread, 1e-3) / np.median(1 / spread), 0.4, 4.0)
    weight[:, 9] = 1.0
    return torch.from_numpy((weight / weight.mean()).astype(np.float32))


@torch.no_grad()
def check(model: DemoPolicy, held_out: Demonstrations, action: Statistics, proprio: Statistics) -> str:
    """Errors on unseen episodes, as one line."""
    model.eval()
    batch = held_out.batch(np.random.default_rng(0), 384, action, proprio, augment=False)
    context, found = model.context(batch.images, batch.tokens, batch.state)
    torch.manual_seed(0)
    noise = torch.randn(batch.actions.shape)
    chunk = sample(model, *model.keys_values(context), noise, 8)
    guess = denormalise(chunk.numpy(), action.scaling)
    truth = denormalise(batch.actions.numpy(), action.scaling)
    error = np.linalg.norm(guess[..., :3] - truth[..., :3], axis=-1) * 1e3
    grip = ((guess[..., 9] > 0.5) == (truth[..., 9] > 0.5)).mean()
    block = (found.block - batch.block).norm(dim=1) * 100
    near = batch.block.norm(dim=1) < 1.0
    return (
        f"held out: position mm k=1 {error[:, 0].mean():.1f} k=4 {error[:, 3].mean():.1f} "
        f"k=16 {error[:, 15].mean():.1f} (near {error[near.numpy(), 3].mean():.1f}), gripper "
        f"{grip:.3f}, block mm {block.mean():.1f} (near {block[near].mean():.1f})"
    )


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up, then cosine to 2 % of the peak."""
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    part = (step - WARMUP_STEPS) / max(1, steps - WARMUP_STEPS)
    return peak * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, part))))


def update_average(average: DemoPolicy, model: DemoPolicy, step: int) -> None:
    """Exponential moving average of weights; buffers (batch-norm statistics) are averaged too."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint made by this file; a pickle that holds anything else is refused and not run."""
    with torch.serialization.safe_globals(CHECKPOINT_TYPES):
        return torch.load(path, map_location="cpu", weights_only=True)


def load_policy(path: Path) -> tuple[DemoPolicy, Statistics, Statistics]:
    """Averaged model in evaluation mode, action statistics, state statistics."""
    saved = load_checkpoint(path)
    model = DemoPolicy(saved["config"])
    model.load_state_dict(saved["average"])
    return model.eval(), saved["action"], saved["proprio"]


@dataclass(frozen=True)
class Job:
    """What to train; see the options of :func:`main`."""

    data: Path
    out: Path
    steps: int
    batch_size: int
    rate: float
    seed: int
    start_from: Path | None
    processes: int
    port: int


def average_gradients(model: DemoPolicy, processes: int) -> None:
    """Mean of every process's gradients, in place."""
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= processes
    start = 0
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()


def build_optimizer(model: DemoPolicy, rate: float) -> torch.optim.Optimizer:
    """AdamW; biases and norms are not decayed."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    kept = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": WEIGHT_DECAY},
        {"params": kept, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)


def train(rank: int, job: Job) -> None:
    """One of ``job.processes`` processes; rank 0 reports and saves."""
    torch.set_num_threads(1)
    torch.manual_seed(job.seed)
    if job.processes > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(job.port))
        dist.init_process_group("gloo", rank=rank, world_size=job.processes)
    paths = sorted(p for p in job.data.glob("shard_*.npz") if "partial" not in p.name)
    tokenizer = build_tokenizer()
    training = Demonstrations(paths[:-1], tokenizer)
    held_out = Demonstrations(paths[-1:], tokenizer)
    model = DemoPolicy(Config(vocabulary=tokenizer.get_vocab_size()))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(model)
    optimizer = build_optimizer(model, job.rate)
    first, history = 0, []
    if job.out.exists():
        saved = load_checkpoint(job.out)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        action, proprio = saved["action"], saved["proprio"]
        first, history = saved["step"], saved["history"]
    elif job.start_from is not None:
        # New layers keep their initial values.
        saved = load_checkpoint(job.start_from)
        for part in (model, average):
            missing = part.load_state_dict(saved["average"], strict=False).missing_keys
        action, proprio = saved["action"], saved["proprio"]
        if rank == 0:
            console.print(f"start from {job.start_from}; new: {len(missing)} tensors")
    else:
        action, proprio = training.statistics()
    weight = step_weights(training, action)
    if rank == 0:
        parameters = sum(p.numel() for p in model.parameters())
        console.print(
            f"{len(training)} frames from {len(paths) - 1} shards, {parameters / 1e6:.2f} M "
            f"parameters, steps {first}..{job.steps}"
        )

    def save(step: int) -> None:
        job.out.parent.mkdir(parents=True, exist_ok=True)
        partial = job.out.with_suffix(".partial")
        content = {
            "config": model.config,
            "model": model.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "action": action,
            "proprio": proprio,
            "step": step,
            "history": history,
        }
        torch.save(content, partial)
        partial.replace(job.out)

    smooth: dict[str, float] = {}
    started = saved_at = time.monotonic()
    for step in range(first, job.steps):
        now_rate = learning_rate(step, job.steps, job.rate)
        for group in optimizer.param_groups:
            group["lr"] = now_rate
        rng = np.random.default_rng([job.seed, step, rank])
        torch.manual_seed((job.seed * 1_000_003 + step) * 64 + rank)
        model.train()
        share = job.batch_size // job.processes
        batch = training.batch(rng, share, action, proprio, augment=True)
        context, found = model.context(batch.images, batch.tokens, batch.state, mixed_precision=True)
        losses = {
            "flow": flow_loss(model, context, batch.actions, weight),
            **auxiliary_loss(found, batch),
        }
        optimizer.zero_grad(set_to_none=True)
        torch.stack([LOSS_WEIGHTS[name] * value for name, value in losses.items()]).sum().backward()
        if job.processes > 1:
            average_gradients(model, job.processes)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if rank != 0:
            continue
        update_average(average, model, step)
        for name, value in losses.items():
            smooth[name] = 0.97 * smooth.get(name, value.item()) + 0.03 * value.item()
        done = step + 1
        if done % 20 == 0:
            speed = (done - first) * job.batch_size / (time.monotonic() - started)
            text = " ".join(f"{name} {value:.4f}" for name, value in smooth.items())
            left = (job.steps - done) * job.batch_size / speed / 60
            console.print(
                f"{done}/{job.steps} {text} | {speed:.0f} samples/s, {left:.0f} min left",
                soft_wrap=True,
            )
            history.append({"step": done, **smooth})
        if done % CHECK_EVERY == 0 or done == job.steps:
            console.print(check(average, held_out, action, proprio), soft_wrap=True)
        if time.monotonic() - saved_at > SAVE_EVERY_S or done == job.steps:
            save(done)
            saved_at = time.monotonic()
    if job.processes > 1:
        dist.destroy_process_group()


def main(
    data: Annotated[Path, typer.Option(help="Directory of the shards")] = Path("build/demo/data"),
    out: Annotated[Path, typer.Option(help="Checkpoint")] = Path("build/demo/policy.pt"),
    steps: Annotated[int, typer.Option(min=1)] = 2000,
    batch_size: Annotated[int, typer.Option(min=8)] = 128,
    rate: Annotated[float, typer.Option(help="Peak learning rate")] = 1.5e-3,
    seed: Annotated[int, typer.Option()] = 0,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint to fine-tune; its statistics are kept")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, help="One core each")] = 2,
    port: Annotated[int, typer.Option(help="Local TCP port of the processes")] = 29511,
) -> None:
    """Train, or resume if the checkpoint exists. The last shard is held out for checks."""
    job = Job(data, out, steps, batch_size, rate, seed, start_from, processes, port)
    if processes == 1:
        train(0, job)
    else:
        torch.multiprocessing.spawn(train, args=(job,), nprocs=processes)


if __name__ == "__main__":
    typer.run(main)
