"""The control period: how far 100 Hz is from 10 ms, idle and with every core busy.

A real control_node follows chunks for an arm that reports at the driver's rate; beside it, in the same run,
stands a publisher on an rclpy timer with everything at its defaults. Each condition has processes of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from vla_ros import processes
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.errors import VlaRosError
from vla_ros.nodes.transport import configure_dds

ROBOT = "franka"
DURATION_S = 20.0
WARM_UP_S = 3.0
START_S = 40.0
IDLE, BUSY = "idle", "one busy process per core"
TARGET_MS = {IDLE: 1.0, BUSY: 5.0}
WORKER = (sys.executable, "-m", "vla_ros.benchmarks._jitter_worker")


def run(progress: Progress) -> Bench:
    """Measure both contenders under both conditions; raises VlaRosError when a process fails."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    configure_dds()
    cores = len(os.sched_getaffinity(0))
    rows: list[dict[str, Value]] = []
    for condition, load in ((IDLE, 0), (BUSY, cores)):
        progress(f"{condition}: rclpy timer, {DURATION_S:.0f} s")
        with _running([("busy",)] * load):
            rows.append(_row(condition, "rclpy timer, defaults", "SCHED_OTHER", _timer(), None))
        progress(f"{condition}: control_node, {DURATION_S:.0f} s")
        figures, scheduling = _control_node(load)
        rows.append(_row(condition, "control_node", scheduling, figures, TARGET_MS[condition]))
    notes = [
        f"{cores} cores; |period - 10 ms| over {DURATION_S:.0f} s each, joint states at the driver's rate",
        f"load average at the end {os.getloadavg()[0]:.1f}. Where SCHED_FIFO is not permitted, allow it with "
        "`@realtime - rtprio 99` in /etc/security/limits.conf or --cap-add=SYS_NICE for a container",
    ]
    return Bench("jitter", rows, notes)


def _row(
    condition: str, contender: str, scheduling: str, figures: dict[str, float], target_ms: float | None
) -> dict[str, Value]:
    return {
        "condition": condition,
        "contender": contender,
        "scheduling": scheduling,
        "p50_ms": round(figures["p50"], 4),
        "p99_ms": round(figures["p99"], 4),
        "max_ms": round(figures["max"], 3),
        "periods": int(figures["count"]),
        "target": None if target_ms is None else f"p99 <= {target_ms:g} ms",
        "met": None if target_ms is None else figures["p99"] <= target_ms,
    }


@contextlib.contextmanager
def _running(workers: list[tuple[str, ...]]) -> Iterator[None]:
    children = [_start(arguments) for arguments in workers]
    try:
        yield
    finally:
        processes.end(children)


def _start(arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
    argv = (*WORKER, *arguments)
    return processes.start(processes.Process(arguments[0], argv), stdout=subprocess.DEVNULL)


def _timer() -> dict[str, float]:
    argv = [*WORKER, "timer", str(DURATION_S)]
    # The plain contender does without our profile.
    plain = {key: value for key, value in os.environ.items() if "PROFILES_FILE" not in key}
    result = subprocess.run(argv, env=plain, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise VlaRosError(f"the timer process failed:\n{result.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def _control_node(load: int) -> tuple[dict[str, float], str]:
    """Period errors of a control_node that has followed chunks for DURATION_S, and its scheduling class."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray

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
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)
    argv = (sys.executable, "-m", "vla_ros.nodes.control_node", "--ros-args", "-p", f"robot:={ROBOT}")
    control = processes.start(
        processes.Process("control_node", argv), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        with _running([("robot", ROBOT, str(arm.states.rate_hz))]):
            deadline = time.monotonic() + START_S
            while values.get("source") != "policy":
                if time.monotonic() > deadline or control.poll() is not None:
                    raise VlaRosError(f"control_node did not take up the chunks; its diagnostics: {values}")
                executor.spin_once(0.1)
            with _running([("busy",)] * load):
                time.sleep(WARM_UP_S)
                end = time.monotonic() + DURATION_S
                while time.monotonic() < end:
                    executor.spin_once(0.1)
    finally:
        processes.end([control])
        node.destroy_node()
        rclpy.shutdown(context=context)
    prefix = "control_period_error_ms."
    figures = {
        key.removeprefix(prefix): float(text) for key, text in values.items() if key.startswith(prefix)
    }
    return figures, values["scheduling"]
