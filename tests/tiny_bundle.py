"""A tiny bundle with real ONNX graphs (random weights), for tests that need a policy but no skill.

Its network computes goal = tanh(features(inputs) W) and velocity = goal - x, so one Euler step from any
noise gives exactly the goal: tests can tell what went in.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers

from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.parity import ParityCase, parity_bytes
from vla_ros.policy.rtc import Guidance, soft_weights

ROOT = Path(__file__).parents[1]
WORDS = ("pick", "up", "the", "a", "block", "cube", "grab", "and", "lift", "it")
WORDS += ("red", "green", "blue", "yellow", "purple", "orange")
VOCABULARY = len(WORDS) + 2
STATE = [
    {"arm": "arm", "signal": "tcp_position", "size": 3},
    {"arm": "arm", "signal": "tcp_rotation", "rotation": "rot6d_columns", "size": 6},
    {"arm": "arm", "signal": "gripper", "gripper": {"unit": "width_m"}, "size": 1},
]
ACTION = [
    {"arm": "arm", "signal": "tcp_position", "size": 3, "reference": "eef_relative"},
    {
        "arm": "arm",
        "signal": "tcp_rotation",
        "size": 6,
        "reference": "eef_relative",
        "rotation": "rot6d_columns",
    },
    {
        "arm": "arm",
        "signal": "gripper",
        "size": 1,
        "gripper": {"unit": "open_fraction", "binary": {"threshold": 0.5, "hysteresis": 0.1}},
    },
]


def franka_fields() -> dict[str, Any]:
    """The Franka's YAML as plain values, to be changed and given to `Robot.model_validate`."""
    return yaml.safe_load((ROOT / "robot_configs" / "franka.yaml").read_text())


def image_input(role: str, **changes: Any) -> dict[str, Any]:
    return {
        "role": role,
        "height": 96,
        "width": 128,
        "kernel": "area",
        "fit": "stretch",
        "colour": "rgb",
        "dtype": "uint8",
        **changes,
    }


def manifest_fields(roles: tuple[str, ...] = ("front", "wrist")) -> dict[str, Any]:
    """The manifest without sha256, as plain values."""
    fields = {
        "schema_version": 3,
        "name": "tiny",
        "embodiment": "franka_fr3",
        "arms": ["arm"],
        "inputs": {
            "images": [image_input(role) for role in roles],
            "state": STATE,
            "prompt": {
                "template": "{instruction}",
                "tokenizer": "tokenizer.json",
                "max_tokens": 16,
                "pad_id": 0,
                "lowercase": True,
            },
            "history": 1,
        },
        "outputs": {
            "horizon": 16,
            "dt_s": 0.1,
            "first_step": 1,
            "action": ACTION,
        },
        "normalisation": {
            vector: {
                "kind": "q01_q99",
                "format": "dataset_statistics",
                "file": "dataset_statistics.json",
                "key": "tiny",
                "clip": clip,
            }
            for vector, clip in (("action", False), ("proprio", 1.0))
        },
        "sampler": {
            "kind": "flow_matching",
            "direction": "noise_to_data",
            "steps": 4,
            "noise_seed": 7,
            "rtc": "none",
        },
        "graphs": {"prefix": "prefix.onnx", "step": "step.onnx"},
        "parity": "parity.npz",
        "latency": {"device": "test", "p50_ms": 1.0, "p99_ms": 2.0},
    }
    return copy.deepcopy(fields)


def _tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(values, name)


def _model(nodes: list, inputs: list, outputs: list, initialisers: list) -> bytes:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def prefix_graph(
    fields: dict[str, Any], horizon_shift: int = 0, embedded: int = VOCABULARY, slow: int = 0
) -> bytes:
    """Image means, tokens (where there is a prompt) and state through one random layer.

    embedded: how many tokens the embedding holds; onnxruntime fails on one beyond. slow: how many products
    of 1024x1024 matrices, some 20 ms each, are made beside it and added as zero.
    """
    inputs_ = fields["inputs"]
    horizon = fields["outputs"]["horizon"] + horizon_shift
    width = sum(part["size"] for part in fields["outputs"]["action"])
    state = sum(part["size"] for part in inputs_["state"])
    nodes, inputs, features = [], [], []
    for image in inputs_["images"]:
        name = f"image.{image['role']}"
        kind = TensorProto.UINT8 if image["dtype"] == "uint8" else TensorProto.FLOAT
        inputs.append(helper.make_tensor_value_info(name, kind, [1, image["height"], image["width"], 3]))
        nodes += [
            helper.make_node("Cast", [name], [f"{name}.f"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", [f"{name}.f", "axes"], [f"{name}.m"], keepdims=0),
            helper.make_node("Div", [f"{name}.m", "scale"], [f"{name}.s"]),
        ]
        features.append(f"{name}.s")
    tokens = inputs_["prompt"]["max_tokens"] if "prompt" in inputs_ else 0
    if tokens:
        inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, [1, tokens]))
        nodes.append(helper.make_node("Gather", ["embedding", "tokens"], ["tokens.s"]))
        features.append("tokens.s")
    inputs.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [1, state]))
    nodes += [
        helper.make_node("Concat", [*features, "state"], ["features"], axis=1),
        helper.make_node("MatMul", ["features", "weights"], ["flat"]),
        *slow_nodes(slow),
        helper.make_node("Add", ["flat", "burden"], ["all"]),
        helper.make_node("Tanh", ["all"], ["squashed"]),
        helper.make_node("Reshape", ["squashed", "shape"], ["goal"]),
    ]
    rng = np.random.default_rng(0)
    size = 3 * len(inputs_["images"]) + tokens + state
    initialisers = [
        _tensor("axes", np.array([1, 2], np.int64)),
        _tensor("scale", np.float32(255)),
        _tensor("embedding", (np.arange(embedded) / VOCABULARY).astype(np.float32)),
        _tensor("weights", rng.normal(0, 0.3, (size, horizon * width)).astype(np.float32)),
        _tensor("shape", np.array([1, horizon, width], np.int64)),
        _tensor("burden.matrix", np.zeros((1024 if slow else 1,) * 2, np.float32)),
    ]
    goal = helper.make_tensor_value_info("goal", TensorProto.FLOAT, [1, horizon, width])
    return _model(nodes, inputs, [goal], initialisers)


def slow_nodes(count: int) -> list[onnx.NodeProto]:
    """Products that hang on the state, so that onnxruntime cannot make them in advance."""
    nodes = [
        helper.make_node("ReduceMean", ["state"], ["burden.state"], keepdims=0),
        helper.make_node("Mul", ["burden.matrix", "burden.state"], ["burden.0"]),
    ]
    for index in range(count):
        nodes.append(helper.make_node("MatMul", [f"burden.{index}"] * 2, [f"burden.{index + 1}"]))
    return [*nodes, helper.make_node("ReduceMax", [f"burden.{count}"], ["burden"], keepdims=0)]


def step_graph(fields: dict[str, Any], horizon_shift: int = 0, gain: float = 1.0) -> bytes:
    """velocity = gain * (goal - x); `gain` may be NaN to test what is done with it."""
    shape = [1, fields["outputs"]["horizon"] + horizon_shift]
    shape.append(sum(part["size"] for part in fields["outputs"]["action"]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
        for name, size in (("goal", shape), ("x", shape), ("t", [1]))
    ]
    nodes = [
        helper.make_node("Sub", ["goal", "x"], ["difference"]),
        helper.make_node("Mul", ["t", "zero"], ["nothing"]),
        helper.make_node("Add", ["difference", "nothing"], ["sum"]),
        helper.make_node("Mul", ["sum", "gain"], ["velocity"]),
    ]
    output = helper.make_tensor_value_info("velocity", TensorProto.FLOAT, shape)
    initialisers = [_tensor("zero", np.float32(0)), _tensor("gain", np.float32(gain))]
    return _model(nodes, inputs, [output], initialisers)


def guided_graph(fields: dict[str, Any]) -> bytes:
    """`step_graph` with the guidance's correction: f = x + (1 - t) (goal - x), so df/dx is t."""
    horizon, width = fields["outputs"]["horizon"], sum(part["size"] for part in fields["outputs"]["action"])
    shape = [1, horizon, width]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
        for name, size in (
            ("goal", shape), ("x", shape), ("t", [1]), ("target", shape), ("weights", [1, horizon])
        )
    ]  # fmt: skip
    nodes = [
        helper.make_node("Sub", ["goal", "x"], ["velocity"]),
        helper.make_node("Sub", ["one", "t"], ["left"]),
        helper.make_node("Mul", ["velocity", "left"], ["way"]),
        helper.make_node("Add", ["x", "way"], ["end"]),
        helper.make_node("Sub", ["target", "end"], ["error"]),
        helper.make_node("Unsqueeze", ["weights", "last"], ["column"]),
        helper.make_node("Mul", ["error", "column"], ["weighted"]),
        helper.make_node("Mul", ["weighted", "t"], ["correction"]),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("velocity", "correction")
    ]
    initialisers = [_tensor("one", np.float32(1)), _tensor("last", np.array([2], np.int64))]
    return _model(nodes, inputs, outputs, initialisers)


def prefix_step_graph(fields: dict[str, Any]) -> bytes:
    """velocity = goal + (sum of the rows whose time is 1) - x, with a time for each row."""
    horizon, width = fields["outputs"]["horizon"], sum(part["size"] for part in fields["outputs"]["action"])
    shape = [1, horizon, width]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
        for name, size in (("goal", shape), ("x", shape), ("t", [1, horizon]))
    ]
    nodes = [
        helper.make_node("Floor", ["t"], ["clean"]),
        helper.make_node("Unsqueeze", ["clean", "last"], ["column"]),
        helper.make_node("Mul", ["x", "column"], ["prefix"]),
        helper.make_node("ReduceSum", ["prefix", "rows"], ["sum"], keepdims=1),
        helper.make_node("Add", ["goal", "sum"], ["wanted"]),
        helper.make_node("Sub", ["wanted", "x"], ["velocity"]),
    ]
    output = helper.make_tensor_value_info("velocity", TensorProto.FLOAT, shape)
    initialisers = [_tensor("last", np.array([2], np.int64)), _tensor("rows", np.array([1], np.int64))]
    return _model(nodes, inputs, [output], initialisers)


def tokenizer_json() -> bytes:
    vocabulary = {"[PAD]": 0, "[UNK]": 1, **{word: i + 2 for i, word in enumerate(WORDS)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer.to_str().encode()


def statistics(fields: dict[str, Any]) -> dict[str, Any]:
    """Small motions around the present pose; the gripper passes through unnormalised."""
    action = {
        "q01": [-0.05, -0.05, -0.05, 0.9, -0.1, -0.1, -0.1, 0.9, -0.1, 0.0],
        "q99": [0.05, 0.05, 0.05, 1.0, 0.1, 0.1, 0.1, 1.0, 0.1, 1.0],
        "mask": [True] * 9 + [False],
    }
    proprio = {
        "q01": [0.2, -0.4, 0.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.0],
        "q99": [0.7, 0.4, 0.7, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.08],
        "mask": [True] * 10,
    }
    return {fields["normalisation"]["proprio"]["key"]: {"action": action, "proprio": proprio}}


def bundle_files(
    fields: dict[str, Any], gain: float = 1.0, embedded: int = VOCABULARY, slow: int = 0
) -> dict[str, bytes | Path]:
    """Every file of the bundle, with a parity case computed by numpy from the same weights."""
    prefix, rtc = prefix_graph(fields, embedded=embedded, slow=slow), fields["sampler"]["rtc"]
    files: dict[str, bytes | Path] = {
        "prefix.onnx": prefix,
        "step.onnx": prefix_step_graph(fields) if rtc == "prefix" else step_graph(fields, gain=gain),
        "tokenizer.json": tokenizer_json(),
        "dataset_statistics.json": json.dumps(statistics(fields)).encode(),
        "parity.npz": parity_bytes([parity_case(fields, prefix)], 1e-4),
    }
    if rtc == "guided":
        files["step_guided.onnx"] = guided_graph(fields)
    return files


def with_rtc(kind: str, steps: int = 4) -> dict[str, Any]:
    """Manifest keys of a bundle with real-time chunking, for `write_tiny_bundle`."""
    fields = manifest_fields()
    fields["sampler"] |= {"rtc": kind, "steps": steps}
    if kind == "guided":
        fields["graphs"]["step_guided"] = "step_guided.onnx"
    else:
        fields["sampler"]["prefix_rows"] = 6
    return {key: fields[key] for key in ("sampler", "graphs")}


def parity_case(fields: dict[str, Any], prefix: bytes) -> ParityCase:
    rng = np.random.default_rng(1)
    inputs: dict[str, np.ndarray] = {}
    features = []
    for image in fields["inputs"]["images"]:
        shape = (1, image["height"], image["width"], 3)
        pixels = rng.integers(0, 256, shape, np.uint8)
        if image["dtype"] == "float32":
            pixels = pixels.astype(np.float32)
        inputs[f"image.{image['role']}"] = pixels
        features.append(pixels.astype(np.float64).mean((1, 2)) / 255)
    if "prompt" in fields["inputs"]:
        tokens = np.zeros((1, fields["inputs"]["prompt"]["max_tokens"]), np.int64)
        tokens[0, :3] = [2, 3, 4]
        inputs["tokens"] = tokens
        features.append(tokens / VOCABULARY)
    state = rng.normal(0, 0.3, (1, sum(part["size"] for part in fields["inputs"]["state"])))
    inputs["state"] = state.astype(np.float32)
    weights = next(
        numpy_helper.to_array(item)
        for item in onnx.load_from_string(prefix).graph.initializer
        if item.name == "weights"
    )
    vector = np.concatenate([*features, inputs["state"]], axis=1)
    horizon = fields["outputs"]["horizon"]
    goal = np.tanh(vector @ weights.astype(np.float64)).reshape(horizon, -1)
    noise = rng.normal(size=goal.shape).astype(np.float32)
    remaining = (1 - 1 / fields["sampler"]["steps"]) ** fields["sampler"]["steps"]
    expected = goal + remaining * (noise - goal)
    case = ParityCase(inputs, noise, expected.astype(np.float32))
    if fields["sampler"]["rtc"] == "none":
        return case
    target = rng.normal(size=goal.shape).astype(np.float32)
    guidance = Guidance(target, soft_weights(horizon, 2, 10), 2)
    if fields["sampler"]["rtc"] == "prefix":
        moved = goal + target[:2].sum(0)
        guided = moved + remaining * (noise - moved)
        guided[:2] = target[:2]
    else:
        guided = guided_chunk(goal, noise, guidance, fields["sampler"]["steps"])
    return replace(case, guidance=guidance, guided=guided.astype(np.float32))


def guided_chunk(goal: np.ndarray, noise: np.ndarray, guidance: Guidance, steps: int) -> np.ndarray:
    """Algorithm 1 of the paper (arXiv 2506.07339) on velocity = goal - x, in its own symbols."""
    action, beta = noise.astype(np.float64), min(5.0, steps)
    for step in range(steps):
        tau = step / steps
        velocity = goal - action
        error = (guidance.target - (action + (1 - tau) * velocity)) * guidance.weights[:, None]
        r_squared = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
        weight = min(beta, (1 - tau) / (tau * r_squared)) if tau else beta
        # The chunk expected is tau x + (1 - tau) goal, so its derivative by x is tau.
        action = action + (velocity + weight * tau * error) / steps
    return action


def write_tiny_bundle(
    directory: Path, gain: float = 1.0, embedded: int = VOCABULARY, slow: int = 0, **changes: Any
) -> Bundle:
    """`changes`: top-level manifest keys to replace."""
    fields = {**manifest_fields(), **changes}
    return write_bundle(directory, fields, bundle_files(fields, gain, embedded, slow))
