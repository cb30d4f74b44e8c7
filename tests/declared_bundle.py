"""A tiny bundle whose prefix graph takes whatever its manifest's inputs declare, and lets all of it count."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from tests.tiny_bundle import _model, _tensor, bundle_files, manifest_fields, statistics
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.manifest_inputs import Inputs

HISTORY = {"frames": 3, "stride_s": 0.2, "of": ["images", "state"], "before": "repeat_first"}
KINDS = {
    "uint8": TensorProto.UINT8,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
}


def fields_with(**inputs: Any) -> dict[str, Any]:
    fields = manifest_fields()
    fields["inputs"] |= inputs
    return fields


def images_with(**wrist: Any) -> list[dict[str, Any]]:
    images = copy.deepcopy(manifest_fields()["inputs"]["images"])
    images[1] |= wrist
    return images


def prompt_with(**changes: Any) -> dict[str, Any]:
    return {**manifest_fields()["inputs"]["prompt"], **changes}


def write_declared_bundle(
    directory: Path, fields: dict[str, Any], low: float = -1.0, high: float = 1.0
) -> Bundle:
    """low, high: what all of the state becomes -1 and 1 from."""
    rng = np.random.default_rng(0)
    nodes, inputs, initialisers, found = [], [], [_tensor("flat", np.array([1, -1], np.int64))], []
    width = sum(part["size"] for part in fields["outputs"]["action"])
    shape = [1, fields["outputs"]["horizon"], width]
    for name, (kind, size) in Inputs.model_validate(fields["inputs"]).tensors.items():
        inputs.append(helper.make_tensor_value_info(name, KINDS[kind], list(size)))
        is_image = name.startswith("image.")
        count = int(np.prod(size)) // (size[-3] * size[-2] if is_image else 1)
        weights = rng.normal(0, 0.1, (count, shape[1] * width))
        initialisers.append(_tensor(f"{name}.w", weights.astype(np.float32)))
        nodes += [
            helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{name}.f", "pixels"], [f"{name}.m"])
            if is_image
            else helper.make_node("Identity", [f"{name}.f"], [f"{name}.m"]),
            helper.make_node("Reshape", [f"{name}.m", "flat"], [f"{name}.v"]),
            helper.make_node("MatMul", [f"{name}.v", f"{name}.w"], [f"{name}.g"]),
        ]
        found.append(f"{name}.g")
    nodes += [
        helper.make_node("Sum", found, ["sum"]),
        helper.make_node("Reshape", ["sum", "shape"], ["goal"]),
    ]
    initialisers += [
        _tensor("shape", np.array(shape, np.int64)),
        _tensor("pixels", np.array([-3, -2], np.int64)),
    ]
    goal = helper.make_tensor_value_info("goal", TensorProto.FLOAT, shape)
    plain = manifest_fields()
    files = bundle_files({**fields, **{key: plain[key] for key in ("inputs", "normalisation")}})
    files["prefix.onnx"] = _model(nodes, inputs, [goal], initialisers)
    key = fields["normalisation"]["action"].get("key", "tiny")
    numbers = {key: statistics(plain)["tiny"]}
    state = sum(part["size"] for part in fields["inputs"]["state"])
    numbers[key]["proprio"] = {"q01": [low] * state, "q99": [high] * state, "mask": [True] * state}
    files["dataset_statistics.json"] = json.dumps(numbers).encode()
    return write_bundle(directory, fields, files)
