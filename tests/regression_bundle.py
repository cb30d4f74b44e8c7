"""A tiny bundle whose one graph gives the chunk itself, without language as ACT, or with a prompt.

The chunk is the goal of `tests.tiny_bundle`: tanh(features(inputs) W).
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
    manifest_fields,
    parity_case,
    prefix_graph,
    statistics,
    tokenizer_json,
)
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.parity import ParityCase, parity_bytes


def regression_fields(prompt: bool = False) -> dict[str, Any]:
    fields = manifest_fields()
    fields["sampler"] = {"kind": "regression"}
    fields["graphs"] = {"regression": "act.onnx"}
    if not prompt:
        del fields["inputs"]["prompt"]
    return fields


def regression_graph(
    fields: dict[str, Any], declared: int = 0, given: int = 0, fails_in_the_dark: bool = False
) -> bytes:
    """action = goal. declared, given: how many rows more than the manifest's horizon the graph says that it
    gives, and gives. fails_in_the_dark: the chunk is NaN where the front camera's picture is black."""
    model = onnx.load_from_string(prefix_graph(fields))
    shape = [1, fields["outputs"]["horizon"] + declared]
    shape.append(sum(part["size"] for part in fields["outputs"]["action"]))
    nodes = [
        # A number that only running it gives, so that onnxruntime cannot see the shape on loading.
        helper.make_node("ReduceMax", ["state"], ["any"], keepdims=0),
        helper.make_node("Mul", ["any", "nothing"], ["zero"]),
        helper.make_node("Cast", ["zero"], ["whole"], to=TensorProto.INT64),
        helper.make_node("Add", ["more", "whole"], ["end"]),
        helper.make_node("Slice", ["goal", "begin", "end", "rows"], ["repeated"]),
        helper.make_node("Concat", ["goal", "repeated"], ["chunk"], axis=1),
    ]
    if fails_in_the_dark:
        nodes += [
            helper.make_node("Floor", ["image.front.m"], ["light"]),
            helper.make_node("ReduceMax", ["light"], ["most"], keepdims=0),
            helper.make_node("Div", ["most", "most"], ["one"]),
            helper.make_node("Mul", ["chunk", "one"], ["action"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["chunk"], ["action"]))
    initialisers = [
        _tensor("nothing", np.float32(0)),
        _tensor("more", np.array([given], np.int64)),
        _tensor("begin", np.array([0], np.int64)),
        _tensor("rows", np.array([1], np.int64)),
    ]
    graph = model.graph
    output = helper.make_tensor_value_info("action", TensorProto.FLOAT, shape)
    return _model([*graph.node, *nodes], list(graph.input), [output], [*graph.initializer, *initialisers])


def regression_case(fields: dict[str, Any]) -> ParityCase:
    """One whose chunk numpy computes from the same weights: one Euler step leads to the goal."""
    plain = {**fields, "sampler": {**manifest_fields()["sampler"], "steps": 1}}
    return replace(parity_case(plain, prefix_graph(fields)), noise=None)


def regression_files(fields: dict[str, Any], **graph: Any) -> dict[str, bytes | Path]:
    files: dict[str, bytes | Path] = {
        "act.onnx": regression_graph(fields, **graph),
        "dataset_statistics.json": json.dumps(statistics(manifest_fields())).encode(),
        "parity.npz": parity_bytes([regression_case(fields)], 1e-5),
    }
    if "prompt" in fields["inputs"]:
        files["tokenizer.json"] = tokenizer_json()
    return files


def write_regression_bundle(directory: Path, prompt: bool = False, **graph: Any) -> Bundle:
    fields = regression_fields(prompt)
    return write_bundle(directory, fields, regression_files(fields, **graph))
