"""The control period: how far 100 Hz is from 10 ms, idle and with every core busy and images arriving.

A real control_node follows chunks for an arm that reports at the driver's rate: once with real-time
scheduling where this machine permits it, and once without. Beside it stand what others do: an rclpy timer
with its defaults, and a loop that sleeps for what is left of the period. Each runs alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros import processes
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.errors import VlaRosError
from vla_ros.nodes.transport import configure_dds, polled_subscription

ROBOT = "franka"
PERIOD_S = 0.01
DURATION_S = 60.0
WARM_UP_S = 3.0
START_S = 90.0
COMMANDS_KEPT = 1000
IDLE, BUSY = "idle", "busy"
REAL_TIME, ORDINARY = "SCHED_FIFO", "SCHED_OTHER"
# What must be kept, in ms: p50, p99, and how late after DURATION_S ("no drift"); None where none is set.
TARGETS_MS: dict[tuple[str, str], tuple[float | None, float, float | None]] = {
    (IDLE, REAL_TIME): (0.05, 0.25, 1.0),
    (IDLE, ORDINARY): (0.05, 0.25, 1.0),
    (BUSY, REAL_TIME): (None, 2.0, None),
    (BUSY, ORDINARY): (None, 5.0, None),
}
WORKER = (sys.executable, "-m", "vla_ros.benchmarks._jitter_worker")
CONTENDERS = {"timer": "rclpy timer, defaults", "relative": "loop that sleeps the rest"}


@dataclass(frozen=True)
class Figures:
    """p50, p99 and max of |period - 10 ms|; late: the last tick's, against as many whole periods; ms."""

    p50: float
    p99: float
    max: float
    late: float
    ticks: int
    missed: int | None = None


def run(progress: Progress) -> Bench:
    """Measure all contenders under both conditions; raises VlaRosError when a process fails."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    configure_dds()
    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, Value]] = []
    notes = [
        f"{cores} cores; |period - 10 ms| over {DURATION_S:.0f} s each, joint states at the driver's rate.",
        "late: when the last tick came, against an ideal schedule; missed: periods left out on purpose "
        "because they were past, each of which makes it 10 ms later.",
        f"busy: {cores} processes that do nothing else, and the robot's cameras published and received.",
    ]
    loads = {IDLE: [], BUSY: [*[("busy",)] * cores, ("viewer", ROBOT), ("cameras", ROBOT)]}
    for condition, load in loads.items():
        for role, contender in CONTENDERS.items():
            progress(f"{condition}: {contender}, {DURATION_S:.0f} s")
            with _running(load):
                rows.append(_row(condition, contender, ORDINARY, _plain(role)))
        for scheduling in (REAL_TIME, ORDINARY):
            progress(f"{condition}: control_node, {scheduling}, {DURATION_S:.0f} s")
            with _running(load):
                figures, found = _control_node(permitted=scheduling == REAL_TIME)
            if found == scheduling:
                rows.append(_row(condition, "control_node", scheduling, figures))
            else:
                notes.append(f"{condition}, control_node under {scheduling}: skipped, {_why_not(scheduling)}")
    notes.append(f"Load average at the end {os.getloadavg()[0]:.1f}, our own processes included.")
    return Bench("jitter", rows, notes)


def _why_not(scheduling: str) -> str:
    if scheduling == REAL_TIME:
        return (
            "not permitted here; allow it with `@realtime - rtprio 99` in /etc/security/limits.conf, or "
            "--cap-add=SYS_NICE for a container"
        )
    return "the right to it cannot be given up here (CAP_SETPCAP is needed)"


def _row(condition: str, contender: str, scheduling: str, figures: Figures) -> dict[str, Value]:
    row: dict[str, Value] = {
        "condition": condition,
        "contender": contender,
        "scheduling": scheduling,
        "p50_ms": round(figures.p50, 4),
        "p99_ms": round(figures.p99, 4),
        "max_ms": round(figures.max, 3),
        "late_ms": round(figures.late, 3),
        "ticks": figures.ticks,
        "missed": figures.missed,
        "target": None,
        "met": None,
    }
    if contender == "control_node":
        bounds = zip(("p50", "p99", "late"), TARGETS_MS[condition, scheduling], strict=True)
        wanted = {name: bound for name, bound in bounds if bound is not None}
        row["target"] = ", ".join(f"{name} <= {bound:g}" for name, bound in wanted.items()) + " ms"
        row["met"] = all(abs(getattr(figures, name)) <= bound for name, bound in wanted.items())
    return row


@contextlib.contextmanager
def _running(workers: list[tuple[str, ...]]) -> Iterator[None]:
    children = [_start(arguments) for arguments in workers]
    try:
        yield
        for arguments, child in zip(workers, children, strict=True):
            if child.poll() is not None:
                raise VlaRosError(f"the benchmark's {arguments[0]} process ended by itself")
    finally:
        processes.end(children)


def _start(arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    argv = (*WORKER, *arguments)
    return processes.start(processes.Process(arguments[0], argv), stdout=subprocess.DEVNULL)


def _plain(role: str) -> Figures:
    argv = [*WORKER, role, str(DURATION_S)]
    # The plain contenders do without our profile.
    plain = {key: value for key, value in os.environ.items() if "PROFILES_FILE" not in key}
    result = subprocess.run(argv, env=plain, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise VlaRosError(f"the {role} process failed:\n{result.stderr[-2000:]}")
    return Figures(**json.loads(result.stdout))


def _control_node(permitted: bool) -> tuple[Figures, str]:
    """Of a control_node that has followed chunks for DURATION_S: its figures and its scheduling class.

    Period errors are its own, of all its ticks: whatever loads the machine was there before it. Lateness is
    seen from outside, on when its commands were published.
    """
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import JointState

    from vla_ros.resources import robot_config
    from vla_ros.robot.load import load_robot

    (arm, *_) = load_robot(robot_config(ROBOT)).arms.values()
    values: dict[str, str] = {}

    def keep(message: DiagnosticArray) -> None:
        for status in message.status:
            values.update({pair.key: pair.value for pair in status.values})

    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("jitter_benchmark", context=context)
    node.create_subscription(DiagnosticArray, "/diagnostics", keep, 10)
    # They are read now and then: being woken by each would be load too. Fast DDS keeps 5000 at most.
    commands = polled_subscription(node, JointState, "vla/command", QoSProfile(depth=COMMANDS_KEPT))
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    argv: tuple[str, ...] = (sys.executable, "-m", "vla_ros.nodes.control_node")
    argv = (*argv, "--ros-args", "-p", f"robot:={ROBOT}")
    robot: tuple[str, ...] = ("robot", ROBOT, str(arm.states.rate_hz))
    if not permitted:
        # To nobody on this machine.
        argv = (*WORKER, "ordinary", *argv)
        robot = ("ordinary", *WORKER, *robot)
    control = None
    try:
        with _running([robot]):
            control = processes.start(
                processes.Process("control_node", tuple(argv)),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            deadline = time.monotonic() + START_S
            while values.get("source") != "policy":
                if control.poll() is not None:
                    raise VlaRosError(f"control_node ended by itself, with status {control.returncode}")
                if time.monotonic() > deadline:
                    raise VlaRosError(f"control_node did not take up the chunks; its diagnostics: {values}")
                executor.spin_once(0.1)
            _published_ns(executor, commands, WARM_UP_S)
            missed = int(values["overruns"])
            published = _published_ns(executor, commands, DURATION_S)
            missed = int(values["overruns"]) - missed
            if values.get("source") != "policy":
                raise VlaRosError(f"control_node lost the policy meanwhile; its diagnostics: {values}")
    finally:
        processes.end([control] if control is not None else [])
        node.destroy_node()
        rclpy.shutdown(context=context)
    prefix = "control_period_error_ms."
    p50, p99, most = (float(values[prefix + name]) for name in ("p50", "p99", "max"))
    ticks = len(published)
    return Figures(p50, p99, most, late_ms(published), ticks, missed), values["scheduling"]


def late_ms(begins: ArrayLike) -> float:
    """How late the last of N ticks came, ms, when the first is on time. begins: ns [N]."""
    at = np.asarray(begins, dtype=np.int64)
    return float(at[-1] - at[0]) / 1e6 - (len(at) - 1) * PERIOD_S * 1e3


def _published_ns(executor: Any, commands: Any, duration_s: float) -> NDArray[np.int64]:
    """When each of the commands that arrive within `duration_s` was published, ns."""
    published = []
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        executor.spin_once(0.1)
        with commands.handle:
            while (item := commands.handle.take_message(commands.msg_type, True)) is not None:
                published.append(item[1]["source_timestamp"])
    return np.array(published, dtype=np.int64)
