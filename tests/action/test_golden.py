"""Conventions worked out by hand: golden/*.yaml, each with the formula's source and the working.

The robot is a Franka: seven joints, a gripper from 0 to 8 cm; or `robot`, one of robot_configs. `last` is the
last target.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.action.manifests import manifest, robot
from tests.tiny_bundle import ROOT
from vla_ros.action.decode import decode, encode
from vla_ros.action.normalise import unscaled
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_outputs import REFERENCES
from vla_ros.robot.channels import BASE_CHANNELS, gripper_channel, joint_channels, tool_channels
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk, Observation, RawChunk

FILES = sorted((Path(__file__).parent / "golden").glob("*.yaml"))
STAMP = 1_700_000_000_000_000_000
CHANNELS = {
    "tcp_pose": lambda arm, size: tool_channels(arm),
    "joint_position": joint_channels,
    "gripper": lambda arm, size: (gripper_channel(arm),),
    "velocity": lambda base, size: BASE_CHANNELS,
}


def rows(groups: dict[str, Any], due_ns: np.ndarray) -> ActionChunk:
    """{arm/kind: [H, n]} as a chunk."""
    channels: list[str] = []
    for group, values in groups.items():
        arm, kind = group.split("/")
        channels += CHANNELS[kind](arm, len(values[0]))
    targets = np.concatenate([np.array(values, dtype=np.float64) for values in groups.values()], axis=1)
    return ActionChunk(tuple(channels), targets, due_ns, STAMP)


def read(file: Path) -> tuple[dict[str, Any], Manifest]:
    golden = yaml.safe_load(file.read_text())
    assert golden["source"]
    assert golden["worked"]
    extra = {key: golden[key] for key in ("tool_rotations", "anchor_span_s", "dt_s") if key in golden}
    return golden, manifest(golden["action"], len(golden["values"]), **extra)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_worked_by_hand(file: Path) -> None:
    golden, described = read(file)
    moved = robot(*described.arms)
    if "robot" in golden:
        moved = load_robot(ROOT / "robot_configs" / f"{golden['robot']}.yaml")
    state = {group: np.array(values, dtype=np.float64) for group, values in golden.get("state", {}).items()}
    seen = Observation({}, state, "", {}, STAMP)
    last = None
    if "last" in golden:
        last = rows({group: [values] for group, values in golden["last"].items()}, np.array([STAMP]))
    scaling = unscaled(described.outputs.size)
    values = np.array(golden["values"], dtype=np.float64)
    chunk = decode(RawChunk(values), seen, described, scaling, moved, last=last)
    if "due_s" in golden:
        assert ((chunk.due_ns - STAMP) / 1e9).tolist() == pytest.approx(golden["due_s"])
    expected = rows(golden["targets"], chunk.due_ns)
    assert chunk.channels == expected.channels
    for column, name in enumerate(chunk.channels):
        if "orientation" not in name:
            assert chunk.targets[:, column] == pytest.approx(expected.targets[:, column], abs=1e-9), name
        elif name.endswith(".x"):
            turn = slice(column, column + 4)
            q, p = chunk.targets[:, turn], expected.targets[:, turn]
            signs = np.sign((q * p).sum(axis=1, keepdims=True))  # q and -q are one rotation
            assert q == pytest.approx(signs * p, abs=1e-9)
    back = encode(expected, state, described, scaling, moved, last=last).values
    column = 0
    for part in described.outputs.action:
        if part.gripper is None or part.gripper.binary is None:
            columns = slice(column, column + part.size)
            assert back[:, columns] == pytest.approx(values[:, columns], abs=1e-6), part.signal
        column += part.size


def test_every_reference_has_one() -> None:
    found = {(part.signal, part.reference) for file in FILES for part in read(file)[1].outputs.action}
    for signal, references in REFERENCES.items():
        assert {(signal, reference) for reference in references} <= found
    assert ("joint_velocity", None) in found
