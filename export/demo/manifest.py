"""What the demo policy's bundle declares."""

from __future__ import annotations

import platform
from typing import Any

from vla_ros.export.demo.encoding import NETWORK_HEIGHT, NETWORK_WIDTH, VIEWS
from vla_ros.export.demo.expert import HORIZON, STEP_S
from vla_ros.export.demo.text import MAX_TOKENS, PAD_ID
from vla_ros.policy.manifest_model import Binary, GripperRule

NAME = "franka_pick"
GRIPPER_RULE = GripperRule(unit="open_fraction", binary=Binary(threshold=0.5, hysteresis=0.1))


def manifest_fields(steps: int, latency: tuple[float, float]) -> dict[str, Any]:
    """Fields of ``policy.yaml`` but the checksums. latency: p50 and p99 of one inference [ms]."""
    image = {
        "height": NETWORK_HEIGHT,
        "width": NETWORK_WIDTH,
        "kernel": "area",
        "fit": "stretch",
        "colour": "rgb",
        "dtype": "uint8",
    }
    relative = {"arm": "arm", "reference": "eef_relative"}
    gripper = GRIPPER_RULE.model_dump(exclude_none=True)
    return {
        "schema_version": 3,
        "name": NAME,
        "embodiment": "franka_fr3",
        "arms": ["arm"],
        "inputs": {
            "images": [{"role": view, **image} for view in VIEWS],
            "state": [
                {"arm": "arm", "signal": "tcp_position", "size": 3},
                {"arm": "arm", "signal": "tcp_rotation", "rotation": "rot6d_columns", "size": 6},
                {"arm": "arm", "signal": "gripper", "gripper": {"unit": "width_m"}, "size": 1},
            ],
            "prompt": {
                "template": "{instruction}",
                "tokenizer": "tokenizer.json",
                "max_tokens": MAX_TOKENS,
                "pad_id": PAD_ID,
                "lowercase": True,
            },
            "history": 1,
        },
        "outputs": {
            "horizon": HORIZON,
            "dt_s": STEP_S,
            "first_step": 1,
            "action": [
                {**relative, "signal": "tcp_position", "size": 3},
                {**relative, "signal": "tcp_rotation", "size": 6, "rotation": "rot6d_columns"},
                {"arm": "arm", "signal": "gripper", "size": 1, "gripper": gripper},
            ],
        },
        "normalisation": {
            vector: {
                "kind": "q01_q99",
                "format": "dataset_statistics",
                "file": "dataset_statistics.json",
                "key": NAME,
                "clip": False,
            }
            for vector in ("action", "proprio")
        },
        "sampler": {
            "kind": "flow_matching",
            "direction": "noise_to_data",
            "steps": steps,
            "noise_seed": 0,
            "rtc": "guided",
        },
        "graphs": {"prefix": "prefix.onnx", "step": "step.onnx", "step_guided": "step_guided.onnx"},
        "parity": "parity.npz",
        "latency": {
            "device": f"{platform.machine()} CPU, onnxruntime, 1 thread",
            "p50_ms": round(latency[0], 2),
            "p99_ms": round(latency[1], 2),
        },
    }
