"""One control tick of two arms: taking chunks, scheduling, interpolation, inverse kinematics and safety.

The real Supervisor on the robot `franka_dual`, in this process, woken at its real period as in control_node:
garbage collection frozen, SCHED_FIFO where that is permitted. A chunk is taken within the tick that finds it.
"""

from __future__ import annotations

import gc
import time

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.action.schedule import make_scheduler
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.errors import VlaRosError
from vla_ros.nodes.realtime import real_time_thread, sleep_until
from vla_ros.resources import robot_config
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Arm, Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.supervisor import Measured, Supervisor
from vla_ros.types import ActionChunk, FloatArray

ROBOT = "franka_dual"
TICKS, WARM_UP = 1500, 200
# A chunk of a second ten times a second: ten of them overlap.
CHUNK_TICKS, ROWS, STEP_NS = 10, 50, 20_000_000
TARGET_P99_MS = {"joints": 1.0, "tools": 2.0}
WHAT = {
    "joints": "14 joints of two arms",
    "tools": "tool poses of two arms, inverse kinematics",
}
# How far the targets sway: rad, m, and how fast.
SWAY_JOINT, SWAY_TOOL, SWAY_HZ = 0.08, 0.04, 0.3
COLLECT_TICKS = 50


def run(progress: Progress) -> Bench:
    """Measure both; raises VlaRosError when the robot did not follow, which would cost less."""
    scheduling = real_time_thread()
    rows: list[dict[str, Value]] = []
    for kind, what in WHAT.items():
        for mode in ("ensemble", "crossfade"):
            progress(f"{what}, {mode}: {TICKS} ticks")
            times = measure(kind, mode, TICKS)
            target = TARGET_P99_MS[kind]
            p50, p99 = (float(value) for value in np.percentile(times, [50, 99]))
            rows.append(
                {
                    "what": f"{what}, {mode}",
                    "p50_ms": round(p50, 4),
                    "p99_ms": round(p99, 4),
                    "max_ms": round(float(times.max()), 3),
                    "ticks": len(times),
                    "target": f"p99 <= {target:g} ms",
                    "met": p99 <= target,
                }
            )
    notes = [
        f"{scheduling}; 100 Hz, a chunk of {ROWS} steps of {STEP_NS // 1_000_000} ms ten times a second, "
        "taken within the tick. All limits, forbidden boxes and the distance between the arms are on."
    ]
    return Bench("tick: scheduler, interpolation and safety of one control tick", rows, notes)


def measure(kind: str, mode: str, ticks: int) -> FloatArray:
    """ms per tick, float64 [ticks]; kind: "joints" or "tools"."""
    path = robot_config(ROBOT)
    robot = load_robot(path)
    kinematics = {
        name: Kinematics(read_urdf(path, arm), arm.joints, arm.base_frame, arm.tool_frame)
        for name, arm in robot.arms.items()
    }
    grippers = {
        gripper_channel(name): arm.gripper.width
        for name, arm in robot.arms.items()
        if arm.gripper is not None
    }
    supervisor = Supervisor(robot, kinematics, make_scheduler(mode, grippers))
    period_ns = round(1e9 / robot.control.rate_hz)
    home = {name: np.array(arm.home) for name, arm in robot.arms.items()}
    measured = dict(home)
    times = np.zeros(WARM_UP + ticks)
    followed = 0
    gc.collect()
    gc.freeze()
    gc.disable()
    deadline = time.monotonic_ns() + period_ns
    try:
        for tick in range(len(times)):
            if tick % COLLECT_TICKS == 0:
                gc.collect(1)
            sleep_until(deadline)
            now_ns, steady_ns = time.time_ns(), time.monotonic_ns()
            states = {name: Measured(q, now_ns) for name, q in measured.items()}
            if tick == 1:
                supervisor.request("start", now_ns)
            chunk = _chunk(kind, robot, kinematics, now_ns) if tick % CHUNK_TICKS == 2 else None
            begin = time.perf_counter()
            if chunk is not None:
                supervisor.add_chunk(chunk, now_ns)
            commands = supervisor.tick(now_ns, states, steady_ns)
            times[tick] = 1e3 * (time.perf_counter() - begin)
            followed += supervisor.source == "policy"
            measured = {name: command.sent for name, command in commands.items()} or measured
            deadline = max(deadline + period_ns, time.monotonic_ns())
    finally:
        gc.enable()
    if followed < 0.95 * len(times):
        raise VlaRosError(
            f"only {followed} of {len(times)} ticks followed the chunks ({supervisor.hold_reason}); is the "
            "machine too busy?"
        )
    return times[WARM_UP:]


def _chunk(kind: str, robot: Robot, kinematics: dict[str, Kinematics], now_ns: int) -> ActionChunk:
    """Arms that sway about home, each chunk a little off, as a policy's are."""
    channels: list[str] = []
    targets: list[FloatArray] = []
    due: NDArray[np.int64] = now_ns + STEP_NS * np.arange(ROWS, dtype=np.int64)
    for name, arm in robot.arms.items():
        parts = _joints(arm, due) if kind == "joints" else _tool(arm, kinematics[name], due)
        channels += joint_channels(name, len(arm.joints)) if kind == "joints" else tool_channels(name)
        channels.append(gripper_channel(name))
        targets += [parts, np.full((ROWS, 1), 0.08)]
    return ActionChunk(tuple(channels), np.hstack(targets), due, now_ns)


def _joints(arm: Arm, due: NDArray[np.int64]) -> FloatArray:
    return np.array(arm.home) + SWAY_JOINT * _sway(due, len(arm.joints))


def _tool(arm: Arm, kinematics: Kinematics, due: NDArray[np.int64]) -> FloatArray:
    home = kinematics.forward(arm.home)
    position = home[:3, 3] + SWAY_TOOL * _sway(due, 3)
    return np.hstack([position, np.tile(matrix_to_quaternion(home[:3, :3]), (len(due), 1))])


def _sway(due: NDArray[np.int64], columns: int) -> FloatArray:
    phase = 2 * np.pi * SWAY_HZ * (due / 1e9 % 1e4)
    return np.sin(phase[:, None] + np.arange(columns))
