from __future__ import annotations

import importlib.metadata
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.tiny_bundle import (
    bundle_files,
    manifest_fields,
    prefix_graph,
    step_graph,
    write_tiny_bundle,
)
from vla_ros.errors import BundleError, Refused, VlaRosError
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import ParityCase, parity_bytes, read_parity, run_parity


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundle"))


def case(bundle: Bundle) -> ParityCase:
    return read_parity(bundle.path("parity.npz"))[0][0]


def test_the_chunk_is_what_numpy_computes(bundle: Bundle) -> None:
    known = case(bundle)
    raw = OnnxPolicy(bundle).infer(known.inputs, known.noise)
    assert raw.values.shape == (16, 10)
    assert raw.values.dtype == np.float32
    assert raw.values == pytest.approx(known.expected, abs=1e-5)


def test_euler_runs_from_noise_to_data_in_the_declared_steps(tmp_path: Path) -> None:
    """With velocity = goal - x, n steps leave (1 - 1/n)^n of the way to go."""
    for steps in (1, 2, 10):
        fields = manifest_fields()
        fields["sampler"]["steps"] = steps
        bundle = write_tiny_bundle(tmp_path / str(steps), **fields)
        known = case(bundle)
        policy = OnnxPolicy(bundle)
        from_zero = policy.infer(known.inputs, np.zeros((16, 10), np.float32)).values
        from_one = policy.infer(known.inputs, np.ones((16, 10), np.float32)).values
        assert from_one - from_zero == pytest.approx(np.full((16, 10), (1 - 1 / steps) ** steps), abs=1e-5)


def test_every_input_reaches_the_network(bundle: Bundle) -> None:
    policy, known = OnnxPolicy(bundle), case(bundle)
    plain = policy.infer(known.inputs, known.noise).values
    for name, values in known.inputs.items():
        changed = policy.infer({**known.inputs, name: np.zeros_like(values)}, known.noise).values
        assert np.abs(changed - plain).max() > 1e-3, name


def test_noise_is_seeded_differs_per_chunk_and_restarts_on_reset(bundle: Bundle) -> None:
    policy, known = OnnxPolicy(bundle), case(bundle)
    policy.warm_up()
    first = [policy.infer(known.inputs).values for _ in range(2)]
    policy.reset()
    again = [policy.infer(known.inputs).values for _ in range(2)]
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert np.array_equal(OnnxPolicy(bundle).infer(known.inputs).values, first[0])


def test_the_inputs_and_the_noise_are_not_written_to(bundle: Bundle) -> None:
    known = case(bundle)
    noise = known.noise.copy()
    OnnxPolicy(bundle).infer(known.inputs, noise)
    assert np.array_equal(noise, known.noise)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    for gain in (float("nan"), float("inf")):
        bundle = write_tiny_bundle(tmp_path / str(gain), gain=gain)
        known = case(bundle)
        with pytest.raises(Refused) as caught:
            OnnxPolicy(bundle).infer(known.inputs, known.noise)
        assert caught.value.reason == "nan"


@pytest.mark.parametrize(
    ("name", "graph", "expected"),
    [
        ("prefix.onnx", lambda fields: step_graph(fields), r"inputs \['goal', 't', 'x'\], the manifest"),
        ("step.onnx", lambda fields: prefix_graph(fields), "expected the prefix graph's outputs"),
        ("step.onnx", lambda fields: step_graph(fields, 1), r"input 'x' is .* \[1, 17, 10\]"),
        ("prefix.onnx", lambda fields: b"rubbish", r"prefix\.onnx: onnxruntime cannot load it"),
    ],
)
def test_a_graph_that_contradicts_the_manifest_is_named(tmp_path: Path, name, graph, expected) -> None:
    fields = manifest_fields()
    bundle = write_bundle(tmp_path, fields, {**bundle_files(fields), name: graph(fields)})
    with pytest.raises(BundleError, match=expected):
        OnnxPolicy(bundle)


def test_another_image_size_than_the_manifest_s_is_named(tmp_path: Path) -> None:
    fields = manifest_fields()
    files = bundle_files(fields)
    fields["inputs"]["images"][1]["width"] = 160
    bundle = write_bundle(tmp_path, fields, files)
    with pytest.raises(BundleError, match=r"input 'image\.wrist' is .*128, 3\].*uint8 \[1, 96, 160, 3\]"):
        OnnxPolicy(bundle)


def test_a_provider_that_is_not_there_is_refused(bundle: Bundle) -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this machine has CUDA")
    with pytest.raises(VlaRosError, match="provider 'cuda': this onnxruntime has"):
        OnnxPolicy(bundle, "cuda")


@pytest.mark.complaint("GR00T 364")
def test_a_silent_fall_back_to_the_cpu_is_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu without a GPU lists the provider, warns on stderr and runs on the CPU."""
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(VlaRosError, match=r"cannot load it on 'cuda': .*fallback to CPU EP"):
        OnnxPolicy(bundle, "cuda")


def test_it_says_what_it_runs_on(bundle: Bundle) -> None:
    assert OnnxPolicy(bundle).providers == ["CPUExecutionProvider"]


def test_two_runtimes_side_by_side_are_refused(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0")
    with pytest.raises(VlaRosError, match=r"onnxruntime 1\.0 and onnxruntime-gpu 1\.0 .* side by side"):
        OnnxPolicy(bundle)


def test_parity_holds_for_the_recorded_case(bundle: Bundle) -> None:
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.ok
    assert result.cases == 1
    assert result.max_error < 1e-5
    assert result.cosine > 0.999999


@pytest.mark.complaint("GR00T 471")
def test_parity_notices_other_weights(tmp_path: Path) -> None:
    fields = manifest_fields()
    files = bundle_files(fields)
    bundle = write_bundle(tmp_path, fields, {**files, "step.onnx": step_graph(fields, gain=1.01)})
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert not result.ok
    assert result.max_error > result.tolerance


def test_parity_of_several_cases_is_the_worst_of_them(bundle: Bundle, tmp_path: Path) -> None:
    known = case(bundle)
    wrong = ParityCase(known.inputs, known.noise, known.expected + 0.5)
    fields = manifest_fields()
    files = {**bundle_files(fields), "parity.npz": parity_bytes([known, wrong], 1e-3)}
    result = run_parity(written := write_bundle(tmp_path, fields, files), OnnxPolicy(written))
    assert result.cases == 2
    assert result.max_error == pytest.approx(0.5, abs=1e-3)
    assert not result.ok


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04rubbish", b"x" * 100])
def test_a_broken_parity_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "parity.npz").write_bytes(content)
    with pytest.raises(BundleError, match=r"parity\.npz: not a parity file"):
        read_parity(tmp_path / "parity.npz")


def test_a_parity_file_that_lacks_what_it_needs_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "parity.npz", state=np.zeros((1, 2)))
    with pytest.raises(BundleError, match=r"lacks \['expected', 'tolerance'\]"):
        read_parity(tmp_path / "parity.npz")
    np.savez(tmp_path / "parity.npz", noise=np.zeros((1, 2)), expected=np.zeros((1, 2)), tolerance=1.0)
    with pytest.raises(BundleError, match="lacks inputs"):
        read_parity(tmp_path / "parity.npz")


def test_a_parity_file_without_noise_is_named(tmp_path: Path) -> None:
    fields = manifest_fields()
    files = bundle_files(fields)
    bundle = write_bundle(tmp_path, fields, files)
    known = replace(case(bundle), noise=None)
    bundle = write_bundle(tmp_path, fields, {**files, "parity.npz": parity_bytes([known], 1e-4)})
    with pytest.raises(BundleError, match=r"has no noise, but sampler\.kind is flow_matching"):
        run_parity(bundle, OnnxPolicy(bundle))
