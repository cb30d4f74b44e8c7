"""The command line as a user meets it: every call is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from tests.support import Started, Starter, wait_for
from tests.tiny_bundle import franka_fields, write_tiny_bundle

NODES = ["control_node", "policy_node", "sim_node"]


def vla(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "vla_ros.cli", *argv],
        env={**os.environ, "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_tiny_bundle(tmp_path / "tiny")
    return tmp_path / "tiny"


def test_help_teaches_the_first_run() -> None:
    done = vla("--help")
    assert done.returncode == 0
    for text in (
        "vla up    --robot franka",
        "vla check --robot franka",
        "ros2 launch vla_ros franka.launch.py",
    ):
        assert text in done.stdout
    for command in ("up", "sim", "check", "bench", "demo", "start", "estop"):
        assert f"vla {command}" in vla(command, "--help").stdout


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, vla_ros.cli\n"
        "heavy = {'rclpy', 'numpy', 'cv2', 'mujoco', 'onnxruntime', 'torch', 'pinocchio'}\n"
        "print(*heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.split()


def test_check_prints_the_contract(bundle: Path) -> None:
    done = vla("check", "--robot", "franka", "--policy", str(bundle), "--parity")
    assert done.returncode == 0, done.stderr
    assert "policy tiny on robot franka" in done.stdout
    for text in ("embodiment", "camera 'front'", "action arm.gripper", "lines match", "parity holds"):
        assert text in done.stdout


def test_check_needs_no_ros(bundle: Path) -> None:
    done = vla("check", "--robot", "franka", "--policy", str(bundle), AMENT_PREFIX_PATH="/opt/ros/none")
    assert done.returncode == 0, done.stderr


def test_check_names_what_does_not_match(bundle: Path, tmp_path: Path) -> None:
    fields = franka_fields()
    fields["arms"]["arm"]["urdf"] = str(Path(__file__).parent.parent / "robot_configs" / "urdf" / "fr3.urdf")
    del fields["policy"]["cameras"]["wrist"]
    robot = tmp_path / "mine.yaml"
    robot.write_text(yaml.safe_dump(fields))
    done = vla("check", "--robot", str(robot), "--policy", str(bundle))
    assert done.returncode == 1
    assert "policy expects camera 'wrist'" in done.stdout and "policy.cameras" in done.stdout
    assert "lines do not match" in done.stderr and "Traceback" not in done.stderr


def test_check_finds_a_runtime_that_computes_something_else(bundle: Path) -> None:
    from vla_ros.policy.bundle import sha256_of

    with np.load(bundle / "parity.npz") as file:
        arrays = dict(file)
    arrays["expected"] = arrays["expected"] + np.float32(0.01)
    np.savez_compressed(bundle / "parity.npz", **arrays)
    manifest = yaml.safe_load((bundle / "policy.yaml").read_text())
    manifest["sha256"]["parity.npz"] = sha256_of(bundle / "parity.npz")
    (bundle / "policy.yaml").write_text(yaml.safe_dump(manifest))
    assert vla("check", "--robot", "franka", "--policy", str(bundle)).returncode == 0
    done = vla("check", "--robot", "franka", "--policy", str(bundle), "--parity")
    assert done.returncode == 1
    assert done.stderr.startswith("vla: parity broken") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("check", "--robot", "frank", "--policy", "x"), "robot 'frank': not known; known are agilex_cobot"),
        (("check", "--robot", "franka", "--policy", "./no"), "policy bundle './no': no such folder"),
        (("up", "--robot", "franka", "--policy", "./no"), "policy bundle './no': no such folder"),
        (("sim", "--robot", "./no.yaml"), "no.yaml: no such file"),
        (("up", "--robot", "franka", "--policy", "franka_pick", "--mode", "act"), "--mode: found 'act'"),
        (("demo", "--mode", "act"), "--mode: found 'act'; expected one of sync, newest"),
        (("bench", "nothing"), "benchmark 'nothing': not known; known are "),
    ],
)
def test_errors_are_bare_and_exit_with_1(argv: tuple[str, ...], text: str) -> None:
    done = vla(*argv)
    assert done.returncode == 1
    assert text in done.stderr and "Traceback" not in done.stderr


def test_up_refuses_a_policy_that_does_not_fit_before_it_starts_anything(tmp_path: Path) -> None:
    write_tiny_bundle(tmp_path / "tiny", embodiment="aloha")
    done = vla("up", "--robot", "franka", "--policy", str(tmp_path / "tiny"), "--sim")
    assert done.returncode == 1
    assert "trained for embodiment 'aloha'" in done.stderr
    assert "sim_node" not in done.stdout


def up(start_process: Starter, bundle: Path, *extra: str) -> tuple[Started, dict[str, psutil.Process]]:
    argv = ["up", "--robot", "franka", "--policy", str(bundle), "--sim", *extra]
    started = start_process([sys.executable, "-m", "vla_ros.cli", *argv], "vla up")
    for text in ("ready: policy 'tiny'", "commanding at", "sim_node]: seed"):
        started.wait_for_text(text, 90)
    found = {}
    for child in psutil.Process(started.pid).children():
        found[next(name for name in NODES if f"vla_ros.nodes.{name}" in child.cmdline())] = child
    assert sorted(found) == NODES
    return started, found


def all_gone(children: dict[str, psutil.Process]) -> None:
    wait_for(lambda: not any(child.is_running() for child in children.values()), 15, "nodes to be gone")


@pytest.mark.graph
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_starts_the_graph_and_ends_all_of_it(
    start_process: Starter, ros_domain: int, bundle: Path, number: int
) -> None:
    started, children = up(start_process, bundle, "--prompt", "pick up the red block", "--mode", "newest")
    for node in ("control_node", "policy_node"):
        assert 'mode:="newest"' in children[node].cmdline()
    assert "control_node [INFO]" in started.output and "policy_node  [INFO]" in started.output
    os.kill(started.pid, number)
    assert started.wait(30) == 0, started.output
    assert "Traceback" not in started.output
    all_gone(children)


@pytest.mark.graph
def test_up_names_the_node_that_died_and_ends_the_others(
    start_process: Starter, ros_domain: int, bundle: Path
) -> None:
    started, children = up(start_process, bundle)
    children["policy_node"].kill()
    assert started.wait(30) == 1
    assert "vla: policy_node ended by signal SIGKILL; all other processes were ended" in started.output
    all_gone(children)


@pytest.mark.graph
def test_nothing_is_left_when_up_is_killed_hard(
    start_process: Starter, ros_domain: int, bundle: Path
) -> None:
    started, children = up(start_process, bundle)
    os.kill(started.pid, signal.SIGKILL)
    all_gone(children)


@pytest.mark.graph
def test_start_and_stop_from_another_terminal_in_a_namespace(
    start_process: Starter, ros_domain: int, bundle: Path
) -> None:
    started, _ = up(start_process, bundle, "-r", "__ns:=/left", "--prompt", "pick up the red block")
    done = vla("start", "--namespace", "/left", "--prompt", "grab the blue cube")
    assert done.returncode == 0, done.stderr
    started.wait_for_text("grab the blue cube", 20)
    done = vla("stop", "--namespace", "/left")
    assert done.returncode == 0, done.stderr
