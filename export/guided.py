"""Guidance for real-time chunking as a graph: a denoising step together with its vector-Jacobian product.

The robot has no autograd, so the derivative is exported. With f = x + (1 - t) v(x, t), the chunk that a step
at flow time t expects, the graph computes v and

    correction = (target - f) diag(weights) df/dx

of Black, Galliker, Levine 2025 (arXiv 2506.07339), algorithm 1; `vla_ros.policy.onnx_backend` does the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

from vla_ros.policy.rtc import Guidance, guidance_weight

# (context tensors ..., x [1, H, K], t [1]) -> velocity [1, H, K]
Velocity = Callable[..., Tensor]

INPUTS = ("x", "t", "target", "weights")
OUTPUTS = ("velocity", "correction")


class GuidedStep(nn.Module):
    """(context tensors ..., x, t, target [1, H, K], weights [1, H]) -> (velocity, correction)."""

    def __init__(self, velocity: Velocity, example: tuple[Tensor, ...]) -> None:
        """example: context tensors, x and t, of the shapes that the graph will have."""
        super().__init__()

        def guided(*inputs: Tensor) -> tuple[Tensor, Tensor]:
            *context, x, t, target, weights = inputs

            def expected(start: Tensor) -> tuple[Tensor, Tensor]:
                speed = velocity(*context, start, t)
                return start + (1 - t)[:, None, None] * speed, speed

            end, pull_back, speed = torch.func.vjp(expected, x, has_aux=True)
            (correction,) = pull_back((target - end) * weights[:, :, None])
            return speed, correction

        x = example[-2]
        # torch.onnx exports no derivative, but it exports what the derivative is made of.
        self.traced = make_fx(guided, decomposition_table=core_aten_decompositions())(
            *example, torch.zeros_like(x), torch.ones(x.shape[:2])
        )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, Tensor]:
        """As the class says."""
        velocity, correction = self.traced(*inputs)
        return velocity, correction


def sample_guided(velocity: Velocity, noise: Tensor, steps: int, guidance: Guidance) -> Tensor:
    """Algorithm 1 with torch's autograd: a chunk [1, H, K] from noise [1, H, K] in equal Euler steps.

    velocity: of (x, t) alone. The reference that an exported bundle is compared with.
    """
    target = torch.from_numpy(guidance.target)[None]
    weights = torch.from_numpy(guidance.weights)[None, :, None]
    x = noise
    for index in range(steps):
        t = index / steps
        start = x.detach().requires_grad_()
        speed = velocity(start, torch.full((1,), t))
        end = start + (1 - t) * speed
        (correction,) = torch.autograd.grad(end, start, (target - end.detach()) * weights)
        x = start.detach() + (speed.detach() + guidance_weight(t, steps) * correction) / steps
    return x
