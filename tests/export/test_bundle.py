"""The committed bundle: complete, small, and the same on this machine as where it was made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from vla_ros.export.demo.encoding import COLORS
from vla_ros.export.demo.text import build_tokenizer
from vla_ros.policy.bundle import Bundle, load_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import read_parity, run_parity
from vla_ros.policy.prompt import read_tokenizer, tokenise
from vla_ros.sim.task import INSTRUCTIONS

DIRECTORY = Path(__file__).parents[2] / "policies" / "franka_pick"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(DIRECTORY)


def test_it_is_at_most_25_megabytes_without_external_weights(bundle: Bundle) -> None:
    assert sum(f.stat().st_size for f in DIRECTORY.iterdir()) <= 25e6
    for name in (bundle.manifest.graphs.prefix, bundle.manifest.graphs.step):
        graph = onnx.load(str(bundle.path(name)), load_external_data=False).graph
        assert not any(w.data_location == onnx.TensorProto.EXTERNAL for w in graph.initializer)


def test_every_file_is_listed_and_there_is_a_card(bundle: Bundle) -> None:
    present = {f.name for f in DIRECTORY.iterdir()} - {"policy.yaml"}
    assert present == set(bundle.manifest.sha256)
    assert "README.md" in present


def test_parity(bundle: Bundle) -> None:
    result = run_parity(bundle, OnnxPolicy(bundle, threads=1))
    assert result.ok and result.cases >= 4 and result.cosine > 0.9999


def test_the_tokenizer_is_the_one_trained_with(bundle: Bundle) -> None:
    tokenizer, built = read_tokenizer(bundle), build_tokenizer()
    assert tokenizer.get_vocab() == built.get_vocab()
    for template in INSTRUCTIONS:
        ids = tokenise(tokenizer, bundle.manifest, template.format(color="red"))
        assert built.encode(template.format(color="red")).ids == ids[0][ids[0] > 0].tolist()


def test_the_named_colour_steers_the_arm(bundle: Bundle) -> None:
    """From the same picture, different colours give different goals; the same colour in other words
    does not."""
    policy, tokenizer = OnnxPolicy(bundle, threads=1), read_tokenizer(bundle)
    spread, same = [], []
    for case in read_parity(bundle.path(bundle.manifest.parity))[0]:

        def chunk(text: str, case=case) -> np.ndarray:
            inputs = {**case.inputs, "tokens": tokenise(tokenizer, bundle.manifest, text)}
            return policy.infer(inputs, case.noise).values[:, :3]

        colors = [chunk(f"pick up the {color} block") for color in COLORS]
        spread.append(np.std(colors, axis=0).max())
        spoken = [chunk(template.format(color="red")) for template in INSTRUCTIONS]
        same.append(np.std(spoken, axis=0).max())
    assert np.mean(spread) > 0.1
    assert np.mean(same) < 0.5 * np.mean(spread)


def test_the_graphs_carry_no_path_of_the_machine_that_exported_them() -> None:
    for name in ("prefix.onnx", "step.onnx"):
        data = (DIRECTORY / name).read_bytes()
        assert b"stack_trace" not in data and b"site-packages" not in data, name
