"""Demonstration shards in memory, statistics of actions and state, and training batches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from tokenizers import Tokenizer
from torch import Tensor

from vla_ros.action.normalise import Scaling, normalise
from vla_ros.export.demo.encoding import COLORS
from vla_ros.export.demo.model import pixels
from vla_ros.export.demo.text import PAD_ID, UNKNOWN_ID, encode
from vla_ros.sim.task import INSTRUCTIONS

# A channel that hardly varies is left in SI units: stretching it to [-1, 1] would stretch noise.
MIN_RANGE = 0.1
# The block the episode was about is drawn more often: its frames show the precise phases.
TARGET_SHARE = 0.7
WORD_DROPOUT = 0.03


@dataclass(frozen=True)
class Statistics:
    """Of one kind of vector, each float64 [K]; ``mask``: whether the channel is normalised."""

    q01: NDArray[np.float64]
    q99: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]
    mean: NDArray[np.float64]
    std: NDArray[np.float64]
    mask: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: NDArray[np.float32]) -> Statistics:
        """Statistics of rows [N, K]."""
        low, high = np.quantile(rows, (0.01, 0.99), axis=0).astype(np.float64)
        return cls(
            low,
            high,
            rows.min(axis=0).astype(np.float64),
            rows.max(axis=0).astype(np.float64),
            rows.mean(axis=0, dtype=np.float64),
            rows.std(axis=0, dtype=np.float64),
            high - low >= MIN_RANGE,
        )

    @property
    def scaling(self) -> Scaling:
        """As the policy is trained and run: never clipped."""
        return Scaling(self.q01, self.q99, self.mask)

    def to_json(self) -> dict[str, list]:
        """OpenVLA's layout."""
        return {
            name: getattr(self, name).tolist() for name in ("q01", "q99", "min", "max", "mean", "std", "mask")
        }


@dataclass(frozen=True)
class Batch:
    """Tensors of one training step.

    ``chosen`` [B]: the named block. ``pixels`` [B, 2 views, 3 blocks, 2]: NaN when not in view.
    ``turns`` [B, 2 views, 3 blocks, 2]: sin and cos of 4 x a block's yaw, in the base frame for the
    static camera, relative to the tool for the wrist camera. ``block`` [B, 3]: the named block in
    the tool frame, in units of 0.1 m.
    """

    images: list[Tensor]
    tokens: Tensor
    state: Tensor
    actions: Tensor
    chosen: Tensor
    pixels: Tensor
    turns: Tensor
    block: Tensor


class Demonstrations:
    """All frames of a directory of shards."""

    _KEYS = ("images", "state", "labels", "tool", "blocks", "pixels", "colors", "target")

    def __init__(self, paths: list[Path], tokenizer: Tokenizer) -> None:
        if not paths:
            raise FileNotFoundError("no shards: run python -m vla_ros.export.demo.demonstrations first")
        self.shards: list[dict[str, NDArray]] = []
        for path in track(paths, description="load shards"):
            with np.load(path) as file:
                self.shards.append({key: file[key] for key in self._KEYS})
        sizes = [len(s["state"]) for s in self.shards]
        self.index = np.concatenate(
            [np.stack([np.full(n, i), np.arange(n)], axis=1) for i, n in enumerate(sizes)]
        )
        self._color_ids = torch.tensor([tokenizer.token_to_id(c) for c in COLORS])
        self.tokens = torch.from_numpy(
            np.stack([np.stack([encode(tokenizer, t.format(color=c)) for t in INSTRUCTIONS]) for c in COLORS])
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.index)

    def statistics(self) -> tuple[Statistics, Statistics]:
        """Of action rows (every block's labels) and of states."""
        actions = np.concatenate([s["labels"].reshape(-1, s["labels"].shape[-1]) for s in self.shards])
        states = np.concatenate([s["state"] for s in self.shards])
        return Statistics.of(actions), Statistics.of(states)

    def batch(
        self,
        rng: np.random.Generator,
        size: int,
        action: Statistics,
        proprio: Statistics,
        augment: bool,
    ) -> Batch:
        """Draw ``size`` frames with an instruction each. ``augment``: colour jitter, word dropout."""
        rows = self.index[rng.integers(len(self.index), size=size)]
        gathered: dict[str, list] = {key: [] for key in self._KEYS}
        for shard, row in rows:
            for key in self._KEYS:
                gathered[key].append(self.shards[shard][key][row])
        data = {key: np.stack(values) for key, values in gathered.items()}
        chosen = np.where(rng.random(size) < TARGET_SHARE, data["target"], rng.integers(3, size=size))
        each = np.arange(size)
        blocks = data["blocks"].astype(np.float64)
        tool = data["tool"].astype(np.float64)
        relative = np.linalg.inv(tool)[:, None] @ blocks
        yaw = np.stack(
            [np.arctan2(poses[:, :, 1, 0], poses[:, :, 0, 0]) for poses in (blocks, relative)], axis=1
        )
        template = rng.integers(len(INSTRUCTIONS), size=size)
        colors = data["colors"][each, chosen].astype(np.int64)
        tokens = self.tokens[torch.from_numpy(colors), torch.from_numpy(template)]
        if augment:
            # Words other than colours may be unknown to the tokenizer on the robot.
            lost = torch.from_numpy(rng.random(tokens.shape) < WORD_DROPOUT)
            lost &= (tokens != PAD_ID) & ~torch.isin(tokens, self._color_ids)
            tokens[lost] = UNKNOWN_ID
        images = [pixels(torch.from_numpy(data["images"][:, v])) for v in range(2)]
        if augment:
            for index, image in enumerate(images):
                gain = torch.from_numpy(rng.uniform(0.92, 1.08, (size, 3, 1, 1))).float()
                shift = torch.from_numpy(rng.uniform(-0.06, 0.06, (size, 3, 1, 1))).float()
                images[index] = image * gain + shift
        return Batch(
            images=[i.contiguous(memory_format=torch.channels_last) for i in images],
            tokens=tokens,
            state=_float(normalise(data["state"], proprio.scaling)),
            actions=_float(normalise(data["labels"][each, chosen], action.scaling)),
            chosen=torch.from_numpy(chosen.astype(np.int64)),
            pixels=torch.from_numpy(data["pixels"]),
            turns=_float(np.stack([np.sin(4 * yaw), np.cos(4 * yaw)], axis=-1)),
            block=_float(relative[each, chosen, :3, 3] / 0.1),
        )


def _float(values: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
