"""control_node on the real path: a real process, real topics, services and actions."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Bool, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from tests.nodes.control_graph import JOINTS, LATCHED, PATIENT_MS, ControlGraph, robot_yaml, standing_graph
from tests.support import Starter, wait_for
from vla_ros.action.message import to_message
from vla_ros.robot.load import load_robot, read_urdf

MODULES = """
import sys
from vla_ros.nodes import control_node
loaded = {name.split(".")[0] for name in sys.modules}
print("HEAVY", sorted(loaded & {"onnxruntime", "cv2", "mujoco", "torch", "rosbags", "scipy"}))
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlGraph]:
    with standing_graph(tmp_path_factory.mktemp("robot")) as graph:
        yield graph


@pytest.fixture
def graph(shared: ControlGraph) -> ControlGraph:
    shared.fresh()
    return shared


def test_nothing_is_sent_before_start_and_a_chunk_is_refused(graph: ControlGraph) -> None:
    before = graph.count("refused_chunks.not_started")
    graph.send(graph.joint_chunk())
    graph.wait_count("refused_chunks.not_started", before)
    assert graph.driver_messages == []


def test_start_alone_moves_nothing(graph: ControlGraph) -> None:
    graph.start()
    time.sleep(0.5)
    assert graph.driver_messages == []
    assert graph.commands == []


def test_a_joint_chunk_arrives_at_the_driver(graph: ControlGraph) -> None:
    graph.start()
    away = np.array([0.1, 0.05, -0.1, 0.05, 0.1, 0.1, -0.1])
    graph.send(graph.joint_chunk(away))
    graph.wait_source("policy")
    wait_for(lambda: np.allclose(graph.q, graph.home + away, atol=5e-3), 10.0, "the arm to arrive")
    message = graph.driver_messages[-1][1]
    assert isinstance(message, JointTrajectory)
    assert list(message.joint_names) == graph.arm.joints
    graph.assert_limits()


def test_a_tool_chunk_moves_the_tool(graph: ControlGraph) -> None:
    graph.start()
    goal = graph.kinematics.forward(graph.q)[:3, 3] + np.array([0.05, 0.04, -0.05])
    graph.send(graph.tool_chunk((0.05, 0.04, -0.05)))
    wait_for(
        lambda: np.linalg.norm(graph.kinematics.forward(graph.q)[:3, 3] - goal) < 2e-3,
        10.0,
        "the tool to arrive",
    )
    graph.assert_limits()


def test_commands_come_at_the_rate_of_the_yaml(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.0, rows=20))
    graph.wait_source("policy")
    wait_for(lambda: len(graph.commands) >= 120, 10.0, "120 commands")
    periods = np.diff(graph.command_stamps()[:120]) / 1e6
    assert np.median(periods) == pytest.approx(10.0, abs=0.5)
    # All but those of the trajectory controller's time to settle.
    assert len(graph.driver_messages) > 80


def test_the_gripper_is_sent_when_its_target_changes_and_not_streamed(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.0, rows=5, width=0.08))
    wait_for(lambda: len(graph.goals) == 1, 10.0, "the first goal")
    time.sleep(0.3)
    graph.send(graph.joint_chunk(0.0, rows=30, width=0.0))
    graph.send(graph.joint_chunk(0.0, rows=30, width=0.0))
    wait_for(lambda: len(graph.goals) == 2, 10.0, "the second goal")
    time.sleep(0.5)
    # franka_gripper's position is one finger's travel.
    assert graph.goals == pytest.approx([0.04, 0.0])
    assert "gripper.arm" in graph.diagnostics


BAD = {
    "nan": lambda g: with_value(g, float("nan")),
    "infinite": lambda g: with_value(g, float("inf")),
    "shape": lambda g: short_row(g),
    "channels": lambda g: renamed(g),
    "far": lambda g: g.joint_chunk(30.0, rows=3),
    "order": lambda g: backwards(g),
    "old": lambda g: g.chunk(JOINTS, g.joint_chunk(0.0, rows=200).targets, g.now_ns() - 10**10),
    "late": lambda g: g.chunk(JOINTS, g.joint_chunk(0.0, rows=2).targets, g.now_ns() - 10**9),
    "future": lambda g: g.chunk(JOINTS, g.joint_chunk(0.0).targets, g.now_ns() + 10**10),
}


def with_value(graph: ControlGraph, value: float) -> JointTrajectory:
    message = to_message(graph.joint_chunk())
    message.points[4].positions[2] = value
    return message


def short_row(graph: ControlGraph) -> JointTrajectory:
    message = to_message(graph.joint_chunk())
    message.points[4].positions = [0.0]
    return message


def renamed(graph: ControlGraph) -> JointTrajectory:
    message = to_message(graph.joint_chunk())
    message.joint_names[0] = "left/joint1"
    return message


def backwards(graph: ControlGraph) -> JointTrajectory:
    message = to_message(graph.joint_chunk())
    message.points.reverse()
    return message


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_chunk_is_refused_by_name_and_moves_nothing(graph: ControlGraph, kind: str) -> None:
    graph.start()
    if kind == "late":
        time.sleep(1.1)  # or it would be refused for its age
    reason = {"infinite": "nan"}.get(kind, kind)
    before = graph.count(f"refused_chunks.{reason}")
    graph.send(BAD[kind](graph))
    graph.wait_count(f"refused_chunks.{reason}", before)
    assert graph.driver_messages == []


def test_a_bad_chunk_while_following_leaves_the_good_one_in_force(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.05, rows=20))
    graph.wait_source("policy")
    before = graph.count("refused_chunks.nan")
    graph.send(with_value(graph, float("nan")))
    graph.wait_count("refused_chunks.nan", before)
    wait_for(lambda: np.allclose(graph.q, graph.home + 0.05, atol=5e-3), 10.0, "the arm to arrive")
    graph.assert_limits()


def test_chunks_that_stop_end_in_a_hold(graph: ControlGraph) -> None:
    """Inference slower than the horizon looks the same: the chunk ends before the next one comes."""
    graph.start()
    graph.send(graph.joint_chunk(0.1, rows=5))
    graph.wait_source("policy")
    graph.wait_source("hold")
    resting = graph.settle()
    assert np.allclose(resting, graph.home + 0.1, atol=2e-2)
    count = len(graph.driver_messages)
    time.sleep(0.3)
    assert len(graph.driver_messages) > count, "a hold is held, not left alone"
    graph.wait_count("interventions.stale_chunk", 0)
    graph.assert_limits()


POLICY = """
import sys, time
import rclpy
import numpy as np
from trajectory_msgs.msg import JointTrajectory
from vla_ros.action.message import to_message
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import ActionChunk
rclpy.init()
node = rclpy.create_node("policy")
publisher = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
home = np.array(eval(sys.argv[1]))
begin = node.get_clock().now().nanoseconds
channels = tuple(f"arm/joint{i + 1}" for i in range(7))
while True:
    now = node.get_clock().now().nanoseconds
    due = now + np.arange(1, 11) * 50_000_000
    away = 0.15 * np.sin(2.0 * (due - begin) / 1e9)[:, None]
    publisher.publish(to_message(ActionChunk(channels, home + away, due, now)))
    time.sleep(0.1)
"""


def test_a_killed_policy_process_ends_in_a_hold_within_limits(
    graph: ControlGraph, start_process: Starter
) -> None:
    graph.start()
    policy = start_process(
        [sys.executable, "-c", POLICY, str(graph.home.tolist())],
        "policy",
        ROS_DOMAIN_ID=str(graph.domain),
        ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
    )
    graph.wait_source("policy", 30.0)
    time.sleep(1.0)
    assert np.ptp(graph.sent_joints()[:, 0]) > 0.05
    policy.kill()
    graph.wait_source("hold")
    graph.settle()
    graph.assert_limits()


def test_joint_states_that_stop_end_in_a_hold(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.2, rows=60))
    graph.wait_source("policy")
    graph.publishing = False
    graph.wait_source("hold")
    graph.settle()
    graph.wait_count("interventions.joint_states", 0)
    assert not graph.call("home").success
    graph.assert_limits()


def test_start_without_joint_states_is_refused_with_the_topic(graph: ControlGraph) -> None:
    graph.publishing = False
    time.sleep(PATIENT_MS / 1000 + 0.3)
    response = graph.call("start")
    assert not response.success
    assert graph.arm.states.topic in response.message


def test_joint_names_in_another_order_and_with_others_between_are_read_by_name(graph: ControlGraph) -> None:
    graph.names = ["gantry", *reversed(graph.arm.joints)]
    time.sleep(0.2)
    graph.start()
    graph.send(graph.joint_chunk(0.05))
    wait_for(lambda: np.allclose(graph.q, graph.home + 0.05, atol=5e-3), 10.0, "the arm to arrive")
    assert np.allclose(graph.sent_joints()[0], graph.home, atol=0.01)


def test_a_missing_joint_name_is_not_filled_in(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.1, rows=60))
    graph.wait_source("policy")
    before = graph.count("refused_joint_states.missing_joint")
    graph.names = graph.arm.joints[:-1]
    graph.wait_source("hold")
    graph.wait_count("refused_joint_states.missing_joint", before)
    graph.settle()
    graph.assert_limits()


@pytest.mark.parametrize("kind", ["latched", "volatile"])
def test_emergency_stop_is_latched_until_reset(graph: ControlGraph, kind: str) -> None:
    estop = graph.estop if kind == "latched" else graph.volatile_estop
    graph.start()
    graph.send(graph.joint_chunk(0.3, rows=30))
    graph.wait_source("policy")
    estop.publish(Bool(data=True))
    estop.publish(Bool(data=False))
    graph.wait_source("estop")
    resting = graph.settle()
    for service in ("start", "home"):
        response = graph.call(service)
        assert not response.success and "reset" in response.message
    graph.send(graph.joint_chunk())
    time.sleep(0.3)
    assert np.array_equal(graph.sent_joints()[-1], resting)
    assert graph.call("reset").success
    graph.start()
    graph.wait_source("hold")
    graph.assert_limits()


def test_home_is_reached_slowly(graph: ControlGraph) -> None:
    with graph.lock:
        graph.q = graph.target = graph.home + 0.2
    time.sleep(0.2)
    assert graph.call("home").success
    graph.wait_source("home")
    wait_for(lambda: np.allclose(graph.q, graph.home, atol=5e-3), 20.0, "the arm to arrive")
    graph.wait_source("hold")
    graph.assert_limits()


def test_stop_answers_when_the_arm_rests(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.3, rows=20))
    graph.wait_source("policy")
    time.sleep(0.4)
    assert graph.call("stop").success
    time.sleep(0.2)
    count = len(graph.commands)
    assert np.array_equal(graph.sent_joints()[-1], graph.sent_joints()[-5])
    time.sleep(0.3)
    assert len(graph.commands) == count, "after a stop the driver is left alone"
    graph.assert_limits()


def test_commands_say_what_was_wanted_and_why_something_else_was_sent(graph: ControlGraph) -> None:
    graph.start()
    ramp = graph.joint_chunk(0.24, rows=3).targets
    graph.send(graph.chunk(JOINTS, np.vstack([ramp, *[ramp[-1]] * 20])))
    graph.wait_source("policy")
    wait_for(lambda: np.allclose(graph.q, graph.home + 0.24, atol=5e-3), 10.0, "the arm to arrive")
    messages = list(graph.commands)
    names = list(messages[-1].name)
    assert names == [*JOINTS, *(f"{name}/wanted" for name in JOINTS)]
    rows = np.array([m.position for m in messages if len(m.position) == 16])
    sent, wanted = rows[:, :7], rows[:, 8:15]
    assert np.max(np.abs(sent - wanted)) > 0.05, "0.8 rad/s is too much at the start"
    assert np.allclose(sent[-1], wanted[-1], atol=1e-3)
    words = {word for text in graph.interventions for word in text.split(", ") if word}
    assert words and all(word.startswith("arm/") for word in words)
    wait_for(lambda: graph.interventions[-1] == "", 10.0, "the last intervention to end")
    for word in words:
        graph.wait_count(f"interventions.{word.removeprefix('arm/')}", 0)


def test_diagnostics_name_every_figure(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk())
    graph.wait_source("policy")
    wait_for(lambda: "chunk_age_ms.p50" in graph.diagnostics, 10.0, "figures")
    wanted = {"source", "scheduling", "overruns", "loop_stalled", "starved_ticks", "hold_reason"}
    wanted |= {"estop_reason", "actuation_latency_ms.arm", "policy_process"}
    figures = ["control_period_error_ms", "tick_ms", "chunk_age_ms", "horizon_left_ms", "chunk_intake_ms"]
    if os.environ.get("ROS_DISTRO") != "humble":  # whose rclpy does not tell when a message was sent
        figures.append("chunk_transport_ms")
    for name in figures:
        wanted |= {f"{name}.{key}" for key in ("p50", "p95", "p99", "max", "count")}
    assert wanted <= set(graph.diagnostics)
    assert graph.diagnostics["scheduling"] in ("SCHED_FIFO", "SCHED_OTHER")


def test_a_second_control_node_refuses_to_start(graph: ControlGraph) -> None:
    # By its name (or, where discovery is not that far yet, by its topic); under another name, by its topic.
    for remap, texts in (((), ("other node named", "publishes")), (("-r", "__node:=second"), ("publishes",))):
        second = graph.launch(*remap)
        second.wait_for_text("Stop it first", 60.0)
        assert any(text in second.output for text in texts)
        assert second.wait(30.0) == 1, second.output
    graph.start()
    assert graph.process.returncode is None


def test_a_rival_publisher_keeps_it_from_starting(graph: ControlGraph) -> None:
    rival = graph.node.create_publisher(JointTrajectory, graph.arm.drivers.joint_trajectory.topic, 1)
    try:

        def refused() -> bool:
            response = graph.call("start")
            graph.call("stop")
            return not response.success and "robot publishes" in response.message

        wait_for(refused, 10.0, "start to be refused")
    finally:
        graph.node.destroy_publisher(rival)

    wait_for(lambda: graph.call("start").success, 10.0, "start to be possible again")


def test_it_is_small(graph: ControlGraph) -> None:
    status = Path(f"/proc/{graph.process.pid}/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert resident / 1024 <= 150, f"{resident / 1024:.0f} MB"
    maps = Path(f"/proc/{graph.process.pid}/maps").read_text()
    for library in ("onnxruntime", "cv2", "mujoco", "torch"):
        assert library not in maps


def test_it_imports_nothing_heavy(start_process: Starter) -> None:
    child = start_process([sys.executable, "-c", MODULES])
    assert child.wait() == 0
    assert "HEAVY []" in child.output, child.output


def test_sigterm_while_moving_brakes_before_the_process_ends(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    graph = ControlGraph(start_process, ros_domain, robot_yaml(tmp_path), "-p", "mode:=newest")
    try:
        graph.start()
        graph.send(graph.joint_chunk(0.4, rows=10))
        graph.wait_source("policy")
        time.sleep(0.5)
        os.kill(graph.process.pid, signal.SIGTERM)
        assert graph.process.wait(10.0) == 0
        # What was published arrives, only later on a busy machine.
        wait_for(lambda: np.array_equal(*graph.sent_joints()[-2:]), 10.0, "the last commands to rest")
        assert np.max(np.abs(np.diff(graph.sent_joints(), axis=0))) > 1e-3, "it was moving"
        graph.assert_limits()
    finally:
        graph.close()


def test_another_driver_and_a_namespace_with_remaps(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    """The forward position controller, from a node in a namespace whose topics are remapped out of it."""
    file = robot_yaml(tmp_path, driver="joint_position")
    graph = ControlGraph(
        start_process,
        ros_domain,
        file,
        *("-r", "__ns:=/left"),
        *("-r", "/left/vla/action_chunk:=/vla/action_chunk"),
        *("-r", "/left/vla/command:=/vla/command"),
    )
    try:
        graph.start("left/control_node")
        graph.send(graph.joint_chunk(0.1))
        wait_for(lambda: np.allclose(graph.q, graph.home + 0.1, atol=5e-3), 10.0, "the arm to arrive")
        assert isinstance(graph.driver_messages[-1][1], Float64MultiArray)
        wait_for(lambda: "tick_ms.p50" in graph.diagnostics, 10.0, "diagnostics of left/control_node")
    finally:
        graph.close()


def test_cartesian_pose_driver_and_the_description_on_the_topic(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    """CRISP's target_pose; kinematics come from /robot_description, here with a longer tool."""
    file = robot_yaml(tmp_path, driver="cartesian_pose")
    xml = longer_tool(read_urdf(file, load_robot(file).arms["arm"]))
    graph = ControlGraph(start_process, ros_domain, file, launch=False)
    try:
        publisher = graph.node.create_publisher(String, "/robot_description", LATCHED)
        publisher.publish(String(data=xml))
        for _ in range(4):
            graph.process = graph.start_node()
            if "kinematics from /robot_description" in graph.process.output:
                break
            graph.process.end()
        assert "kinematics from /robot_description" in graph.process.output
        graph.start()
        graph.send(graph.joint_chunk(0.0))
        wait_for(lambda: graph.driver_messages, 10.0, "a command")
        message = graph.driver_messages[-1][1]
        assert isinstance(message, PoseStamped)
        assert message.header.frame_id == "base"
        p = message.pose.position
        ours = graph.kinematics.forward(graph.sent_joints()[-1])
        expected = ours[:3, 3] + 0.05 * ours[:3, 2]
        assert np.allclose([p.x, p.y, p.z], expected, atol=2e-3)
    finally:
        graph.close()


def test_a_description_without_the_joints_is_refused(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    file = robot_yaml(tmp_path)
    xml = read_urdf(file, load_robot(file).arms["arm"]).replace("fr3_joint4", "panda_joint4")
    graph = ControlGraph(start_process, ros_domain, file, launch=False)
    try:
        publisher = graph.node.create_publisher(String, "/robot_description", LATCHED)
        publisher.publish(String(data=xml))
        # A description that is not discovered within a second or two is done without.
        for _ in range(4):
            process = graph.launch()
            wait_for(
                lambda p=process: p.returncode is not None or "commanding" in p.output, 60.0, "an outcome"
            )
            process.end()
            if "/robot_description" in process.output:
                break
        assert "commanding" not in process.output
        assert process.returncode == 1
        assert "/robot_description" in process.output and "fr3_joint4" in process.output
    finally:
        graph.close()


def test_simulated_time_stamps_the_commands(start_process: Starter, ros_domain: int, tmp_path: Path) -> None:
    graph = ControlGraph(
        start_process, ros_domain, robot_yaml(tmp_path), "-p", "use_sim_time:=true", sim_time=True
    )
    try:
        graph.start()
        graph.send(graph.joint_chunk(0.05, rows=20))
        graph.wait_source("policy", 20.0)
        stamp = graph.commands[-1].header.stamp
        # The test's clock began at 1000 s.
        assert 1000 <= stamp.sec < 1200
        wait_for(lambda: np.allclose(graph.q, graph.home + 0.05, atol=5e-3), 15.0, "the arm to arrive")
    finally:
        graph.close()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("-p", "mode:=best"), "parameter mode: found 'best'; expected one of sync, newest"),
        (("-p", "robot:=nosuchrobot"), "nosuchrobot"),
    ],
)
def test_a_wrong_parameter_ends_the_process_with_its_reason(
    start_process: Starter, ros_domain: int, arguments: tuple[str, ...], text: str
) -> None:
    process = start_process.node("control_node", *arguments)
    assert process.wait(60.0) == 1
    assert text in process.output


def longer_tool(xml: str) -> str:
    """The URDF with its tool frame 5 cm further out."""
    root = ElementTree.fromstring(xml)
    for joint in root.iter("joint"):
        child, origin = joint.find("child"), joint.find("origin")
        if child is not None and child.get("link") == "fr3_hand_tcp":
            assert origin is not None
            x, y, z = map(float, origin.get("xyz", "0 0 0").split())
            origin.set("xyz", f"{x} {y} {z + 0.05}")
            return ElementTree.tostring(root, encoding="unicode")
    raise AssertionError("no tool joint")
