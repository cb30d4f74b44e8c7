"""Two ROS installations in one process: refused by every way in, before rclpy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vla_ros import ros_environment

needs_wheels = pytest.mark.skipif(
    ros_environment.wheels_version() is None, reason="this Python has no rclpy wheels"
)


@pytest.fixture
def sourced(tmp_path: Path) -> Path:
    """A prefix as `source /opt/ros/jazzy/setup.bash` puts it on AMENT_PREFIX_PATH."""
    marker = tmp_path / "share" / "ament_index" / "resource_index" / "packages" / "rclpy"
    marker.parent.mkdir(parents=True)
    marker.touch()
    return tmp_path


def run(prefix: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "AMENT_PREFIX_PATH": str(prefix)}
    return subprocess.run(
        [sys.executable, *argv], env=env, capture_output=True, text=True, timeout=60, check=False
    )


@needs_wheels
@pytest.mark.parametrize(
    "argv",
    [
        ("sim", "--robot", "franka"),
        ("up", "--robot", "franka", "--policy", "franka_pick"),
        ("start",),
        ("demo", "--episodes", "1"),
    ],
)
def test_every_command_that_needs_ros_refuses_plainly(sourced: Path, argv: tuple[str, ...]) -> None:
    done = run(sourced, "-m", "vla_ros.cli", *argv)
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("vla: two ROS 2 installations in one process")
    assert str(sourced) in done.stderr and "pip uninstall" in done.stderr
    assert "Traceback" not in done.stderr


@needs_wheels
@pytest.mark.parametrize("name", ["control_node", "policy_node", "sim_node"])
def test_every_node_refuses_before_it_imports_rclpy(sourced: Path, name: str) -> None:
    done = run(sourced, "-v", "-m", f"vla_ros.nodes.{name}")
    assert done.returncode == 1
    assert "two ROS 2 installations in one process" in done.stderr
    assert "import 'rclpy'" not in done.stderr


@needs_wheels
def test_the_wheels_alone_are_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{sys.prefix}")
    ros_environment.require_ros()


def test_without_any_ros_both_ways_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ros_environment, "wheels_version", lambda: None)
    monkeypatch.setattr(ros_environment.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ros_environment.RosEnvironmentError, match=r"source .*setup\.bash.*vla_ros\[ros\]"):
        ros_environment.require_ros()
