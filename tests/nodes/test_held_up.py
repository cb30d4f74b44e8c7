"""A real control_node, held up by the machine in the middle of a tick: what was due then is not sent."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.nodes.control_graph import JOINTS, MS, ControlGraph, standing_graph
from tests.support import wait_for
from vla_ros.benchmarks._faults_case import ROUNDING
from vla_ros.benchmarks._faults_judge import DRIVER_PERIOD_S, Limits, carried_out, limit_use
from vla_ros.benchmarks._faults_observer import Observer

pytestmark = pytest.mark.graph

PERIOD_NS, ROW_S, ROWS = 10 * MS, 0.1, 250
HELD_UP_S = 0.06
# A stop may also hit the wait between two ticks, which holds no command up.
WANTED, TRIES = 4, 30
# Where in a tick a stop is aimed, as a share of the way from its beginning to its commands.
AIM = 0.3
# Judged around each stop: the arm brakes meanwhile, and then takes the chunk up again.
BEFORE_NS, AFTER_NS = 50 * MS, 250 * MS


@pytest.fixture
def graph(tmp_path: Path) -> Iterator[ControlGraph]:
    with standing_graph(tmp_path) as graph:
        yield graph


@pytest.fixture
def observer(graph: ControlGraph) -> Iterator[Observer]:
    joint_trajectory = graph.arm.drivers.joint_trajectory
    assert joint_trajectory is not None
    observer = Observer(graph.node, "arm", graph.arm, joint_trajectory.topic, graph.arm.states.topic)
    try:
        yield observer
    finally:
        observer.close()


def follow_a_circle(graph: ControlGraph) -> None:
    """One long chunk; some joint moves at 0.5 rad/s or more at every moment."""
    angle = 2 * np.pi * 0.4 * ROW_S * np.arange(1, ROWS + 1)
    targets = np.tile(graph.home, (ROWS, 1))
    targets[:, 0] += 0.3 * np.sin(angle)
    targets[:, [4, 6]] += 0.3 * (1 - np.cos(angle))[:, None]
    graph.start()
    graph.send(graph.chunk(JOINTS, np.column_stack([targets, np.full(ROWS, 0.08)])))
    graph.wait_source("policy")


def ticks_take_ns(graph: ControlGraph, observer: Observer) -> float:
    """From the beginning of a tick, which is its commands' stamp, to their publication."""
    wait_for(lambda: min(len(observer.commands), len(graph.commands)) > 150, 10.0, "150 commands")
    published = np.array([at for at, _ in observer.commands[:150]])
    return float(np.median(published - graph.command_stamps()[:150]))


def hold_up(graph: ControlGraph, after_ns: float) -> tuple[int, int]:
    """Stop the process for HELD_UP_S, `after_ns` into a tick; returns when, on the system clock."""
    begun = int(graph.command_stamps()[-1])
    ahead = (time.time_ns() - begun) // PERIOD_NS + 3
    aim = begun + ahead * PERIOD_NS + round(after_ns)
    time.sleep(max(aim - time.time_ns() - 2 * MS, 0) / 1e9)
    while time.time_ns() < aim:
        pass
    os.kill(graph.process.pid, signal.SIGSTOP)
    stopped = time.time_ns()
    try:
        time.sleep(HELD_UP_S)
    finally:
        os.kill(graph.process.pid, signal.SIGCONT)
    return stopped, time.time_ns()


def too_late(observer: Observer, after_ns: int) -> int:
    """What control_node has counted, as reported after that time."""

    def newest() -> str | None:
        for at, name, values in reversed(list(observer.reports)):
            if name == "control_node":
                return values.get("commands_too_late", "0") if at > after_ns else None
        return None

    return int(wait_for(newest, 10.0, "control_node's diagnostics"))


def test_commands_that_were_held_up_are_taken_back(graph: ControlGraph, observer: Observer) -> None:
    follow_a_circle(graph)
    aim_ns = AIM * ticks_take_ns(graph, observer)
    counted = too_late(observer, time.time_ns())
    stops = []
    for _ in range(TRIES):
        stop = hold_up(graph, aim_ns)
        # Long enough to have followed the chunk again, and for the tick that was held up to be counted.
        now_counted = too_late(observer, stop[1] + AFTER_NS)
        if now_counted > counted:
            stops.append(stop)
        counted = now_counted
        if len(stops) == WANTED:
            break
    assert len(stops) == WANTED, f"{len(stops)} of {TRIES} stops held commands up"
    assert graph.sources[-1] == "policy"
    graph.assert_limits()
    sent = list(observer.sent)
    given = graph.arm.limits
    limits = Limits(*map(np.array, (given.position, given.velocity, given.acceleration, given.jerk)))
    reference = carried_out(sent, graph.arm.joints, graph.home)
    for begin_ns, end_ns in stops:
        first, last = ((at - sent[0].at_ns) // MS for at in (begin_ns - BEFORE_NS, end_ns + AFTER_NS))
        around = reference[first:last]
        assert np.ptp(around, axis=0).max() > 0.05, "the arm did not move"
        use = limit_use(around, DRIVER_PERIOD_S, limits)
        assert use.share <= 1 + ROUNDING, use
