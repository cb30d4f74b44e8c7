"""`vla demo` as a user runs it: the whole graph, on the real middleware, with the policy that ships."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest
from rosbags.rosbag2 import Reader

from tests.support import Started, Starter, wait_for
from vla_ros.recording.topics import ACTION_CHUNK, COMMAND, PROMPT, TASK

pytestmark = [pytest.mark.graph, pytest.mark.timeout(240)]

NODES = {"sim_node", "control_node", "policy_node"}


def demo(start_process: Starter, out: Path, episodes: int) -> Started:
    argv = [sys.executable, "-m", "vla_ros.cli", "demo", "--episodes", str(episodes), "--seed", "3"]
    return start_process([*argv, "--out", str(out)], "demo")


def children(started: Started) -> dict[str, psutil.Process]:
    """The nodes that the demo runs, by name."""
    found = {}
    for child in psutil.Process(started.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):  # a zombie too
            line = " ".join(child.cmdline())
            found.update({name: child for name in NODES if f"vla_ros.nodes.{name}" in line})
    return found


def all_up(started: Started) -> dict[str, psutil.Process]:
    wait_for(lambda: started.returncode is not None or set(children(started)) == NODES, 60)
    started.wait_for_text("graph up", 90)
    return children(started)


def test_one_episode_leaves_everything_the_demo_promises(start_process: Starter, tmp_path: Path) -> None:
    started = demo(start_process, tmp_path, 1)
    assert started.wait(200) == 0, started.output
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["episodes"] == 1 and summary["successes"] in (0, 1)
    for name in ("inference_ms", "glue_ms", "control_period_error_ms"):
        assert 0 <= summary[name]["p50"] <= summary[name]["p95"] <= summary[name]["p99"]
    for camera in ("front", "wrist"):
        assert summary["frames"][camera]["sent"] > 30
        assert summary["frames"][camera]["received"] == summary["frames"][camera]["sent"]
    (row,) = json.loads((tmp_path / "episodes.json").read_text())
    assert row["seed"] == 1_000_003 and row["success"] == (row["outcome"] == "success")
    report = (tmp_path / "report.html").read_text()
    assert report.count("data:image/jpeg;base64,") == 16 and row["outcome"] in report
    recording = tmp_path / row["file"]
    assert recording.stat().st_size < 30e6
    with Reader(recording) as reader:
        counts = {connection.topic: connection.msgcount for connection in reader.connections}
        kinds = {connection.topic: connection.msgtype for connection in reader.connections}
    assert counts[ACTION_CHUNK] > 5 and counts[COMMAND] > 100 and counts[PROMPT] >= 1 and counts[TASK] >= 2
    assert kinds["/front/color/image_raw/compressed"] == "sensor_msgs/msg/CompressedImage"
    assert counts["/wrist/color/image_raw/compressed"] > 10
    assert counts["/franka_robot_state_broadcaster/measured_joint_states"] > 100


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_it_ends_nothing_is_left_running(
    start_process: Starter, tmp_path: Path, number: signal.Signals
) -> None:
    started = demo(start_process, tmp_path, 5)
    nodes = all_up(started)
    # To the demo alone, not to its group: its own clean-up is under test.
    os.kill(started.pid, number)
    code = started.wait(30)
    assert code == (130 if number != signal.SIGKILL else -signal.SIGKILL), started.output
    wait_for(lambda: not any(node.is_running() for node in nodes.values()), 15, "the nodes to be gone")
    assert "Traceback" not in started.output
    assert not list(tmp_path.glob("*.part")) or number == signal.SIGKILL


@pytest.mark.parametrize("name", sorted(NODES))
def test_a_node_that_dies_ends_the_demo_by_name(start_process: Starter, tmp_path: Path, name: str) -> None:
    started = demo(start_process, tmp_path, 5)
    nodes = all_up(started)
    nodes[name].kill()
    assert started.wait(60) not in (0, 130)
    assert f"{name} ended by signal SIGKILL" in started.output
    wait_for(lambda: not any(node.is_running() for node in nodes.values()), 15, "the nodes to be gone")
    assert not list(tmp_path.glob("*.part"))
