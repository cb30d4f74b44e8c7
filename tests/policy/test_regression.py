"""Policies whose one graph gives the chunk itself, with language and without: what they give, and what is
refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.policy.test_preprocess import observation
from tests.regression_bundle import (
    regression_case,
    regression_fields,
    regression_files,
    write_regression_bundle,
)
from tests.tiny_bundle import ROOT, image_input, manifest_fields, prefix_graph
from tests.token_bundle import token_fields
from vla_ros.cli import app
from vla_ros.errors import BundleError, Refused
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.contract import match
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import ParityCase, parity_bytes, read_parity, run_parity
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.rtc import Guidance
from vla_ros.robot.load import load_robot

FRANKA_FILE = ROOT / "robot_configs" / "franka.yaml"
FRANKA = load_robot(FRANKA_FILE)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Without language."""
    return write_regression_bundle(tmp_path_factory.mktemp("act"))


def case(bundle: Bundle) -> ParityCase:
    return read_parity(bundle.path("parity.npz"))[0][0]


# --- the chunk ------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [True, False])
def test_the_chunk_is_the_graph_s(tmp_path: Path, prompt: bool) -> None:
    bundle = write_regression_bundle(tmp_path, prompt)
    known, policy = case(bundle), OnnxPolicy(bundle)
    assert ("tokens" in known.inputs) == prompt
    raw = policy.infer(known.inputs)
    assert raw.values.shape == (16, 10)
    assert raw.values.dtype == np.float32
    assert raw.values == pytest.approx(known.expected, abs=1e-5)
    assert len(set(raw.values.ravel().tolist())) > 100
    policy.warm_up()
    policy.reset()
    assert np.array_equal(policy.infer(known.inputs).values, raw.values)


def test_what_is_not_finite_is_refused(tmp_path: Path) -> None:
    bundle = write_regression_bundle(tmp_path, fails_in_the_dark=True)
    policy, known = OnnxPolicy(bundle), case(bundle)
    policy.warm_up()  # on black pictures: what comes out is not looked at
    assert policy.infer(known.inputs).values == pytest.approx(known.expected, abs=1e-5)
    dark = {**known.inputs, "image.front": np.zeros((1, 96, 128, 3), np.uint8)}
    with pytest.raises(Refused, match="returned 160 values not finite") as caught:
        policy.infer(dark)
    assert caught.value.reason == "nan"


def test_another_shape_than_declared_is_named_on_loading(tmp_path: Path) -> None:
    bundle = write_regression_bundle(tmp_path, declared=1, given=1)
    with pytest.raises(BundleError, match=r"act\.onnx: output 'action' is .* \[1, 17, 10\].* \[1, 16, 10\]"):
        OnnxPolicy(bundle)


def test_another_shape_than_the_graph_says_is_refused(tmp_path: Path) -> None:
    bundle = write_regression_bundle(tmp_path, given=1)
    with pytest.raises(Refused, match=r"returned \(1, 17, 10\), expected \(1, 16, 10\)") as caught:
        OnnxPolicy(bundle).infer(case(bundle).inputs)
    assert caught.value.reason == "shape"


def test_a_graph_of_another_kind_is_named(tmp_path: Path) -> None:
    fields = regression_fields()
    files = {**regression_files(fields), "act.onnx": prefix_graph(fields)}
    bundle = write_bundle(tmp_path, fields, files)
    with pytest.raises(BundleError, match=r"act\.onnx: outputs \['goal'\], .* \['action'\]"):
        OnnxPolicy(bundle)


def test_noise_and_guidance_are_an_error(bundle: Bundle) -> None:
    policy, known = OnnxPolicy(bundle), case(bundle)
    assert policy.rtc == "none"
    assert policy.noise() is None
    with pytest.raises(ValueError, match=r"noise for .* \(sampler\.kind: regression\)"):
        policy.infer(known.inputs, np.zeros((16, 10), np.float32))
    with pytest.raises(ValueError, match="without real-time chunking"):
        policy.infer(known.inputs, None, Guidance(known.expected, np.ones(16, np.float32), 1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["sampler"].update(rtc="guided"), r"yaml:\d+: sampler\.rtc: .*no steps to guide"),
        (lambda f: f["sampler"].update(steps=4), r"yaml:\d+: sampler\.steps: Extra inputs"),
        (lambda f: f["sampler"].update(noise_seed=0), r"yaml:\d+: sampler\.noise_seed: Extra inputs"),
        (lambda f: f["graphs"].pop("regression"), r"graphs\.regression is needed for sampler\.kind: regress"),
        (lambda f: f["graphs"].update(step="step.onnx"), r"graphs\.step is not for sampler\.kind: regress"),
        (lambda f: f["graphs"].update(tokens="act.onnx"), r"graphs\.tokens is not for sampler\.kind: regres"),
        (lambda f: f["sampler"].update(kind="tokens"), r"graphs\.tokens is needed for sampler\.kind: tokens"),
        (
            lambda f: f["normalisation"].update(token_fields()["normalisation"]),
            r"normalisation\.action\.bins is needed for sampler\.kind: tokens, and only there",
        ),
        (
            lambda f: f.update(sampler=manifest_fields()["sampler"]),
            r"graphs\.prefix is needed for sampler\.kind: flow_matching",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, change: Any, text: str) -> None:
    fields = regression_fields()
    change(fields)
    with pytest.raises(BundleError, match=text):
        write_bundle(tmp_path, fields, regression_files(regression_fields()))


# --- parity ---------------------------------------------------------------------------------------


def test_parity_notices_other_numbers(bundle: Bundle, tmp_path: Path) -> None:
    assert run_parity(bundle, OnnxPolicy(bundle)).ok
    fields = regression_fields()
    wrong = regression_case(fields)
    wrong.expected[5, 2] += 0.01
    files = {**regression_files(fields), "parity.npz": parity_bytes([wrong], 1e-5)}
    result = run_parity(beside := write_bundle(tmp_path, fields, files), OnnxPolicy(beside))
    assert not result.ok
    assert result.max_error == pytest.approx(0.01, abs=1e-5)


def test_parity_with_noise_is_of_another_kind(tmp_path: Path) -> None:
    fields = regression_fields()
    noisy = replace(regression_case(fields), noise=np.zeros((16, 10), np.float32))
    bundle = write_bundle(
        tmp_path, fields, {**regression_files(fields), "parity.npz": parity_bytes([noisy], 1e-5)}
    )
    with pytest.raises(BundleError, match=r"has noise, but sampler\.kind is regression"):
        run_parity(bundle, OnnxPolicy(bundle))


def test_vla_check_reruns_it(bundle: Bundle) -> None:
    arguments = ["check", "--robot", str(FRANKA_FILE), "--policy", str(bundle.directory), "--parity"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "parity holds: 1 recorded inferences rerun" in result.output
    assert "no prompt" in result.output


# --- without language -----------------------------------------------------------------------------


def test_it_needs_no_tokenizer_and_no_tokens(bundle: Bundle) -> None:
    assert not bundle.path("tokenizer.json").exists()
    preprocessor = Preprocessor(bundle, FRANKA)
    for prompt in ("", "  "):
        preprocessor.check_prompt(prompt)
        inputs = preprocessor(observation(prompt))
        assert set(inputs) == {"image.front", "image.wrist", "state"}
        assert OnnxPolicy(bundle).infer(inputs).values.shape == (16, 10)


def test_what_it_cannot_be_told_is_refused(bundle: Bundle) -> None:
    preprocessor = Preprocessor(bundle, FRANKA)
    for tell in (preprocessor.check_prompt, lambda prompt: preprocessor(observation(prompt))):
        with pytest.raises(
            Refused, match=r"trained without language .*: 'lift it'; leave the prom"
        ) as caught:
            tell("lift it")
        assert caught.value.reason == "prompt_not_taken"
    with pytest.raises(ValueError, match=r"has no prompt \(manifest: inputs\.prompt\)"):
        preprocessor.tokens("lift it")


def test_that_it_takes_no_prompt_is_a_line_of_the_contract(bundle: Bundle, tmp_path: Path) -> None:
    lines = {line.what: line for line in match(bundle, FRANKA)}
    assert all(line.ok for line in lines.values())
    assert (lines["prompt"].policy_says, lines["prompt"].robot_says) == ("no prompt", "any is refused")
    assert "prompt" not in {line.what for line in match(write_regression_bundle(tmp_path, True), FRANKA)}


def test_a_graph_that_needs_tokens_has_a_prompt(tmp_path: Path) -> None:
    """Left out by mistake."""
    told = regression_fields(prompt=True)
    bundle = write_bundle(tmp_path, regression_fields(), regression_files(told))
    with pytest.raises(BundleError, match=r"inputs \[.*'tokens'\], the manifest implies"):
        OnnxPolicy(bundle)


def test_a_tag_has_a_prompt_that_says_it(tmp_path: Path) -> None:
    fields = regression_fields()
    fields["inputs"]["images"][0] = image_input("front", tag="front view")
    with pytest.raises(BundleError, match=r"\['front'\] have a tag, but prompt\.template holds no \{views\}"):
        write_bundle(tmp_path, fields, regression_files(regression_fields()))
