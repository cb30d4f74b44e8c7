"""Memory of the nodes, and the time from `vla up` to the first command.

One `vla up --sim` as an operator starts it, and `vla start` as soon as the nodes are active. Memory is the
resident set after some seconds of commanding; the policy's graphs are taken off at the size of their files.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vla_ros import processes, resources
from vla_ros.benchmarks.bench import Bench, Progress
from vla_ros.errors import VlaRosError
from vla_ros.nodes.operator import GraphError, Operator
from vla_ros.nodes.transport import configure_dds
from vla_ros.policy.bundle import load_bundle

CONTROL_MB, POLICY_MB, FIRST_COMMAND_S = 150, 400, 8.0
RUN_S = 10.0
START_TIMEOUT_S = 60.0
MB = 1e6


def run(progress: Progress, policy: str = "franka_pick") -> Bench:
    """Measure once; raises VlaRosError when the graph does not come up."""
    bundle = resources.policy_bundle(policy)
    manifest = load_bundle(bundle).manifest
    graphs_mb = sum((bundle / name).stat().st_size for name in manifest.sha256 if name.endswith(".onnx")) / MB
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    options = ("--robot", "franka", "--policy", str(bundle), "--sim", "--prompt", "pick up the red block")
    argv = (sys.executable, "-m", "vla_ros.cli", "up", *options)
    with tempfile.TemporaryFile() as log:
        progress("starting the graph")
        began = time.monotonic()
        up = processes.start(processes.Process("vla up", argv), stdout=log, stderr=subprocess.STDOUT)

        def watch() -> None:
            if up.poll() is not None:
                log.seek(0)
                raise VlaRosError(f"vla up ended:\n{log.read().decode('utf-8', 'replace')[-2000:]}")

        try:
            first_command_s = _first_command(began, watch)
            progress(f"first command after {first_command_s:.1f} s; measuring memory")
            memory = _memory(_nodes(up.pid), watch)
        finally:
            processes.end([up], grace_s=15.0)
    beyond = memory["policy_node"] - graphs_mb
    rows = [
        _row("control_node: resident memory", memory["control_node"], "MB", CONTROL_MB),
        _row("policy_node: resident memory beyond the model", beyond, "MB", POLICY_MB),
        _row("vla up to the first command", first_command_s, "s", FIRST_COMMAND_S),
    ]
    whole = f"policy_node with its model: {memory['policy_node']:.0f} MB (graphs {graphs_mb:.1f} MB)"
    return Bench("footprint", rows, [f"{whole}; sim_node: {memory['sim_node']:.0f} MB"])


def _row(metric: str, value: float, unit: str, target: float) -> dict[str, str | float | bool]:
    digits = 1 if unit == "MB" else 2
    value = round(value, digits)
    return {
        "metric": metric,
        "value": value,
        "unit": unit,
        "target": f"<= {target:g}",
        "met": value <= target,
    }


def _first_command(began: float, watch: Callable[[], None]) -> float:
    """Seconds from `began` to the first message on vla/command."""
    import rclpy
    from sensor_msgs.msg import JointState

    arrived: list[float] = []
    configure_dds()
    rclpy.init(args=[])
    try:
        node = rclpy.create_node("footprint")
        operator = Operator(node, watch)
        node.create_subscription(JointState, "vla/command", lambda _: arrived.append(time.monotonic()), 10)
        try:
            for name in ("sim_node", "policy_node", "control_node"):
                operator.wait_active(name, START_TIMEOUT_S)
            deadline = time.monotonic() + START_TIMEOUT_S
            for name in ("policy_node", "control_node"):
                _start(operator, name, deadline)
            while not arrived:
                if time.monotonic() > deadline:
                    raise VlaRosError(f"no command within {START_TIMEOUT_S:.0f} s after the start")
                operator.sleep(0.02)
        finally:
            operator.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
    return arrived[0] - began


def _start(operator: Operator, name: str, deadline: float) -> None:
    """Start a node, again while it refuses because the robot's first joint states are not there yet."""
    while True:
        try:
            operator.trigger(f"{name}/start")
            return
        except GraphError:
            if time.monotonic() > deadline:
                raise
            operator.sleep(0.05)


def _nodes(parent: int) -> dict[str, int]:
    """Process ids of the nodes that `vla up` started, by name."""
    found = {}
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        command = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        for argument in command:
            if argument.startswith("vla_ros.nodes."):
                found[argument.removeprefix("vla_ros.nodes.")] = int(pid)
    return found


def _memory(pids: dict[str, int], watch: Callable[[], None]) -> dict[str, float]:
    """Median resident set in MB of each process over RUN_S seconds."""
    samples: dict[str, list[float]] = {name: [] for name in pids}
    deadline = time.monotonic() + RUN_S
    while time.monotonic() < deadline:
        watch()
        for name, pid in pids.items():
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            samples[name].append(pages * os.sysconf("SC_PAGE_SIZE") / MB)
        time.sleep(0.25)
    return {name: statistics.median(values) for name, values in samples.items()}
