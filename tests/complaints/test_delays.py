"""A delay that is estimated wrongly, or that changes, moves nothing: every step has its own due time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from tests.safety.plant import Bench
from tests.tiny_bundle import franka_fields, write_tiny_bundle
from vla_ros.action.decode import decode
from vla_ros.action.latency import Latency
from vla_ros.action.normalise import normalise
from vla_ros.action.schedule import make_scheduler
from vla_ros.robot.channels import gripper_channel, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, FloatArray, Observation, RawChunk

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
JOINTS = tuple(f"arm/joint{number}" for number in range(1, 8))
FRANKA = Robot.model_validate(franka_fields())
TOOL = (*tool_channels("arm"), gripper_channel("arm"))
MODES = ("newest", "crossfade", "ensemble")


def path(ms: FloatArray) -> FloatArray:
    """Where the policy leads the joints, rad [N, 7]."""
    return np.tile(0.3 * np.sin(2 * np.pi * np.asarray(ms)[:, None] / 2500), 7)


def chunk(observed_ms: float) -> ActionChunk:
    """50 rows of 20 ms."""
    due_ms = observed_ms + np.arange(1, 51) * 20.0
    due = T0 + np.rint(due_ms * MS).astype(np.int64)
    return ActionChunk(JOINTS, path(due_ms), due, T0 + round(observed_ms * MS))


@pytest.mark.complaint("lerobot 4223", "lerobot 4454", "lerobot 2541")
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=15)
@given(delays=st.lists(st.sampled_from([20.0, 60.0, 300.0, 310.0, 700.0]), min_size=10, max_size=10))
def test_whatever_an_inference_takes_each_step_is_executed_at_its_time(
    mode: str, delays: list[float]
) -> None:
    """There, as many steps of a new chunk are left out as the delay is believed to have taken: with too high
    or too low an estimate the robot leaps ahead or falls back. Here no delay is estimated for it."""
    scheduler = make_scheduler(mode, {})
    observed, asked = 0.0, 0.0
    for delay in delays:
        arrives = observed + delay
        while asked < arrives:
            target = scheduler.sample(T0 + round(asked * MS))
            if target is not None:
                assert target.values == pytest.approx(path(np.array([asked]))[0], abs=1e-3)
            asked += 10.0
        scheduler.add(chunk(observed), T0 + round(arrives * MS))
        observed = arrives


@pytest.mark.complaint("lerobot 4223", "lerobot 4454", "lerobot 2541")
@pytest.mark.parametrize("mode", MODES)
def test_a_first_inference_that_takes_long_is_no_jump_from_standstill(mode: str) -> None:
    """There, 0.7 s of warm-up made the resting robot begin 21 of 30 steps into the first chunk."""
    bench = Bench(mode)
    bench.start()
    start = bench.q.copy()
    first = bench.joint_chunk(start + np.linspace(0.02, 0.6, 30)[:, None], dt_ms=33)
    bench.tick(70)
    assert not bench.sent
    bench.add(first)
    bench.tick(20)
    followed = [command for command in bench.commands if command is not None and command.source == "policy"]
    assert followed
    assert np.abs(followed[0].sent - start).max() < 1e-3
    # 0.2 s of the chunk, from its beginning.
    assert np.max([command.wanted - start for command in followed]) < 0.2
    bench.tick(40)
    bench.assert_limits()


@pytest.mark.complaint("lerobot 4223", "lerobot 2541")
def test_a_slow_first_inference_is_soon_no_part_of_the_measured_latency() -> None:
    """There, the largest latency ever seen was kept, and the first one is by far the largest."""
    latency = Latency()
    latency.add(700 * MS)
    for _ in range(20):
        latency.add(300 * MS)
    assert latency.typical_ns == latency.high_ns == 300 * MS


@pytest.mark.complaint("lerobot 4580")
@pytest.mark.parametrize("mode", MODES)
def test_relative_chunks_that_overlap_are_each_taken_from_their_own_pose(mode: str, tmp_path: Path) -> None:
    """There, what is left of a relative chunk was carried over and added to a state the robot had meanwhile
    reached. The tool moves and turns here; every chunk, relative to where it was seen, says the same path."""
    bundle = write_tiny_bundle(tmp_path)

    def pose(ms: float) -> FloatArray:
        angle = Rotation.from_euler("xyz", [np.pi, 0.0, 0.2 + ms / 5000])
        return np.concatenate([[0.4 + ms / 20_000, 0.1 - ms / 30_000, 0.4], angle.as_quat()])

    scheduler = make_scheduler(mode, {TOOL[-1]: (0.0, 0.08)})
    for observed in (0.0, 300.0, 600.0, 900.0):
        due_ms = observed + np.arange(1, 17) * 100.0
        stamp = T0 + round(observed * MS)
        # T0^-1 Tk, by hand: position, the rotation's first two columns, and an open gripper.
        origin, axes = pose(observed)[:3], Rotation.from_quat(pose(observed)[3:])
        rows = []
        for ms in due_ms:
            turned = (axes.inv() * Rotation.from_quat(pose(ms)[3:])).as_matrix()
            rows.append([*axes.inv().apply(pose(ms)[:3] - origin), *turned[:, 0], *turned[:, 1], 1.0])
        raw = RawChunk(normalise(rows, bundle.action).astype(np.float32))
        seen = Observation({}, {"arm/tcp_pose": pose(observed)}, "", {}, stamp)
        found = decode(raw, seen, bundle.manifest, bundle.action, FRANKA)
        scheduler.add(found, stamp + 150 * MS)
        for ms in np.arange(observed + 150, observed + 450, 10.0):
            target = scheduler.sample(T0 + round(ms * MS))
            assert target is not None
            values = dict(zip(target.channels, target.values, strict=True))
            wanted = pose(ms)
            assert [values[name] for name in TOOL[:3]] == pytest.approx(wanted[:3], abs=1e-4)
            turn = Rotation.from_quat([values[name] for name in TOOL[3:7]])
            assert (turn.inv() * Rotation.from_quat(wanted[3:])).magnitude() < 1e-3
