"""The files in launch/, run by ROS's `launch` itself; skipped where that is not (PyPI has no wheel of it)."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import rclpy
from rclpy.context import Context
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

pytest.importorskip("launch.launch_description_sources", reason="needs ROS's launch")

import launch
from launch.launch_description_sources import get_launch_description_from_python_launch_file

from tests.support import Starter, wait_for
from tests.test_cli import vla
from vla_ros import processes
from vla_ros.action.message import to_message
from vla_ros.launch_file import ARGUMENTS, END_WITH_LAUNCH, _start
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.channels import gripper_channel, joint_channels
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "launch").glob("*.launch.py"))

# What `ros2 launch` does with a file and arguments (ros2launch/api/api.py).
LAUNCH = """
import sys
import launch
from launch.launch_description_sources import AnyLaunchDescriptionSource
arguments = [tuple(each.split(":=", 1)) for each in sys.argv[2:]]
file = launch.actions.IncludeLaunchDescription(
    AnyLaunchDescriptionSource(sys.argv[1]), launch_arguments=arguments
)
service = launch.LaunchService(argv=sys.argv[2:], noninteractive=True)
service.include_launch_description(launch.LaunchDescription([file]))
sys.exit(service.run())
"""


def log(folder: Path) -> dict[str, str]:
    """`launch` writes a folder of logs for each run."""
    return {"ROS_LOG_DIR": str(folder / "log")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name.split(".")[0])
def test_each_robot_has_a_file_whose_arguments_are_documented(file: Path) -> None:
    arguments = get_launch_description_from_python_launch_file(str(file)).get_launch_arguments()
    defaults = {each.name: "".join(part.text for part in each.default_value) for each in arguments}
    assert set(defaults) == {"robot", "policy", *ARGUMENTS}
    assert all(each.description.endswith(".") for each in arguments)
    assert defaults["robot"] == file.name.split(".")[0] and robot_config(defaults["robot"]).is_file()
    assert not defaults["policy"] or policy_bundle(defaults["policy"])
    assert (defaults["sim"], defaults["record"]) == ("false", "false")


def test_there_is_a_file_for_every_robot() -> None:
    robots = {file.stem for file in (ROOT / "robot_configs").glob("*.yaml")}
    assert robots == {file.name.split(".")[0] for file in FILES}


def test_a_launch_file_runs_the_table_of_vla_up(tmp_path: Path) -> None:
    given = {
        "robot": "franka", "policy": "franka_pick", "sim": "True", "prompt": "it's a \"test\": go",
        "record": "true", "record_folder": str(tmp_path / "runs"), "mode": "newest", "namespace": "/left",
        "use_sim_time": "false",
    }  # fmt: skip
    context = launch.LaunchContext()
    context.launch_configurations.update(given)
    actions = _start(context, tuple(given))
    extra = ("-p", "use_sim_time:=false", "-r", "__ns:=/left")
    robot, policy = str(robot_config("franka")), str(policy_bundle("franka_pick"))
    table = processes.table(robot, policy, True, extra, given["prompt"], "newest", str(tmp_path / "runs"))
    assert [process.name for process in table] == ["sim_node", "control_node", "policy_node", "record_node"]
    cmds = [["".join(part.perform(context) for part in word) for word in each.cmd] for each in actions]
    assert cmds == [[*END_WITH_LAUNCH, *process.argv] for process in table]
    assert (tmp_path / "runs").is_dir()
    context.launch_configurations["record"] = "false"
    assert len(_start(context, tuple(given))) == 3


@pytest.mark.graph
def test_aloha_is_launched_moves_and_is_recorded(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
    folder = tmp_path / "runs"
    arguments = ("sim:=true", "record:=true", f"record_folder:={folder}")
    file = ROOT / "launch" / "aloha.launch.py"
    started = start_process([sys.executable, "-c", LAUNCH, str(file), *arguments], "launch", **log(tmp_path))
    for text in ("commanding at", "arms at home", "recordings go to"):
        started.wait_for_text(text, 90)
    robot = load_robot(robot_config("aloha"))
    channels, targets = [], []
    for name, arm in robot.arms.items():
        channels += [*joint_channels(name, 6), gripper_channel(name)]
        targets += [*arm.home, 0.05]
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        node = rclpy.create_node("chunks", context=context)
        chunks = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        node.create_subscription(JointState, "/follower_left/joint_states", lambda _: None, 10)
        assert vla("start").returncode == 0
        share = np.linspace(0.0, 1.0, 51)[1:, None]
        rows = np.array(targets) + 0.1 * share
        due = time.time_ns() + np.arange(1, 51) * 100_000_000
        chunks.publish(to_message(ActionChunk(tuple(channels), rows, due, time.time_ns())))
        started.wait_for_text("following the policy", 20)
        time.sleep(4.0)
        assert vla("stop").returncode == 0
    finally:
        rclpy.try_shutdown(context=context)
    started.wait_for_text("MB, stopped", 20)
    (recording,) = folder.iterdir()
    with Reader(recording) as reader:
        found = {each.topic: each.msgcount for each in reader.connections}
    for side in ("left", "right"):
        assert found[f"/follower_{side}/commands/joint_group"] > 50
        assert found[f"/follower_{side}/commands/joint_single"] > 5
        assert found[f"/follower_{side}/joint_states"] > 50
    for camera in robot.cameras.values():
        assert found[f"{camera.topic}/compressed"] > 10
    assert found["/vla/command"] > 100 and found["/vla/action_chunk"] == 1
    children = psutil.Process(started.pid).children()
    os.kill(started.pid, signal.SIGINT)
    assert started.wait(30) == 0, started.output
    wait_for(lambda: not any(child.is_running() for child in children), 15, "the nodes to be gone")


@pytest.mark.graph
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_a_launch_that_is_killed(
    start_process: Starter, ros_domain: int, tmp_path: Path, number: int
) -> None:
    file = str(ROOT / "launch" / "franka.launch.py")
    started = start_process(
        [sys.executable, "-c", LAUNCH, file, "sim:=true", "policy:="], "launch", **log(tmp_path)
    )
    for text in ("commanding at", "sim_node]: seed"):
        started.wait_for_text(text, 90)
    children = psutil.Process(started.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(started.pid, number)
    wait_for(lambda: not any(child.is_running() for child in children), 20, "the nodes to be gone")


def test_a_folder_that_takes_no_recordings_is_refused_before_anything_starts(
    start_process: Starter, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    arguments = ("sim:=true", "record:=true", f"record_folder:={tmp_path / 'file'}")
    file = str(ROOT / "launch" / "widowx.launch.py")
    started = start_process([sys.executable, "-c", LAUNCH, file, *arguments], "launch", **log(tmp_path))
    assert started.wait(60) == 1
    assert f"recordings' folder {tmp_path / 'file'}: cannot be made" in started.output
    assert "sim_node" not in started.output
