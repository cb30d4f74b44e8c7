"""What must not stop the commanding thread: output that nobody takes, a full disk, no clock, busy cores."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from tests.nodes.control_graph import ControlGraph, robot_yaml
from tests.support import Starter, claimed_domain, wait_for
from vla_ros import processes
from vla_ros.nodes.output import HandedLog

pytestmark = pytest.mark.graph


@pytest.fixture
def bare(start_process: Starter, tmp_path: Path) -> Iterator[ControlGraph]:
    """A robot without a control_node."""
    with claimed_domain() as domain:
        graph = ControlGraph(start_process, domain, robot_yaml(tmp_path), launch=False)
        try:
            yield graph
        finally:
            graph.close()


class Process:
    """A control_node whose output goes where the test says."""

    def __init__(self, graph: ControlGraph, output: int | IO[bytes], **env: str) -> None:
        argv = [sys.executable, "-m", "vla_ros.nodes.control_node"]
        argv += ["--ros-args", "-p", f"robot:={graph.file}"]
        env = {
            "ROS_DOMAIN_ID": str(graph.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", **env,
        }  # fmt: skip
        process = processes.Process("control_node", tuple(argv), env)
        self.child = processes.start(process, stdout=output, stderr=subprocess.STDOUT)
        # No text to wait for: the services show that it is there.
        wait_for(lambda: "loop_stalled" in graph.diagnostics, 60.0, "control_node's diagnostics")

    def end(self) -> None:
        processes.end([self.child])


def full_pipe() -> tuple[int, int]:
    """A pipe that takes no byte more."""
    reader, writer = os.pipe()
    flags = fcntl.fcntl(writer, fcntl.F_GETFL)
    fcntl.fcntl(writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    for size in (4096, 1):
        try:
            while True:
                os.write(writer, b"x" * size)
        except BlockingIOError:
            continue
    fcntl.fcntl(writer, fcntl.F_SETFL, flags)
    return reader, writer


def serves(graph: ControlGraph, away: float = 0.1) -> None:
    """Everything works: services, chunks, refusals (which are logged) and diagnostics."""
    graph.start()
    graph.send(graph.joint_chunk(30.0, rows=3))
    graph.wait_count("refused_chunks.far", 0)
    graph.send(graph.joint_chunk(away, rows=20))
    graph.wait_source("policy")
    wait_for(lambda: np.allclose(graph.q, graph.home + away, atol=5e-3), 15.0, "the arm to arrive")
    graph.assert_limits()
    assert graph.count("loop_stalled") == 0
    assert graph.call("stop").success


def test_a_reader_that_stopped_reading_stops_nothing(bare: ControlGraph) -> None:
    """rclpy logs with the interpreter's lock held: without care one line stops every thread."""
    reader, writer = full_pipe()
    process = Process(bare, writer)
    try:
        serves(bare)
        with pytest.raises(BlockingIOError):
            fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
            os.write(writer, b"x")
    finally:
        process.end()
        os.close(reader)
        os.close(writer)


def test_a_reader_that_died_stops_nothing(bare: ControlGraph) -> None:
    reader, writer = os.pipe()
    process = Process(bare, writer)
    os.close(writer)
    os.close(reader)
    try:
        serves(bare)
        assert process.child.poll() is None
    finally:
        process.end()


def test_a_full_disk_stops_nothing(bare: ControlGraph) -> None:
    """Its output goes to a full disk, and where it could log to there cannot even be a folder."""
    with open("/dev/full", "ab", buffering=0) as full:
        with pytest.raises(OSError) as error:
            full.write(b"x")
        assert error.value.errno == errno.ENOSPC
        process = Process(bare, full, ROS_LOG_DIR="/dev/full/log")
    try:
        serves(bare)
    finally:
        process.end()


def test_two_busy_processes_per_core_stop_nothing(bare: ControlGraph, start_process: Starter) -> None:
    bare.process = bare.start_node()
    for _ in range(2 * len(os.sched_getaffinity(0))):
        start_process([sys.executable, "-c", "while True: pass"], "busy")
    serves(bare)
    assert "overruns" in bare.diagnostics
    assert float(bare.diagnostics["control_period_error_ms.p50"]) < 10.0


def test_a_clock_that_stands_still_ends_in_a_hold_and_goes_on_with_the_clock(
    start_process: Starter, tmp_path: Path
) -> None:
    with claimed_domain() as domain:
        graph = ControlGraph(
            start_process, domain, robot_yaml(tmp_path), "-p", "use_sim_time:=true", sim_time=True
        )
        try:
            graph.start()
            graph.send(graph.joint_chunk(0.3, rows=60))
            graph.wait_source("policy", 20.0)
            wait_for(lambda: np.ptp(graph.sent_joints()[:, 0]) > 0.01, 20.0, "the arm to move")
            graph.publishing = False
            graph.wait_source("hold", 10.0)
            wait_for(lambda: graph.diagnostics["hold_reason"].startswith("clock"), 10.0, "the reason")
            graph.settle()
            # Without a clock it still answers and can be stopped for good.
            assert graph.call("estop").success
            graph.wait_source("estop")
            assert graph.call("reset").success
            graph.wait_source("hold")
            assert graph.count("loop_stalled") == 0
            graph.publishing = True
            graph.start()

            def taken_up() -> bool:
                targets = np.tile([*graph.q, 0.08], (20, 1))
                graph.send(graph.chunk(graph.joint_chunk().channels, targets))
                return graph.sources[-1] == "policy"

            wait_for(taken_up, 20.0, "chunks to be followed again")
        finally:
            graph.close()


def test_lines_are_handed_over_in_order_and_sparsely() -> None:
    class Heard:
        def __init__(self) -> None:
            self.lines: list[tuple[str, str, int]] = []

        def __getattr__(self, severity: str) -> Any:
            return lambda text: self.lines.append((severity, text, threading.get_ident()))

    heard = Heard()
    log = HandedLog(heard)

    def say() -> None:
        for number in range(3):
            log.say("warning", f"again {number}", once_per_s="again")
            log.say("error", f"always {number}")

    thread = threading.Thread(target=say)
    thread.start()
    thread.join()
    assert heard.lines == []
    log.flush()
    expected = ["again 0", "always 0", "always 1", "always 2"]
    assert [text for _, text, _ in heard.lines] == expected
    assert [severity for severity, _, _ in heard.lines] == ["warning", "error", "error", "error"]
    assert {thread for _, _, thread in heard.lines} == {threading.get_ident()}
    begin = time.monotonic()
    for number in range(5000):
        log.say("info", str(number))
    assert time.monotonic() - begin < 5.0
    log.flush()
    assert [text for _, text, _ in heard.lines][-1] == "4999"
    assert len(heard.lines) == 4 + 1000
