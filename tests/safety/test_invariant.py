"""The invariant on every robot YAML: whatever comes in, nothing that is sent breaks a limit. 50,000 ticks per
robot here; `vla bench invariant` runs a million. A failure names the seed that brings it back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from vla_ros.benchmarks.invariant import ATTACK, attack, robots
from vla_ros.robot.load import load_robot

TICKS = 50_000
LIMITING = {
    "position", "velocity", "acceleration", "tool_speed", "workspace", "workspace_stop", "unreachable",
    "soft_start", "gripper_range", "gripper_speed",
}  # fmt: skip


@pytest.mark.timeout(900)
@pytest.mark.parametrize("file", robots(), ids=lambda file: file.stem)
def test_no_command_ever_breaks_a_limit(file: Path) -> None:
    words: Counter[str] = Counter()
    events: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    moving = 0
    robot = load_robot(file)
    rare = {"forbidden", "arm_distance"} if len(robot.arms) > 1 or robot.safety.forbidden else set()
    for seed in range(2 * TICKS // ATTACK):
        # Few attacks get as far as where links collide: as many seeds again, until one did.
        if seed >= TICKS // ATTACK and (not rare or rare & set(words)):
            break
        found = attack(file, ATTACK, seed)
        print(f"seed {seed}: {found.moving} moving, {dict(found.words)}")
        assert found.broken == []
        words += found.words
        events += found.events
        refused += found.refused
        moving += found.moving
    # It was a test of moving, and every door was tried.
    assert moving > TICKS / 6
    assert set(words) >= LIMITING
    assert not rare or rare & set(words)
    assert {
        "stale_chunk", "horizon", "joint_states", "not_following", "rest", "clock", "glitch", "stalled",
        "home",
    } <= set(events)  # fmt: skip
    assert {"policy_gone", "driver_gone"} & set(events)
    if robot.base is not None:
        assert {"base/velocity", "base/acceleration"} <= set(words)
        assert {"odometry", "base_moves", "base_not_following"} <= set(events)
    assert {"far", "not_started", "joint_states", "nan", "old", "late", "future", "channels"} <= set(refused)
