"""The bundle in this repository, as a user gets it."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from vla_ros.policy.bundle import Bundle, load_bundle
from vla_ros.policy.contract import match
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import read_parity, run_parity
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.rtc import Guidance, soft_weights
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.load import load_robot


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(policy_bundle("franka_pick"))


def test_it_fits_the_franka(bundle: Bundle) -> None:
    assert all(line.ok for line in match(bundle, load_robot(robot_config("franka"))))


@pytest.mark.complaint("GR00T 471")
def test_parity_holds_on_this_machine(bundle: Bundle) -> None:
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.ok, result
    assert result.cosine > 0.999


def test_the_guided_step_holds_the_derivative_of_the_step(bundle: Bundle) -> None:
    """Against difference quotients of the plain step along random directions."""
    rng = np.random.default_rng(0)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    graphs = bundle.manifest.graphs
    assert graphs.step_guided is not None
    step, guided = (
        ort.InferenceSession(str(bundle.path(name)), options) for name in (graphs.step, graphs.step_guided)
    )
    feeds = {
        item.name: rng.normal(size=item.shape).astype(np.float32)
        for item in guided.get_inputs()
        if item.name != "t"
    }
    target, weights = feeds.pop("target"), feeds.pop("weights")
    for t in (0.0, 0.25, 0.875):
        feeds["t"] = np.array([t], np.float32)

        def end(x: np.ndarray, t: float = t) -> np.ndarray:
            velocity = step.run(None, {**feeds, "x": x})[0]
            return x.astype(np.float64) + (1 - t) * velocity

        error = (target - end(feeds["x"])) * weights[:, :, None]
        velocity, correction = guided.run(
            ["velocity", "correction"], {**feeds, "target": target, "weights": weights}
        )
        assert velocity == pytest.approx(step.run(None, feeds)[0], abs=1e-5)
        for _ in range(4):
            along = rng.normal(size=target.shape).astype(np.float32)
            plus, minus = (end(feeds["x"] + np.float32(h) * along) for h in (5e-3, -5e-3))
            expected = float((error * (plus - minus) / 1e-2).sum())
            size = np.linalg.norm(correction) * np.linalg.norm(along)
            assert float((correction * along).sum()) == pytest.approx(expected, abs=2e-3 * float(size))
        # Not only the identity's part of it.
        if t < 0.5:
            assert np.abs(correction - error).max() > 0.1


@pytest.mark.parametrize("frozen", [1, 4])
def test_guidance_makes_chunks_of_different_noise_agree(bundle: Bundle, frozen: int) -> None:
    """On the recorded observations. Not by much: this policy's chunks hardly depend on their noise, so the
    derivative that guidance follows is small."""
    policy, horizon = OnnxPolicy(bundle), bundle.manifest.outputs.horizon
    plain, drawn = [], []
    for case in read_parity(bundle.path(bundle.manifest.parity))[0]:
        assert case.guidance is not None
        target = case.guidance.target
        guidance = Guidance(target, soft_weights(horizon, frozen, 12), frozen)
        plain.append(np.abs(policy.infer(case.inputs, case.noise).values - target))
        drawn.append(np.abs(policy.infer(case.inputs, case.noise, guidance).values - target))
    before, after = (np.mean(values, axis=(0, 2))[:frozen].mean() for values in (plain, drawn))
    assert after < 0.95 * before


def test_it_is_small(bundle: Bundle) -> None:
    size = sum(file.stat().st_size for file in bundle.directory.iterdir())
    assert size <= 25_000_000


@pytest.mark.parametrize("colour", ["red", "green", "blue", "yellow", "purple", "orange"])
def test_it_knows_the_colours(bundle: Bundle, colour: str) -> None:
    preprocessor = Preprocessor(bundle, load_robot(robot_config("franka")))
    plain = preprocessor.tokens("pick up the block")
    named = preprocessor.tokens(f"pick up the {colour} block")
    other = preprocessor.tokens("pick up the nonsense block")
    assert not (named == plain).all()
    assert not (named == other).all()
