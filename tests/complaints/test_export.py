"""What is exported is the whole policy, and it runs without the framework it was trained in."""

from __future__ import annotations

import subprocess
import sys

import onnx
import pytest

from tests.tiny_bundle import ROOT
from vla_ros.policy.bundle import load_bundle

BUNDLE = ROOT / "policies" / "franka_pick"
# A None in sys.modules makes the import an error, as where it is not installed.
WITHOUT_TORCH = f"""
import sys
for name in ("torch", "transformers", "jax", "tensorflow"):
    sys.modules[name] = None
from vla_ros.policy.bundle import load_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import run_parity
bundle = load_bundle({str(BUNDLE)!r})
result = run_parity(bundle, OnnxPolicy(bundle))
assert result.ok, result
print("cases", result.cases)
"""


@pytest.mark.complaint("GR00T 517")
def test_the_exported_graphs_go_from_pixels_and_words_to_actions() -> None:
    """There, only the action head was exported: vision and language stayed in torch."""
    manifest = load_bundle(BUNDLE).manifest
    prefix = onnx.load(BUNDLE / manifest.graphs.prefix).graph
    images = {f"image.{image.role}" for image in manifest.inputs.images}
    assert {item.name for item in prefix.input} == {*images, "tokens", "state"}
    pixels = [item for item in prefix.input if item.name in images]
    assert all(item.type.tensor_type.elem_type == onnx.TensorProto.UINT8 for item in pixels)
    step = onnx.load(BUNDLE / manifest.graphs.step).graph
    assert {item.name for item in step.output} == {"velocity"}


@pytest.mark.complaint("GR00T 517", "openpi 982")
def test_it_runs_where_there_is_no_torch() -> None:
    result = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    assert "cases" in result.stdout


@pytest.mark.complaint("openpi 982")
def test_the_observation_is_encoded_once_and_only_the_sampler_s_step_is_repeated() -> None:
    """There, whoever exports a flow-matching policy has to find out where to cut it. Here the cut is the
    bundle's form: what depends on the observation, and one step of the flow, whose loop the runtime keeps."""
    manifest = load_bundle(BUNDLE).manifest
    prefix = onnx.load(BUNDLE / manifest.graphs.prefix).graph
    step = onnx.load(BUNDLE / manifest.graphs.step).graph
    context = {item.name for item in prefix.output}
    assert {item.name for item in step.input} == {*context, "x", "t"}
    # The cut pays: the part that runs `steps` times is the smaller one.
    assert len(step.node) < len(prefix.node)
