"""Faults, injected one after another into the real graph in motion: noticed how fast, held how, back how.

The graph is the one of `vla up`: simulated Franka, control_node, policy_node with the demo policy. Each fault
begins while the policy moves the arm. Two of the graphs need namespaces, which need root: without, their rows
say so. The motion is judged on the messages to the driver, as published.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vla_ros import processes
from vla_ros.benchmarks.bench import Bench, Progress, Value

GROUPS = ("plain", "relayed", "clock", "network", "full")
GROUP_S = 300.0
ADDRESSES = ("10.213.77.1/30", "10.213.77.2/30")


def run(progress: Progress) -> Bench:
    """Play every fault; about eight minutes."""
    return play(progress, dict.fromkeys(GROUPS))


def play(progress: Progress, wanted: Mapping[str, Sequence[str] | None]) -> Bench:
    """Play the faults `wanted`, {group: names, None for all}."""
    folder = Path(tempfile.mkdtemp(prefix="vla_faults_"))
    rows: list[dict[str, Value]] = []
    notes = []
    with processes.interruptible():
        for group, names in wanted.items():
            with _place(group) as (prefix, environment, refusal):
                if refusal:
                    rows.append({"fault": f"({group})", "told": f"skipped: {refusal}", "met": None})
                else:
                    rows += _group(group, folder, names, prefix, environment, progress)
    if all(row["met"] is not False for row in rows):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        notes.append(f"logs of the nodes: {folder}")
    notes.append(f"{len(os.sched_getaffinity(0))} cores, load average at the end {os.getloadavg()[0]:.1f}")
    return Bench("faults", rows, notes)


def _group(
    group: str,
    folder: Path,
    names: Sequence[str] | None,
    prefix: Sequence[str],
    environment: Mapping[str, str],
    progress: Progress,
) -> list[dict[str, Value]]:
    module = "vla_ros.benchmarks._faults_group"
    argv = (*prefix, sys.executable, "-m", module, group, str(folder), json.dumps(names))
    rows: list[dict[str, Value]] = []
    with open(folder / f"{group}.log", "wb") as log:
        child = processes.start(
            processes.Process(group, argv, environment), stdout=subprocess.PIPE, stderr=log
        )
    timer = threading.Timer(GROUP_S, processes.signal_group, (child, signal.SIGTERM))
    timer.start()
    try:
        assert child.stdout is not None
        for line in child.stdout:
            said: dict[str, Any] = json.loads(line)
            if "progress" in said:
                progress(said["progress"])
            else:
                rows.append(said["row"])
        code = child.wait()
    finally:
        timer.cancel()
        processes.end([child], grace_s=20.0)
    if code:
        tail = (folder / f"{group}.log").read_text(errors="replace").splitlines()[-3:]
        told = " ".join([f"ended {processes.describe_exit(code)}:", *tail])
        rows.append({"fault": f"({group})", "told": told, "met": False})
    return rows


@contextlib.contextmanager
def _place(group: str) -> Iterator[tuple[Sequence[str], Mapping[str, str], str]]:
    """(what to put in front of the group's command, its environment, why it cannot be played here)."""
    if group == "network":
        with contextlib.ExitStack() as stack:
            try:
                here, peer = _two_networks(stack)
            except (OSError, subprocess.CalledProcessError) as error:
                yield (), {}, f"network namespaces: {_reason(error)}"
                return
            environment = {"VLA_FAULTS_PEER": peer, "VLA_FAULTS_LINK": "vla0"}
            yield ("ip", "netns", "exec", here), environment, ""
    elif group == "full":
        try:
            _call("unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/dev/shm")
        except (OSError, subprocess.CalledProcessError) as error:
            yield (), {}, f"mount namespaces: {_reason(error)}"
            return
        yield ("unshare", "-m"), {}, ""
    else:
        yield (), {}, ""


def _two_networks(stack: contextlib.ExitStack) -> tuple[str, str]:
    """Two namespaces joined by a cable; removed with the stack."""
    names = tuple(f"vla_faults_{os.getpid()}_{end}" for end in "ab")
    for name in names:
        _call("ip", "netns", "add", name)
        stack.callback(subprocess.run, ["ip", "netns", "del", name], check=False)
    _call(
        "ip", "-n", names[0], "link", "add", "vla0", "type", "veth", "peer", "name", "vla0", "netns", names[1]
    )
    for name, address in zip(names, ADDRESSES, strict=True):
        _call("ip", "-n", name, "addr", "add", address, "dev", "vla0")
        for device in ("lo", "vla0"):
            _call("ip", "-n", name, "link", "set", device, "up")
    return names[0], names[1]


def _call(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True)


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return " ".join(str(error.stderr).split())
    return str(error)
