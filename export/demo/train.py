"""Train the demo policy on the CPU: flow matching plus supervised by-products.

The by-products (where the named block appears in each camera, where it lies relative to the tool,
how it is turned) make the vision part converge in minutes; they are dropped at export. Resumable:
the checkpoint holds everything, and the batch of step n depends on seed and n alone.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from vla_ros.export.demo.dataset import Batch, Demonstrations, Statistics
from vla_ros.export.demo.encoding import NETWORK_HEIGHT, NETWORK_WIDTH, denormalise
from vla_ros.export.demo.model import Auxiliary, Config, DemoPolicy, sample
from vla_ros.export.demo.text import build_tokenizer

WARMUP_STEPS = 150
EMA_DECAY = 0.998
NOISE_DRAWS = 3
WEIGHT_DECAY = 1e-3
SAVE_EVERY_S = 120
CHECK_EVERY = 400

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
    heat = torch.zeros(())
    point = torch.zeros(())
    for view in range(2):
        where = batch.pixels_of_target[:, view]
        seen = ~where.isnan().any(dim=1)
        if not seen.any():
            continue
        u, v = where[seen, :1] * columns, where[seen, 1:] * rows
        bump = torch.softmax(-((x - u).square() + (y - v).square()) / 1.5, dim=1)
        logits = found.heat[view][seen].float()
        heat = heat - (bump * logits.log_softmax(dim=1)).sum(dim=1).mean()
        point = point + (found.points[view][seen] - where[seen]).abs().mean()
    return {
        "heat": heat,
        "point": point,
        "block": F.smooth_l1_loss(found.block, batch.block, beta=0.1),
        "yaw": (found.yaw - batch.yaw).square().mean(),
    }


def step_weights(demonstrations: Demonstrations, action: Statistics) -> Tensor:
    """Weight per chunk step and channel [16, 10]: near steps span less and matter as much."""
    labels = np.concatenate([s["labels"].reshape(-1, 16, 10) for s in demonstrations.shards])
    low, high = action.bounds
    spread = (2 * labels / (high - low)).std(axis=0)
    weight = np.clip(1 / np.maximum(spread, 1e-3) / np.median(1 / spread), 0.4, 4.0)
    weight[:, 9] = 1.0
    return torch.from_numpy((weight / weight.mean()).astype(np.float32))


@torch.no_grad()
def check(
    model: DemoPolicy, held_out: Demonstrations, action: Statistics, proprio: Statistics
) -> str:
    """Errors on unseen episodes, as one line."""
    model.eval()
    batch = held_out.batch(np.random.default_rng(0), 384, action, proprio, augment=False)
    context, found = model.context(batch.images, batch.tokens, batch.state)
    torch.manual_seed(0)
    noise = torch.randn(batch.actions.shape)
    chunk = sample(model, *model.keys_values(context), noise, 8)
    guess = denormalise(chunk.numpy(), *action.bounds)
    truth = denormalise(batch.actions.numpy(), *action.bounds)
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
        for mean, value in zip(
            average.state_dict().values(), model.state_dict().values(), strict=True
        ):
            if mean.dtype.is_floating_point:
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint made by this file (own pickle: only open files you made)."""
    return torch.load(path, map_location="cpu", weights_only=False)


def load_policy(path: Path) -> tuple[DemoPolicy, Statistics, Statistics]:
    """Averaged model in evaluation mode, action statistics, state statistics."""
    saved = load_checkpoint(path)
    model = DemoPolicy(saved["config"])
    model.load_state_dict(saved["average"])
    return model.eval(), saved["action"], saved["proprio"]


def main(
    data: Annotated[Path, typer.Option(help="Directory of the shards")] = Path("build/demo/data"),
    out: Annotated[Path, typer.Option(help="Checkpoint")] = Path("build/demo/policy.pt"),
    steps: Annotated[int, typer.Option(min=1)] = 3000,
    batch_size: Annotated[int, typer.Option(min=8)] = 128,
    rate: Annotated[float, typer.Option(help="Peak learning rate")] = 1.5e-3,
    seed: Annotated[int, typer.Option()] = 0,
    start_from: Annotated[
        Path | None, typer.Option(help="Checkpoint to fine-tune; its statistics are kept")
    ] = None,
) -> None:
    """Train, or resume if the checkpoint exists. The last shard is held out for checks."""
    torch.manual_seed(seed)
    paths = sorted(p for p in data.glob("shard_*.npz") if "partial" not in p.name)
    tokenizer = build_tokenizer()
    training = Demonstrations(paths[:-1], tokenizer)
    held_out = Demonstrations(paths[-1:], tokenizer)
    model = DemoPolicy(Config(vocabulary=tokenizer.get_vocab_size()))
    model = model.to(memory_format=torch.channels_last)
    average = copy.deepcopy(model)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    kept = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": WEIGHT_DECAY},
            {"params": kept, "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )
    first = 0
    source = out if out.exists() else start_from
    if source is not None:
        saved = load_checkpoint(source)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        action, proprio = saved["action"], saved["proprio"]
        first = saved["step"] if source == out else 0
    else:
        action, proprio = training.statistics()
    weight = step_weights(training, action)
    parameters = sum(p.numel() for p in model.parameters())
    console.print(
        f"{len(training)} frames from {len(paths) - 1} shards, {parameters / 1e6:.2f} M parameters, "
        f"steps {first}..{steps}"
    )

    def save(step: int) -> None:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial = out.with_suffix(".partial")
        torch.save(
            {
                "config": model.config,
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "action": action,
                "proprio": proprio,
                "step": step,
                "history": history,
            },
            partial,
        )
        partial.replace(out)

    history: list[dict[str, float]] = []
    smooth: dict[str, float] = {}
    started = saved_at = time.monotonic()
    for step in range(first, steps):
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(seed * 1_000_003 + step)
        now_rate = learning_rate(step, steps, rate)
        for group in optimizer.param_groups:
            group["lr"] = now_rate
        model.train()
        batch = training.batch(rng, batch_size, action, proprio, augment=True)
        context, found = model.context(
            batch.images, batch.tokens, batch.state, mixed_precision=True
        )
        losses = {
            "flow": flow_loss(model, context, batch.actions, weight),
            **auxiliary_loss(found, batch),
        }
        loss = (
            losses["flow"]
            + 0.05 * losses["heat"]
            + 0.5 * losses["point"]
            + 0.5 * losses["block"]
            + 0.1 * losses["yaw"]
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(average, model, step)
        for name, value in losses.items():
            smooth[name] = 0.97 * smooth.get(name, value.item()) + 0.03 * value.item()
        done = step + 1
        if done % 20 == 0:
            speed = (done - first) * batch_size / (time.monotonic() - started)
            text = " ".join(f"{name} {value:.4f}" for name, value in smooth.items())
            left = (steps - done) * batch_size / speed / 60
            console.print(f"{done}/{steps} {text} | {speed:.0f} samples/s, {left:.0f} min left")
            history.append({"step": done, **smooth})
        if done % CHECK_EVERY == 0 or done == steps:
            console.print(check(average, held_out, action, proprio))
        if time.monotonic() - saved_at > SAVE_EVERY_S or done == steps:
            save(done)
            saved_at = time.monotonic()


if __name__ == "__main__":
    typer.run(main)
