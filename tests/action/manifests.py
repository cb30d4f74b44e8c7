"""Manifests of any convention and random states of robots, for tests of what becomes of actions."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from tests.mobile_base import MOBILE
from tests.tiny_bundle import manifest_fields
from vla_ros.policy.manifest import Manifest
from vla_ros.robot.config import Arm, Robot

ARM = MOBILE.arms["arm"]
BINARY = {"unit": "open_fraction", "binary": {"threshold": 0.5, "hysteresis": 0.1}}


def manifest(action: list[dict[str, Any]], horizon: int = 5, **changes: Any) -> Manifest:
    """A manifest that gives `action`; changes: further keys of outputs, and tool_rotations."""
    fields = manifest_fields()
    arms = list(dict.fromkeys(part["arm"] for part in action if "arm" in part))
    outputs = {"horizon": horizon, "dt_s": 0.1, "first_step": 1, "action": action}
    rotations = changes.pop("tool_rotations", {})
    if "anchor_span_s" in changes:
        del outputs["dt_s"]
    fields |= {"arms": arms, "outputs": outputs | changes, "tool_rotations": rotations, "sha256": {}}
    fields["inputs"]["state"] = []
    return Manifest.model_validate(fields)


def pose_parts(
    position: str = "eef_relative",
    rotation: str = "eef_relative",
    form: str = "rot6d_columns",
    size: int = 6,
    arm: str = "arm",
    base: str | None = None,
) -> list[dict[str, Any]]:
    """A tool pose's two slices; base: of relative ones, and of deltas (without it, the last target)."""
    parts: list[dict[str, Any]] = [
        {"arm": arm, "signal": "tcp_position", "size": 3, "reference": position},
        {"arm": arm, "signal": "tcp_rotation", "size": size, "reference": rotation, "rotation": form},
    ]
    for part in parts:
        if part["reference"].endswith("delta"):
            part["delta_base"] = base or "last_target"
        elif base and part["reference"] != "absolute":
            part["delta_base"] = base
    return parts


def gripper_part(arm: str = "arm", **rule: Any) -> dict[str, Any]:
    return {"arm": arm, "signal": "gripper", "size": 1, "gripper": rule or BINARY}


def robot(*names: str, base: bool = False, arm: Arm = ARM) -> Robot:
    """Frankas of these names, on a base or not; arm: in their place."""
    changes = {"arms": dict.fromkeys(names, arm), "base": MOBILE.base if base else None}
    return MOBILE.model_copy(update=changes)


def random_pose(rng: np.random.Generator) -> np.ndarray:
    """[7]; every third is within 1e-9 to 1e-3 of a half turn, every third hardly turned."""
    axis = rng.normal(size=3)
    axis /= np.linalg.norm(axis)
    tiny = 10.0 ** rng.uniform(-9, -3)
    angle = [rng.uniform(0, np.pi), np.pi - tiny, tiny][rng.integers(3)]
    return np.concatenate([rng.uniform(-0.5, 0.5, 3), Rotation.from_rotvec(axis * angle).as_quat()])


def matrix(pose: np.ndarray) -> np.ndarray:
    """[7] -> homogeneous [4, 4]."""
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_quat(pose[3:]).as_matrix(), pose[:3]
    return T
