"""The derivative in the guided graph against torch's own, of a small random network."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnxruntime as ort
import pytest

torch = pytest.importorskip("torch", reason="needs the export extra (torch)")
pytest.importorskip("onnxscript", reason="needs the export extra (onnxscript)")

from vla_ros.export.demo.export import export_graph  # noqa: E402
from vla_ros.export.demo.model import Config, DemoPolicy, sample  # noqa: E402
from vla_ros.export.guided import INPUTS, OUTPUTS, GuidedStep, sample_guided  # noqa: E402
from vla_ros.policy.rtc import Guidance, soft_weights  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model() -> DemoPolicy:
    torch.manual_seed(0)
    network = DemoPolicy(Config(20, width=32, heads=2, encoder_layers=1, decoder_layers=2)).eval()
    # A new network's derivative is nearly nothing; a trained one's is not.
    with torch.no_grad():
        for weights in network.decoder.parameters():
            weights.mul_(2.0)
    return network


def example() -> tuple:
    generator = torch.Generator().manual_seed(1)
    context = [torch.randn(2, 1, 2, 19, 16, generator=generator) for _ in range(2)]
    x, target = (torch.randn(1, 16, 10, generator=generator) for _ in range(2))
    return *context, x, target, torch.rand(1, 16, generator=generator)


@pytest.mark.parametrize("when", [0.0, 0.3, 0.875])
def test_the_exported_derivative_is_autograd_s(model: DemoPolicy, when: float) -> None:
    keys, values, x, target, weights = example()
    t = torch.full((1,), when)
    step = GuidedStep(model.velocity, (keys, values, x, torch.full((1,), 0.5)))
    names = ["keys", "values", *INPUTS]
    inputs = (keys, values, x, t, target, weights)
    session = ort.InferenceSession(export_graph(step, inputs, names, list(OUTPUTS)))
    found = session.run(None, {name: value.numpy() for name, value in zip(names, inputs, strict=True)})
    start = x.clone().requires_grad_()
    velocity = model.velocity(keys, values, start, t)
    end = start + (1 - when) * velocity
    error = (target - end.detach()) * weights[:, :, None]
    (correction,) = torch.autograd.grad(end, start, error)
    for exported, reference in zip(found, (velocity.detach(), correction), strict=True):
        assert np.abs(exported - reference.numpy()).max() < 1e-5 * float(reference.abs().max())
    # Not only the identity's part of it.
    assert (correction - error).abs().max() > 0.05


def test_guided_sampling_goes_where_it_is_drawn_to(model: DemoPolicy) -> None:
    keys, values, noise, target, _ = example()
    velocity = partial(model.velocity, keys, values)
    plain = sample(model, keys, values, noise, 8)
    for weights in (np.zeros(16, np.float32), soft_weights(16, 3, 12)):
        chunk = sample_guided(velocity, noise, 8, Guidance(target[0].numpy(), weights, 3))
        if not weights.any():
            torch.testing.assert_close(chunk, plain)
        else:
            before, after = ((found - target)[0, :3].abs().mean() for found in (plain, chunk))
            assert after < before / 2
