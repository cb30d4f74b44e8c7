"""A tiny bundle whose graph gives a language model's action tokens, made from `tests.tiny_bundle`'s features.

Its goal, tanh(features(inputs) W), picks the tokens: the bins that it lies in.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.tiny_bundle import (
    _model,
    _tensor,
    bundle_files,
    manifest_fields,
    parity_case,
    prefix_graph,
    statistics,
)
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.parity import parity_bytes

# OpenVLA's: 256 tokens down from the end of a vocabulary of 32000.
OFFSET = 32000
BINS = {"count": 256, "token_offset": OFFSET, "counts_down": True}


def token_fields() -> dict[str, Any]:
    fields = manifest_fields()
    fields["sampler"] = {"kind": "tokens"}
    fields["graphs"] = {"tokens": "tokens.onnx"}
    fields["normalisation"]["action"] |= {"bins": dict(BINS)}
    return fields


def token_graph(fields: dict[str, Any], shift: int = 0, word: str | None = None) -> bytes:
    """action_tokens = OFFSET - 1 - floor((goal + 1) / 2 * 255) + shift.

    word: of tests.tiny_bundle.WORDS; with it in the prompt the first row's last token is 2, no action.
    """
    model = onnx.load_from_string(prefix_graph(fields))
    horizon, width = fields["outputs"]["horizon"], sum(part["size"] for part in fields["outputs"]["action"])
    said = np.zeros((1, horizon, width), np.float32)
    said[0, 0, -1] = 1
    nodes = [
        helper.make_node("Add", ["goal", "one"], ["from_zero"]),
        helper.make_node("Mul", ["from_zero", "per_bin"], ["position"]),
        helper.make_node("Floor", ["position"], ["index"]),
        helper.make_node("Sub", ["highest", "index"], ["ids"]),
        # How often the word is among the prompt's tokens, 0 or 1, times the place that it spoils.
        helper.make_node("Equal", ["tokens", "word"], ["equal"]),
        helper.make_node("Cast", ["equal"], ["counted"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["counted"], ["said"], keepdims=0),
        helper.make_node("Mul", ["place", "said"], ["spoilt"]),
        helper.make_node("Sub", ["two", "ids"], ["to_two"]),
        helper.make_node("Mul", ["spoilt", "to_two"], ["change"]),
        helper.make_node("Add", ["ids", "change"], ["all_ids"]),
        helper.make_node("Cast", ["all_ids"], ["action_tokens"], to=TensorProto.INT64),
    ]
    vocabulary = json.loads(bytes(bundle_files(manifest_fields())["tokenizer.json"]))["model"]["vocab"]
    initialisers = [
        _tensor("one", np.float32(1)),
        _tensor("per_bin", np.float32(127.5)),
        _tensor("highest", np.float32(OFFSET - 1 + shift)),
        _tensor("word", np.array([-1 if word is None else vocabulary[word]], np.int64)),
        _tensor("place", said),
        _tensor("two", np.float32(2)),
    ]
    graph = model.graph
    output = helper.make_tensor_value_info("action_tokens", TensorProto.INT64, [1, horizon, width])
    return _model([*graph.node, *nodes], list(graph.input), [output], [*graph.initializer, *initialisers])


def openvla_values(ids: np.ndarray) -> np.ndarray:
    """prismatic/extern/hf/modeling_prismatic.py, predict_action, as it stands there: normalised actions."""
    bins = np.linspace(-1, 1, 256)
    centres = (bins[:-1] + bins[1:]) / 2.0
    index = np.clip(OFFSET - ids.astype(np.int64) - 1, a_min=0, a_max=centres.shape[0] - 1)
    return centres[index]


def token_files(fields: dict[str, Any], **graph: Any) -> dict[str, bytes | Path]:
    """With a parity case whose tokens numpy computes from the same weights."""
    plain = manifest_fields()
    plain["sampler"]["steps"] = 1  # one step leads to the goal
    known = parity_case(plain, prefix_graph(plain))
    ids = OFFSET - 1 - np.floor((known.expected.astype(np.float64) + 1) * 127.5)
    case = replace(known, noise=None, expected=ids.astype(np.float32))
    return {
        "tokens.onnx": token_graph(fields, **graph),
        "tokenizer.json": bundle_files(plain)["tokenizer.json"],
        "dataset_statistics.json": json.dumps(statistics(fields)).encode(),
        "parity.npz": parity_bytes([case], 0.0),
    }


def write_token_bundle(directory: Path, **graph: Any) -> Bundle:
    fields = token_fields()
    return write_bundle(directory, fields, token_files(fields, **graph))
