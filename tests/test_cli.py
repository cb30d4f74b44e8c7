"""The command line as a user meets it: every call is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from tests.support import Started, Starter, wait_for
from tests.tiny_bundle import franka_fields, write_tiny_bundle
from vla_ros.policy.bundle import sha256_of
from vla_ros.resources import policy_bundle

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


@pytest.mark.graph
def test_start_stop_and_reset_say_what_does_not_run(start_process: Starter, ros_domain: int) -> None:
    for command in ("start", "stop", "reset"):
        done = vla(command)
        assert done.returncode == 1
        where = f"no control_node in namespace / (ROS_DOMAIN_ID {ros_domain}): is `vla up` running there?"
        assert where in done.stderr and "Traceback" not in done.stderr
    started = start_process([sys.executable, "-m", "vla_ros.cli", "up", "--robot", "franka", "--sim"], "up")
    for text in ("commanding at", "sim_node]: seed"):
        started.wait_for_text(text, 90)
    absent = "policy_node: does not run; only chunks that something else publishes are followed"
    for command, answer in (("start", "started"), ("stop", "stopping"), ("reset", "reset")):
        done = vla(command)
        assert done.returncode == 0, done.stderr
        assert absent in done.stdout and f"control_node: {answer}" in done.stdout
    done = vla("stop", "--namespace", "left")
    assert done.returncode == 1 and "no control_node in namespace /left" in done.stderr


def contents(file: Path) -> dict[str, int]:
    """{topic: messages}, by mcap's own reader and by rosbags', which must agree."""
    with open(file, "rb") as stream:
        summary = make_reader(stream).get_summary()
        assert summary is not None and summary.statistics is not None
        counts = summary.statistics.channel_message_counts
        by_mcap = {channel.topic: counts.get(number, 0) for number, channel in summary.channels.items()}
    with Reader(file) as reader:
        assert {each.topic: each.msgcount for each in reader.connections} == by_mcap
    return by_mcap


@pytest.mark.graph
def test_up_records_each_run(start_process: Starter, ros_domain: int, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    argv = ["up", "--robot", "franka", "--policy", "franka_pick", "--sim", "--record", str(folder)]
    command = [sys.executable, "-m", "vla_ros.cli", *argv, "--prompt", "pick up the red block"]
    started = start_process(command, "vla up")
    for text in ("ready: policy", "commanding at", "sim_node]: seed", "recordings go to"):
        started.wait_for_text(text, 90)
    assert vla("start").returncode == 0
    started.wait_for_text("following the policy", 30)
    time.sleep(3.0)
    assert vla("stop").returncode == 0
    started.wait_for_text("MB, stopped", 20)
    (file,) = folder.iterdir()
    found = contents(file)
    for topic in ("/front/color/image_raw/compressed", "/wrist/color/image_raw/compressed"):
        assert found[topic] > 10
    for topic in (
        "/franka_robot_state_broadcaster/measured_joint_states",
        "/joint_trajectory_controller/joint_trajectory",
        "/vla/command",
    ):
        assert found[topic] > 50
    assert found["/vla/action_chunk"] > 5
    with open(file, "rb") as stream:
        reader = make_reader(stream)
        (record,) = [each for each in reader.iter_metadata() if each.name == "rosbag2"]
        (attached,) = reader.iter_attachments()
    notes = yaml.safe_load(record.metadata["serialized_metadata"])["custom_data"]
    assert notes["prompt"] == "pick up the red block" and notes["ended"] == "stopped"
    assert (notes["robot"], notes["policy"], notes["policy_acted"]) == ("franka", "franka_pick", "true")
    assert notes["policy_sha256"] == sha256_of(policy_bundle("franka_pick") / "policy.yaml")
    shown = vla("robot", "show", "franka").stdout
    assert yaml.safe_load(attached.data) == yaml.safe_load(shown)
    # A recorder that dies is started again; the robot does not notice.
    (recorder,) = [
        each for each in psutil.Process(started.pid).children() if "record_node" in " ".join(each.cmdline())
    ]
    assert recorder.nice() == 10
    assert vla("start").returncode == 0
    wait_for(lambda: list(folder.glob("*.part")), 20, "a second recording")
    recorder.kill()
    wait_for(lambda: len(list(folder.glob("*.part"))) == 2, 40, "the recorder to be back")
    assert started.returncode is None
    os.kill(started.pid, signal.SIGINT)
    assert started.wait(30) == 0, started.output
    names = sorted(file.name.split("_")[-1] for file in folder.iterdir())
    assert names == ["0001.mcap", "0002.mcap.part", "0003.mcap"]


def test_up_refuses_a_folder_that_takes_no_recordings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = vla("up", "--robot", "franka", "--sim", "--record", str(tmp_path / "file"))
    assert done.returncode == 1
    assert f"recordings' folder {tmp_path / 'file'}: cannot be made" in done.stderr
    assert "sim_node" not in done.stdout
