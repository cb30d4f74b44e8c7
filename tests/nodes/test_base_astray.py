"""control_node and a mobile base that does not do what it is sent, or is not sent anything any more."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
pytest.importorskip("piper_msgs.msg", reason="needs the vendors' message packages")

from nav_msgs.msg import Odometry

from tests.nodes.base_graph import ODOMETRY, BaseGraph, base_graph
from tests.support import wait_for

pytestmark = pytest.mark.graph


def drive(graph: BaseGraph) -> None:
    """Start, and have the base go at 0.4 m/s."""
    graph.start()
    graph.drive(0.4, 0.0, lambda: bool(graph.base.velocity[0] > 0.38), "the base to drive")


def test_motors_that_are_off_are_switched_on_at_the_next_start(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        drive(graph)
        graph.base.on = False
        graph.drive(0.4, 0.0, lambda: graph.graph.sources[-1] == "hold", "a hold")
        graph.graph.process.wait_for_text("gave up (base_not_following)")
        drive(graph)
        assert graph.base.asked == [True, True]


def test_a_stop_fails_where_the_base_rolls_on_and_that_is_told(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        drive(graph)
        graph.base.runs_away = True
        stopped = graph.graph.call("stop")
        assert not stopped.success
        assert stopped.message.startswith("stop: not at rest after 5 s: the base moves at 0.")
        graph.graph.process.wait_for_text("holding (base_not_following): the base is at 0.")
        graph.base.runs_away = False
        wait_for(lambda: graph.graph.call("stop").success, 10.0, "a stop")
        graph.assert_limits()


def test_a_thread_that_ends_leaves_no_base_driving(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        drive(graph)
        # What no driver publishes, and nobody expects: half a message.
        graph.base.alive = False
        graph.graph.node.create_publisher(Odometry, ODOMETRY, 10).publish(b"\x00\x01\x00\x00\xff\xff")
        wait_for(lambda: graph.graph.process.returncode is not None, 15.0, "the process to end")
        assert not graph.base.sent()[-1].any()


def test_a_base_is_slowed_down_by_ticks_that_are_too_late(tmp_path: Path) -> None:
    """The machine runs the node only for moments, none of them as long as a tick."""
    with base_graph(tmp_path) as graph:
        drive(graph)
        heard, pid = len(graph.base.heard), graph.graph.process.pid
        until = time.monotonic() + 8.0
        try:
            while time.monotonic() < until and graph.base.sent()[-1].any():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(0.04)
                os.kill(pid, signal.SIGCONT)
                time.sleep(0.001)
        finally:
            os.kill(pid, signal.SIGCONT)
        sent = graph.base.sent(heard)[:, 0]
        assert sent[-1] == 0.0 and np.diff(sent).max() <= 0.01 + 1e-9
