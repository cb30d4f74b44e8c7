"""The demo network: a 1 M parameter flow-matching vision-language-action model.

Two halves, cut as they are exported: :meth:`DemoPolicy.prefix` turns images, instruction and state
into the keys and values of the action head, :meth:`DemoPolicy.velocity` is one denoising step. Per
camera a small convolutional net makes features at a quarter of the resolution; the instruction
modulates them (FiLM, Perez et al. 2018); learned heat maps read out keypoints (spatial soft-argmax,
Levine et al. 2016), which with state and instruction are the tokens of a small transformer.

Flow matching: x(t) = (1 - t) noise + t data, t from 0 to 1, velocity = data - noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.export.demo.encoding import NETWORK_HEIGHT, NETWORK_WIDTH, STATE_SIZE, VIEWS
from vla_ros.export.demo.expert import ACTION_SIZE, HORIZON


@dataclass(frozen=True)
class Config:
    """Sizes of the network."""

    vocabulary: int
    width: int = 128
    heads: int = 4
    keypoints: int = 8
    fine: int = 32
    coarse: int = 64
    mixed: int = 48
    encoder_layers: int = 2
    decoder_layers: int = 3


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs))


class _Residual(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.first, self.second = _conv(size, size), _conv(size, size)
        # Starts as the identity (zero-initialised residual).
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """[B, size, H, W] to the same shape."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


@dataclass
class Seen:
    """One camera's features. ``described``: keypoint descriptions [B, keypoints, mixed + 3];
    ``points``: where they are [B, keypoints, 2], in (0, 1); ``heat``: their logits
    [B, keypoints, 24 * 32]. For training only, sin and cos of 4 x a block's yaw: ``turn`` [B, 2] of
    the named one, ``turn_map`` [B, 2, 24, 32] of whichever is there."""

    described: Tensor
    points: Tensor
    heat: Tensor
    turn: Tensor
    turn_map: Tensor


class Vision(nn.Module):
    """One camera: image and instruction to keypoint descriptions; ``token`` embeds those."""

    grid: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        fine, coarse, mixed = config.fine, config.coarse, config.mixed
        count = config.keypoints
        self.stem = nn.Sequential(_conv(3, 16, 2), nn.ReLU(), _conv(16, fine, 2), nn.ReLU())
        self.fine = _Residual(fine)
        self.finer = _Residual(fine)
        self.down = _conv(fine, coarse, 2)
        self.coarse = _Residual(coarse)
        self.up = nn.Conv2d(coarse, mixed, 1)
        self.lateral = nn.Conv2d(fine, mixed, 1)
        self.film = nn.Linear(config.width, 2 * mixed)
        self.mix = _conv(mixed, mixed)
        self.heat = nn.Conv2d(mixed, count, 1)
        self.token = nn.Linear(mixed + 3, config.width)
        # Training only: how blocks are turned, everywhere and at keypoint 0.
        self.turn_map = nn.Sequential(nn.Conv2d(mixed, 64, 1), nn.ReLU(), nn.Conv2d(64, 2, 1))
        self.turn = nn.Sequential(nn.Linear(mixed, 64), nn.ReLU(), nn.Linear(64, 2))
        self.name = nn.Parameter(torch.randn(count, config.width) * 0.02)
        rows, columns = NETWORK_HEIGHT // 4, NETWORK_WIDTH // 4
        y = (torch.arange(rows) + 0.5) / rows
        x = (torch.arange(columns) + 0.5) / columns
        grid = torch.stack([x[None, :].expand(rows, columns), y[:, None].expand(rows, columns)], dim=-1)
        self.register_buffer("grid", grid.reshape(rows * columns, 2), persistent=False)

    def forward(self, image: Tensor, instruction: Tensor) -> Seen:
        """Image float [B, 3, 96, 128] in [-1, 1], instruction [B, width]."""
        fine = self.finer(self.fine(self.stem(image)))
        coarse = self.coarse(functional.relu(self.down(fine)))
        lifted = functional.interpolate(self.up(coarse), scale_factor=2.0, mode="nearest")
        joint = self.lateral(fine) + lifted
        scale, shift = self.film(instruction)[:, :, None, None].chunk(2, dim=1)
        features = functional.relu(self.mix(functional.relu(joint * (1 + scale) + shift)))
        logits = self.heat(features).flatten(2).float()
        attention = logits.softmax(dim=-1)
        # Not a matrix product: that would be rounded to bf16 in mixed-precision training.
        points = torch.stack(
            [(attention * self.grid[:, 0]).sum(-1), (attention * self.grid[:, 1]).sum(-1)], dim=-1
        )
        pooled = attention.to(features.dtype) @ features.flatten(2).transpose(1, 2)
        peak = logits.amax(dim=-1, keepdim=True)
        described = torch.cat([pooled.float(), 2 * points - 1, peak / 10], dim=-1)
        return Seen(
            described,
            points,
            logits,
            turn=self.turn(pooled[:, 0]).float(),
            turn_map=self.turn_map(functional.relu(joint)).float(),
        )


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        """[B, S, width] to [B, heads, S, width / heads]."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def project(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``source``, each [B, heads, S, width / heads]."""
        key, value = self.key_value(source).chunk(2, dim=-1)
        return self.split(key), self.split(value)

    def attend(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B, T, width] attends to the given keys and values."""
        # Written out: the fused kernel's backward pass is three times slower on the CPU.
        query = self.split(self.query(x)) / math.sqrt(key.shape[-1])
        weights = (query @ key.transpose(-2, -1)).softmax(dim=-1)
        return self.out((weights @ value).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    """Pre-norm transformer layer, with cross attention if ``cross``."""

    def __init__(self, width: int, heads: int, cross: bool) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width)
        self.own = _Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width) if cross else None
        self.cross = _Attention(width, heads) if cross else None
        self.norm_feed = nn.LayerNorm(width)
        self.feed = nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))

    def forward(self, x: Tensor, context: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """[B, T, width]; ``context``: keys and values, where the layer has cross attention."""
        normed = self.norm_self(x)
        x = x + self.own.attend(normed, *self.own.project(normed))
        if self.cross is not None and self.norm_cross is not None and context is not None:
            x = x + self.cross.attend(self.norm_cross(x), *context)
        return x + self.feed(self.norm_feed(x))

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the cross attention, each [B, heads, S, width / heads]."""
        if self.cross is None:
            raise ValueError("this layer has no cross attention")
        return self.cross.project(context)


@dataclass
class Auxiliary:
    """By-products that are supervised in training and dropped at export.

    ``seen``: per camera; keypoint 0 is to be the named block. ``block``: the named block's centre in
    the tool frame, [B, 3], in units of 0.1 m; ``yaw``: sin and cos of 4 x its yaw relative to the
    tool, [B, 2].
    """

    seen: list[Seen]
    block: Tensor
    yaw: Tensor


class DemoPolicy(nn.Module):
    """See the module's text. Images are uint8 [B, 96, 128, 3] RGB, tokens int64 [B, 16] with 0 for
    padding, state float32 [B, 10] normalised, x float32 [B, 16, 10] normalised, t float32 [B]."""

    frequencies: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.words = nn.Embedding(config.vocabulary, width)
        self.word_score = nn.Linear(width, 1)
        self.instruction = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.vision = nn.ModuleList([Vision(config) for _ in VIEWS])
        self.state = nn.Sequential(nn.Linear(STATE_SIZE, width), nn.GELU(), nn.Linear(width, width))
        self.readout = nn.Parameter(torch.randn(1, width) * 0.02)
        self.encoder = nn.ModuleList(
            [_Block(width, heads, cross=False) for _ in range(config.encoder_layers)]
        )
        self.context_norm = nn.LayerNorm(width)
        self.auxiliary = nn.Linear(width, 5)
        self.action_in = nn.Linear(ACTION_SIZE, width)
        self.position = nn.Parameter(torch.randn(HORIZON, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(32, width), nn.GELU(), nn.Linear(width, width))
        frequencies = torch.exp(torch.linspace(math.log(1.0), math.log(100.0), 16))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.decoder = nn.ModuleList([_Block(width, heads, cross=True) for _ in range(config.decoder_layers)])
        self.action_norm = nn.LayerNorm(width)
        self.action_out = nn.Linear(width, ACTION_SIZE)

    def _read(self, tokens: Tensor) -> Tensor:
        """Instruction vector [B, width]: an attention-weighted mean of the word embeddings."""
        words = self.words(tokens)
        score = self.word_score(words).squeeze(-1).masked_fill(tokens == 0, -1e4)
        pooled = (score.softmax(dim=-1)[:, None, :] @ words).squeeze(1)
        return self.instruction(pooled)

    def context(
        self, images: list[Tensor], tokens: Tensor, state: Tensor, mixed_precision: bool = False
    ) -> tuple[Tensor, Auxiliary]:
        """Images float [B, 3, 96, 128] in [-1, 1] to context tokens [B, S, width] and by-products.

        ``mixed_precision``: run the convolutions in bf16 (training only)."""
        instruction = self._read(tokens)
        parts: list[Tensor] = []
        seen: list[Seen] = []
        for vision, image in zip(self.vision, images, strict=True):
            assert isinstance(vision, Vision)
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision):
                found = vision(image, instruction)
            parts.append(vision.token(found.described) + vision.name)
            seen.append(found)
        readout = self.readout[None].expand(state.shape[0], -1, -1)
        parts += [self.state(state)[:, None], instruction[:, None], readout]
        x = torch.cat([p.float() for p in parts], dim=1)
        for layer in self.encoder:
            x = layer(x)
        x = self.context_norm(x)
        aside = self.auxiliary(x[:, -1]).float()
        return x, Auxiliary(seen, aside[:, :3], aside[:, 3:])

    def keys_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every decoder layer, each [layers, B, heads, S, width / heads]."""
        pairs = [layer.keys_values(context) for layer in _blocks(self.decoder)]
        return torch.stack([k for k, _ in pairs]), torch.stack([v for _, v in pairs])

    def prefix(
        self, image_front: Tensor, image_wrist: Tensor, tokens: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Observation to keys and values."""
        images = [pixels(image_front), pixels(image_wrist)]
        context, _ = self.context(images, tokens, state)
        return self.keys_values(context)

    def velocity(self, keys: Tensor, values: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """One denoising step's velocity, float32 [B, 16, 10]."""
        angles = t[:, None] * self.frequencies
        when = self.time(torch.cat([angles.sin(), angles.cos()], dim=-1))
        h = self.action_in(x) + self.position + when[:, None]
        for index, layer in enumerate(self.decoder):
            h = layer(h, (keys[index], values[index]))
        return self.action_out(self.action_norm(h)).float()


def _blocks(layers: nn.ModuleList) -> Iterator[_Block]:
    for layer in layers:
        assert isinstance(layer, _Block)
        yield layer


def pixels(image: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in [-1, 1]."""
    return image.permute(0, 3, 1, 2).float() / 127.5 - 1.0


@torch.no_grad()
def sample(model: DemoPolicy, keys: Tensor, values: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Integrate from noise [B, 16, 10] at t = 0 to an action chunk at t = 1 in equal Euler steps."""
    x = noise
    for index in range(steps):
        t = torch.full((x.shape[0],), index / steps)
        x = x + model.velocity(keys, values, x, t) / steps
    return x
