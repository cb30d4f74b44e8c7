"""Policies that give tokens: from the graph's ids to values, as OpenVLA decodes them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from tests.action.manifests import manifest, pose_parts, robot
from tests.tiny_bundle import ROOT, manifest_fields, prefix_graph
from tests.token_bundle import OFFSET, openvla_values, token_fields, token_files, write_token_bundle
from vla_ros.action.bins import ActionBins, to_tokens
from vla_ros.action.decode import decode, encode
from vla_ros.action.normalise import Scaling, denormalise, normalise
from vla_ros.cli import app
from vla_ros.errors import BundleError, Refused
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.contract import match
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import ParityCase, parity_bytes, read_parity, run_parity
from vla_ros.policy.rtc import Guidance
from vla_ros.robot.channels import tool_channels
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk, Observation

FRANKA = ROOT / "robot_configs" / "franka.yaml"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_token_bundle(tmp_path_factory.mktemp("tokens"))


def case(bundle: Bundle) -> ParityCase:
    return read_parity(bundle.path("parity.npz"))[0][0]


def test_the_ids_are_the_graph_s(bundle: Bundle) -> None:
    known = case(bundle)
    policy = OnnxPolicy(bundle)
    raw = policy.infer(known.inputs)
    assert raw.values.shape == (16, 10)
    assert raw.values.dtype == np.float32
    assert np.array_equal(raw.values, known.expected)
    assert len(set(raw.values.ravel().tolist())) > 30
    policy.warm_up()
    policy.reset()
    assert np.array_equal(policy.infer(known.inputs).values, raw.values)


def test_they_become_si_values_as_in_openvla(bundle: Bundle) -> None:
    """modeling_prismatic.py, predict_action: bin centres, then 0.5 (v + 1) (q99 - q01) + q01 where masked."""
    raw = OnnxPolicy(bundle).infer(case(bundle).inputs)
    low, high = bundle.action.extent
    v = openvla_values(raw.values)
    expected = np.where(bundle.action.mask, 0.5 * (v + 1) * (high - low) + low, v)
    assert denormalise(raw.values, bundle.action) == pytest.approx(expected, abs=1e-12)


def test_worked_by_hand(bundle: Bundle) -> None:
    """255 bins of 2 / 255: 31999 is the first, -254/255; 31872 the middle one, 0; 31745 and 31744 the last,
    254/255. Positions of -5 to 5 cm, the last column as it is."""
    ids = np.full((16, 10), 31872.0)
    ids[0, :3] = 31999, 31745, 31744
    ids[0, 9] = 31744
    values = denormalise(ids, bundle.action)
    assert values[0, :3] == pytest.approx(0.05 * np.array([-254, 254, 254]) / 255, abs=1e-15)
    assert values[1, :3] == pytest.approx(np.zeros(3), abs=1e-15)
    assert values[0, 9] == pytest.approx(254 / 255, abs=1e-15)
    assert values[1, 9] == 0.0


def test_each_of_256_tokens_is_its_own_bin_again(bundle: Bundle) -> None:
    """But the one of exactly 1, which stands for the last bin as well."""
    ids = np.full((16, 10), 31872.0)
    for token in range(OFFSET - 256, OFFSET):
        ids[3, 1] = token
        again = normalise(denormalise(ids, bundle.action), bundle.action)
        expected = ids.copy()
        expected[3, 1] = max(token, 31745)
        # A middle may come out an ulp beside itself, never beside its bin.
        assert np.array_equal(again, expected)


@pytest.mark.parametrize("shift", [-300, 100])
def test_a_token_that_is_no_action_is_refused_with_its_column(tmp_path: Path, shift: int) -> None:
    bundle = write_token_bundle(tmp_path, shift=shift)
    raw = OnnxPolicy(bundle).infer(case(bundle).inputs)
    wrong = (raw.values < 31744) | (raw.values > 31999)
    assert wrong.any()
    with pytest.raises(Refused, match=r"its tokens are 31744 to 31999") as caught:
        denormalise(raw.values, bundle.action)
    assert caught.value.reason == "token"
    assert f"in columns {sorted(set(np.nonzero(wrong)[1].tolist()))};" in str(caught.value)


def test_parity_is_of_the_same_tokens(bundle: Bundle, tmp_path: Path) -> None:
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.ok
    assert (result.max_error, result.tolerance) == (0.0, 0.0)
    fields = token_fields()
    known = case(bundle)
    known.expected[5, 2] += 1
    files = {**token_files(fields), "parity.npz": parity_bytes([known], 0.0)}
    result = run_parity(beside := write_bundle(tmp_path, fields, files), OnnxPolicy(beside))
    assert not result.ok
    assert result.max_error == pytest.approx(2 / 255)


def test_parity_with_noise_is_of_another_kind(tmp_path: Path) -> None:
    fields = token_fields()
    files = token_files(fields)
    with_noise = ParityCase({"state": np.zeros((1, 10))}, *[np.zeros((16, 10), np.float32)] * 2)
    bundle = write_bundle(tmp_path, fields, {**files, "parity.npz": parity_bytes([with_noise], 0.0)})
    with pytest.raises(BundleError, match=r"has noise, but sampler\.kind is tokens"):
        run_parity(bundle, OnnxPolicy(bundle))


def test_noise_and_guidance_are_an_error(bundle: Bundle) -> None:
    policy, known = OnnxPolicy(bundle), case(bundle)
    assert policy.rtc == "none"
    assert policy.noise() is None
    with pytest.raises(ValueError, match=r"noise for .* \(sampler\.kind: tokens\)"):
        policy.infer(known.inputs, np.zeros((16, 10), np.float32))
    with pytest.raises(ValueError, match="without real-time chunking"):
        policy.infer(known.inputs, None, Guidance(known.expected, np.ones(16, np.float32), 1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f["sampler"].update(rtc="guided"), r"yaml:\d+: sampler\.rtc: .*no steps to guide"),
        (lambda f: f["sampler"].update(steps=4), r"yaml:\d+: sampler\.steps: Extra inputs"),
        (lambda f: f["sampler"].update(kind="diffusion"), r"sampler: .*'flow_matching', 'tokens'"),
        (lambda f: f["graphs"].pop("tokens"), r"graphs\.tokens is needed for sampler\.kind: tokens"),
        (lambda f: f["graphs"].update(step="step.onnx"), r"graphs\.step is not for sampler\.kind: tokens"),
        (
            lambda f: f["graphs"].update(step_guided="step.onnx"),
            r"graphs\.step_guided is needed for sampler\.rtc: guided, and only there",
        ),
        (lambda f: f["normalisation"]["action"].pop("bins"), r"normalisation\.action\.bins is needed for"),
        (lambda f: f["normalisation"]["action"]["bins"].update(token_offset=2**24 + 1), "token_offset"),
        (
            lambda f: f.update({key: manifest_fields()[key] for key in ("sampler", "graphs")}),
            r"normalisation\.action\.bins is needed for sampler\.kind: tokens, and only there",
        ),
        (
            lambda f: f.update(sampler=manifest_fields()["sampler"]),
            r"graphs\.prefix is needed for sampler\.kind: flow_matching",
        ),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(tmp_path: Path, change: Any, text: str) -> None:
    fields = token_fields()
    change(fields)
    with pytest.raises(BundleError, match=text):
        write_bundle(tmp_path, fields, token_files(token_fields()))


def test_a_graph_of_another_kind_is_named(tmp_path: Path) -> None:
    fields = token_fields()
    files = {**token_files(fields), "tokens.onnx": prefix_graph(fields)}
    bundle = write_bundle(tmp_path, fields, files)
    with pytest.raises(BundleError, match=r"tokens\.onnx: outputs \['goal'\], .* \['action_tokens'\]"):
        OnnxPolicy(bundle)


def test_what_the_tokens_are_is_a_line_of_the_contract(bundle: Bundle) -> None:
    lines = {line.what: line for line in match(bundle, load_robot(FRANKA))}
    assert all(line.ok for line in lines.values())
    assert lines["action tokens"].policy_says == "31744 to 31999, 31999 is -1"
    assert lines["action tokens"].robot_says == "in 255 bins; other tokens are refused"


def test_vla_check_reruns_it(bundle: Bundle) -> None:
    arguments = ["check", "--robot", str(FRANKA), "--policy", str(bundle.directory), "--parity"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "parity holds: 1 recorded inferences rerun: largest difference 0.00e+00" in result.output


def test_a_chunk_is_its_own_again_with_padding_too() -> None:
    """encode(decode(x)) == x: tokens stand in the padding as well, those of zero."""
    described = manifest([*pose_parts("absolute", "absolute"), {"signal": "padding", "size": 3}], 4)
    width = described.outputs.size
    used = np.arange(width) < 9
    ends = np.where(used, 2.0, np.nan)
    scaling = Scaling(-ends, ends, used, bins=ActionBins(256, OFFSET, counts_down=True))
    rng = np.random.default_rng(0)
    pose = np.array([*rng.uniform(-0.5, 0.5, 3), *Rotation.random(rng=rng).as_quat()])
    chunk = ActionChunk(tool_channels("arm"), np.tile(pose, (4, 1)), 10**8 * np.arange(1, 5), 0)
    raw = encode(chunk, {}, described, scaling, robot("arm"))
    assert (raw.values[:, 9:] == 31872).all()
    seen = Observation({}, {}, "", {}, 0)
    again = decode(raw, seen, described, scaling, robot("arm"))
    assert again.targets[:, :3] == pytest.approx(chunk.targets[:, :3], abs=2 / 255 + 1e-9)


def test_a_policy_may_count_up(tmp_path: Path) -> None:
    fields = token_fields()
    fields["normalisation"]["action"]["bins"] = {"count": 256, "token_offset": 31744, "counts_down": False}
    bundle = write_bundle(tmp_path, fields, token_files(fields))
    raw = OnnxPolicy(bundle).infer(case(bundle).inputs).values
    assert bundle.action.bins is not None
    assert to_tokens(-1.0, bundle.action.bins) == 31744
    index = raw[:, 9].astype(np.int64) - 31744
    assert denormalise(raw, bundle.action)[:, 9] == pytest.approx(
        -254 / 255 + 2 / 255 * np.minimum(index, 254)
    )
