"""Limits are on by default, cannot be left out, and say what they changed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.safety.plant import Bench
from tests.tiny_bundle import ROOT, franka_fields
from vla_ros.errors import ConfigError
from vla_ros.robot.config import JointLimits, Safety
from vla_ros.robot.load import load_robot

PER_ROBOT = [name for name, field in Safety.model_fields.items() if field.is_required()]
PER_ARM = [name for name, field in JointLimits.model_fields.items() if field.is_required()]


def loaded(folder: Path, fields: dict[str, Any]) -> None:
    shutil.copytree(ROOT / "robot_configs" / "urdf", folder / "urdf")
    (folder / "robot.yaml").write_text(yaml.safe_dump(fields))
    load_robot(folder / "robot.yaml")


@pytest.mark.complaint("lerobot 373")
def test_the_limits_meant_below_are_really_there(tmp_path: Path) -> None:
    """Otherwise a renamed key would make the tests below pass for nothing."""
    assert {"workspace", "first_command_joint", "tool_speed", "chunk_timeout_ms"} <= set(PER_ROBOT)
    assert {"position", "velocity", "acceleration", "jerk"} == set(PER_ARM)
    loaded(tmp_path, franka_fields())


@pytest.mark.complaint("lerobot 373")
@pytest.mark.parametrize("key", PER_ROBOT)
@pytest.mark.parametrize("how", ["left out", "null", "infinite"])
def test_a_robot_without_a_safety_limit_does_not_load(tmp_path: Path, key: str, how: str) -> None:
    """There, the step limit is None unless somebody sets it, so as not to be in the way."""
    fields = franka_fields()
    if how == "left out":
        del fields["safety"][key]
    else:
        fields["safety"][key] = None if how == "null" else float("inf")
    with pytest.raises(ConfigError, match=rf"safety\.{key}"):
        loaded(tmp_path, fields)


@pytest.mark.complaint("lerobot 373")
@pytest.mark.parametrize(
    ("key", "how"),
    [
        *((key, how) for key in PER_ARM for how in ("left out", "null", "one too few")),
        # A URDF has no others.
        *((key, "looser than the URDF") for key in ("position", "velocity")),
    ],
)
def test_an_arm_without_a_joint_limit_does_not_load(tmp_path: Path, key: str, how: str) -> None:
    fields = franka_fields()
    limits = fields["arms"]["arm"]["limits"]
    if how == "left out":
        del limits[key]
    elif how == "null":
        limits[key] = None
    elif how == "one too few":
        limits[key] = limits[key][:-1]
    else:
        limits[key][0] = [-3.1, 3.1] if key == "position" else 49.0
    with pytest.raises(ConfigError, match=rf"limits\.{key}"):
        loaded(tmp_path, fields)


def wild_targets(seed: int) -> Iterator[np.ndarray]:
    """What an untrained network asks for: [8, 7] rad, first near and then anywhere."""
    rng = np.random.default_rng(seed)
    while True:
        yield rng.uniform(-4.0, 4.0, (8, 7))


@pytest.mark.complaint("lerobot 373", "lerobot 1483")
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_a_wild_policy_moves_the_arm_within_its_limits_and_what_was_changed_is_told(seed: int) -> None:
    """There, a policy that had gone wild burnt motors; and one who did set the limit could not see what it
    clipped, while reading the arm for it slowed the loop down."""
    bench = Bench("ensemble")
    bench.start()
    start = bench.q.copy()
    targets = wild_targets(seed)
    bench.add(bench.joint_chunk(np.vstack([start, start, *next(targets)[:6]])))
    bench.tick(30)
    for _ in range(5):
        # A later one may begin anywhere inside the first-command distance, and go anywhere.
        here = bench.sent[-1] if bench.sent else start
        bench.add(bench.joint_chunk(np.vstack([here, *next(targets)[:7]])))
        bench.tick(60)
    assert len(bench.sent) > 100
    bench.assert_limits()
    changed = [
        command
        for command in bench.commands
        if command is not None and np.any(np.abs(command.wanted - command.sent) > 0.2)
    ]
    assert changed
    assert all(command.interventions for command in changed if command.source == "policy")
