"""The twin as a process of its own, seen from the graph as a client of the real robot would see it."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import rclpy
from control_msgs.action import GripperCommand
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from tests.support import Started, Starter, ask, claimed_domain, wait_for
from vla_ros.nodes import transport
from vla_ros.observation.decode import decode_compressed_image, decode_joint_state
from vla_ros.resources import robot_config
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.sim.task import draw_scene

pytestmark = pytest.mark.graph

FILE = robot_config("franka")
ROBOT = load_robot(FILE)
ARM = ROBOT.arms["arm"]
assert ARM.gripper is not None
GRIPPER = ARM.gripper
BEST_EFFORT = QoSProfile(depth=2000, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=100)
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Client:
    """A node in this process that talks to a running sim_node."""

    def __init__(self, domain: int) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("client", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.latest: dict[str, Any] = {}
        self.states = transport.polled_subscription(self.node, JointState, ARM.states.topic, BEST_EFFORT)
        self.node.create_subscription(
            JointState, GRIPPER.states.topic, lambda message: self.latest.update(gripper=message), RELIABLE
        )
        self.node.create_subscription(
            String, "sim_node/task", lambda message: self.latest.update(task=message.data), LATCHED
        )
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._figures, RELIABLE)
        self.action = ActionClient(self.node, GripperCommand, GRIPPER.action.action)

    def _figures(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == "sim_node":
                self.latest["figures"] = {pair.key: pair.value for pair in status.values}

    def spin(self) -> None:
        self.executor.spin_once(timeout_sec=0.02)

    def wait(self, condition: Any, what: str, timeout_s: float = 30.0) -> Any:
        return wait_for(condition, timeout_s, what, step=self.spin)

    def call(self, kind: type, name: str, request: Any) -> Any:
        service = self.node.create_client(kind, name)
        try:
            return ask(service, request, 30.0, step=self.spin)
        finally:
            self.node.destroy_client(service)

    def positions(self) -> np.ndarray:
        """The newest measured joints (waits for one that is newer than this call)."""
        transport.take_all(self.states)
        return np.array(decode_joint_state(self.wait(self._state, "joint states")).positions)

    def _state(self) -> bytes | None:
        return transport.take_latest(self.states)

    def near(self, joints: np.ndarray, what: str, within: float = 0.01) -> None:
        self.wait(lambda: np.abs(self.positions() - joints).max() < within, what)

    def publisher(self, kind: type, topic: str) -> Any:
        publisher = self.node.create_publisher(kind, topic, 10)
        self.wait(lambda: publisher.get_subscription_count() > 0, f"a subscriber of {topic}")
        return publisher

    def reset(self, seed: int) -> Trigger.Response:
        value = ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=seed)
        request = SetParameters.Request(parameters=[Parameter(name="seed", value=value)])
        answer = self.call(SetParameters, "sim_node/set_parameters", request)
        assert answer.results[0].successful, answer
        return self.call(Trigger, "sim_node/reset", Trigger.Request())

    def rejected(self, key: str) -> int:
        return int(self.latest.get("figures", {}).get(f"rejected.{key}", 0))

    def goal(self, position: float, effort: float = 30.0) -> Any:
        self.wait(self.action.server_is_ready, "the gripper's action server")
        goal = GripperCommand.Goal()
        goal.command.position, goal.command.max_effort = position, effort
        future = self.action.send_goal_async(goal)
        self.wait(future.done, "the goal to be accepted")
        assert future.result().accepted
        return future.result()

    def result(self, handle: Any) -> Any:
        future = handle.get_result_async()
        self.wait(future.done, "the gripper's result")
        return future.result()

    def close(self) -> None:
        self.executor.shutdown()
        self.action.destroy()
        self.node.destroy_node()
        self.context.try_shutdown()


def _environment(patch: pytest.MonkeyPatch, domain: int) -> None:
    patch.setenv("ROS_DOMAIN_ID", str(domain))
    patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if os.environ.get("ROS_DISTRO") == "humble":
        patch.setenv("ROS_LOCALHOST_ONLY", "1")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Client, Started]]:
    """One twin for most tests: starting it takes seconds."""
    starter = Starter()
    with claimed_domain() as domain, pytest.MonkeyPatch.context() as patch:
        _environment(patch, domain)
        twin = starter.node("sim_node", "-p", "robot:=franka", "-p", "seed:=11")
        client = Client(domain)
        try:
            twin.wait_for_text("seed 11:", 90)
            client.positions()
            yield client, twin
        finally:
            client.close()
            starter.end()


@pytest.fixture
def client(running: tuple[Client, Started]) -> Client:
    running[0].reset(11)
    return running[0]


def test_arm_states_are_the_drivers(client: Client) -> None:
    gathered: list[Any] = []

    def enough() -> bool:
        gathered.extend(decode_joint_state(data) for data in transport.take_all(client.states))
        return len(gathered) >= 1000

    client.wait(enough, "1000 joint states")
    assert gathered[0].names == tuple(ARM.joints)
    gaps = np.diff([state.stamp_ns for state in gathered]) / 1e6
    assert np.all(gaps > 0)
    assert np.median(gaps) == pytest.approx(1.0, abs=0.01), "1 kHz"
    np.testing.assert_allclose(gathered[-1].positions, draw_scene(11).start_joints, atol=5e-3)


def test_a_reliable_subscriber_gets_no_arm_states(client: Client) -> None:
    """As with the real driver, which publishes them best effort."""
    reliable: list[Any] = []
    best_effort: list[Any] = []
    first = client.node.create_subscription(JointState, ARM.states.topic, reliable.append, RELIABLE)
    second = client.node.create_subscription(JointState, ARM.states.topic, best_effort.append, BEST_EFFORT)
    client.wait(lambda: len(best_effort) > 20, "best-effort joint states")
    client.node.destroy_subscription(first)
    client.node.destroy_subscription(second)
    assert reliable == []


def test_fingers_have_half_the_width_each_at_15_hz(client: Client) -> None:
    gathered: list[JointState] = []
    subscription = client.node.create_subscription(
        JointState, GRIPPER.states.topic, gathered.append, RELIABLE
    )
    client.wait(lambda: len(gathered) >= 20, "20 gripper states")
    client.node.destroy_subscription(subscription)
    assert gathered[-1].name == GRIPPER.joints
    assert list(gathered[-1].position) == pytest.approx([0.04, 0.04], abs=0.002)
    stamps = [message.header.stamp.sec + message.header.stamp.nanosec * 1e-9 for message in gathered]
    assert np.median(np.diff(stamps)) == pytest.approx(1 / 15, abs=0.003)


def test_images_and_camera_info(client: Client) -> None:
    for name, camera in ROBOT.cameras.items():
        images: list[Image] = []
        infos: list[CameraInfo] = []
        subscriptions = [
            client.node.create_subscription(Image, camera.topic, images.append, RELIABLE),
            client.node.create_subscription(CameraInfo, camera.camera_info, infos.append, RELIABLE),
        ]
        client.wait(lambda: len(images) >= 8 and len(infos) >= 8, f"images of {name}")  # noqa: B023
        for subscription in subscriptions:
            client.node.destroy_subscription(subscription)
        for image in images:
            assert (image.width, image.height, image.encoding, image.step) == (640, 480, "rgb8", 1920)
            pixels = np.frombuffer(image.data, np.uint8).reshape(480, 640, 3)
            assert pixels.std() > 10, "an empty picture"
        stamps = [_stamp_ns(image) for image in images]
        assert np.all(np.diff(stamps) > 0)
        assert np.diff(stamps).min() >= 30e6, "faster than 30 Hz"
        assert set(stamps) & {_stamp_ns(info) for info in infos}, "camera_info has other stamps"
        info = infos[0]
        assert (info.width, info.height) == (640, 480)
        assert info.k[0] == info.k[4] > 300 and info.k[2] == pytest.approx(319.5)
        assert abs(_stamp_ns(images[-1]) - client.node.get_clock().now().nanoseconds) < 5e9


def test_compressed_camera(start_process: Starter, ros_domain: int, tmp_path: Path) -> None:
    text = Path(FILE).read_text().replace("    width: 640", "    transport: compressed\n    width: 640", 1)
    file = _yaml_beside_urdf(tmp_path, text)
    start_process.node("sim_node", "-p", f"robot:={file}")
    client = Client(ros_domain)
    try:
        pictures: list[bytes] = []
        client.node.create_subscription(
            CompressedImage, ROBOT.cameras["front"].topic, pictures.append, RELIABLE, raw=True
        )
        client.wait(lambda: len(pictures) >= 2, "compressed images", 90)
        frame = decode_compressed_image(pictures[-1])
        assert "jpeg" in frame.encoding
        pixels = cv2.imdecode(frame.data, cv2.IMREAD_COLOR)
        assert pixels.shape == (480, 640, 3) and pixels.std() > 10
    finally:
        client.close()


def _yaml_beside_urdf(folder: Path, text: str) -> Path:
    """A robot YAML elsewhere that still finds the URDF."""
    file = folder / "other.yaml"
    file.write_text(text.replace("urdf/fr3.urdf", str(Path(FILE).parent / "urdf" / "fr3.urdf")))
    return file


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


def test_wrist_image_shows_the_arm_moving(client: Client) -> None:
    camera = ROBOT.cameras["wrist"]
    images: list[Image] = []
    subscription = client.node.create_subscription(Image, camera.topic, images.append, RELIABLE)
    client.wait(lambda: len(images) >= 2, "images")
    before = np.frombuffer(images[-1].data, np.uint8).astype(int)
    target = np.array(draw_scene(11).start_joints)
    target[0] += 0.4
    client.publisher(Float64MultiArray, _topic("joint_position")).publish(
        Float64MultiArray(data=target.tolist())
    )
    client.near(target, "joint 1 to turn")
    client.wait(
        lambda: np.abs(np.frombuffer(images[-1].data, np.uint8).astype(int) - before).mean() > 3,
        "another picture after the move",
    )
    client.node.destroy_subscription(subscription)


def _topic(driver: str) -> str:
    return str(getattr(ARM.drivers, driver).topic)


def test_obeys_joint_position(client: Client) -> None:
    target = np.array(draw_scene(11).start_joints) + np.array([0.2, 0.1, -0.1, 0.1, 0.1, 0.1, -0.2])
    publisher = client.publisher(Float64MultiArray, _topic("joint_position"))
    publisher.publish(Float64MultiArray(data=target.tolist()))
    client.near(target, "the arm at the commanded joints")


def test_obeys_joint_trajectory_by_name_and_time(client: Client) -> None:
    start = np.array(draw_scene(11).start_joints)
    target = start + 0.15
    message = JointTrajectory(joint_names=list(reversed(ARM.joints)))
    for share, seconds in ((0.5, 1), (1.0, 2)):
        point = JointTrajectoryPoint(positions=(start + share * (target - start))[::-1].tolist())
        point.time_from_start.sec = seconds
        message.points.append(point)
    publisher = client.publisher(JointTrajectory, _topic("joint_trajectory"))
    publisher.publish(message)
    client.wait(lambda: (client.positions() - start).min() > 0.02, "the arm to set off")
    assert (client.positions() - start).max() < 0.13, "it jumped instead of taking its time"
    client.near(target, "the trajectory's end")


def test_obeys_cartesian_pose(client: Client) -> None:
    kinematics = Kinematics(read_urdf(FILE, ARM), ARM.joints, ARM.base_frame, ARM.tool_frame)
    from scipy.spatial.transform import Rotation

    pose = kinematics.forward(np.array(draw_scene(11).start_joints))
    pose[:3, 3] += [0.03, 0.04, -0.08]
    assert ARM.drivers.cartesian_pose is not None
    message = PoseStamped()
    message.header.frame_id = ARM.drivers.cartesian_pose.frame
    place, turn = message.pose.position, message.pose.orientation
    place.x, place.y, place.z = pose[:3, 3].tolist()
    turn.x, turn.y, turn.z, turn.w = Rotation.from_matrix(pose[:3, :3]).as_quat().tolist()
    client.publisher(PoseStamped, _topic("cartesian_pose")).publish(message)
    client.wait(
        lambda: np.abs(kinematics.forward(client.positions()) - pose).max() < 5e-3, "the tool at the pose"
    )


def test_rejects_and_counts_what_a_controller_would_not_take(client: Client) -> None:
    start = np.array(draw_scene(11).start_joints)
    bad = start + 0.3
    before = {
        key: client.rejected(key)
        for key in (
            "joint_position.nan",
            "joint_position.shape",
            "joint_trajectory.joint_names",
            "cartesian_pose.frame",
        )
    }
    positions = client.publisher(Float64MultiArray, _topic("joint_position"))
    trajectories = client.publisher(JointTrajectory, _topic("joint_trajectory"))
    poses = client.publisher(PoseStamped, _topic("cartesian_pose"))

    positions.publish(Float64MultiArray(data=[*bad[:6], float("nan")]))
    client.wait(lambda: client.rejected("joint_position.nan") > before["joint_position.nan"], "nan counted")
    positions.publish(Float64MultiArray(data=bad[:6].tolist()))
    client.wait(
        lambda: client.rejected("joint_position.shape") > before["joint_position.shape"], "shape counted"
    )
    point = JointTrajectoryPoint(positions=bad.tolist())
    trajectories.publish(JointTrajectory(joint_names=[*ARM.joints[:6], "elbow"], points=[point]))
    key = "joint_trajectory.joint_names"
    client.wait(lambda: client.rejected(key) > before[key], "names counted")
    positions.publish(b"\x00\x01\x00\x00\x07")
    client.wait(lambda: client.rejected("joint_position.undecodable") > 0, "rubbish counted")
    stray = PoseStamped()
    stray.header.frame_id = "camera"
    poses.publish(stray)
    client.wait(lambda: client.rejected("cartesian_pose.frame") > before["cartesian_pose.frame"], "frame")
    np.testing.assert_allclose(client.positions(), start, atol=5e-3)


def test_gripper_action_moves_the_fingers(client: Client) -> None:
    result = client.result(client.goal(0.0))
    assert result.status == 4, "succeeded"
    assert result.result.reached_goal and not result.result.stalled
    assert result.result.position < 0.002
    client.wait(lambda: max(client.latest["gripper"].position) < 0.002, "closed fingers")
    result = client.result(client.goal(0.04))
    assert result.result.reached_goal and result.result.position == pytest.approx(0.04, abs=0.002)
    client.wait(lambda: min(client.latest["gripper"].position) > 0.038, "open fingers")


def test_gripper_goals_that_end_early(client: Client) -> None:
    assert client.result(client.goal(0.2)).status == 6, "wider than the gripper: aborted"
    first = client.goal(0.0)
    second = client.goal(0.04)
    assert client.result(first).status == 6, "taken over: aborted"
    assert client.result(second).status == 4
    cancelled = client.goal(0.0)
    future = cancelled.cancel_goal_async()
    client.wait(future.done, "the cancellation")
    assert client.result(cancelled).status == 5, "cancelled"
    running = client.goal(0.0)
    client.reset(11)
    assert client.result(running).status in (4, 6), "a reset ends a goal"
    client.wait(lambda: min(client.latest["gripper"].position) > 0.038, "open fingers after a reset")


def test_reset_takes_the_seed(client: Client) -> None:
    for seed in (1_000_003, 1_000_004):
        answer = client.reset(seed)
        scene = draw_scene(seed)
        assert answer.success and scene.instruction in answer.message
        client.near(np.array(scene.start_joints), "the scene's start joints", 5e-3)
        client.wait(lambda: client.latest.get("task") == "running", "the task to run")


def test_description_and_figures(client: Client) -> None:
    texts: list[str] = []
    client.node.create_subscription(
        String, str(ARM.robot_description), lambda message: texts.append(message.data), LATCHED
    )
    client.wait(lambda: texts, "robot_description")
    assert texts[0] == read_urdf(FILE, ARM)
    figures = client.wait(
        lambda: client.latest.get("figures", {}).get("frames.front.rate_hz") and client.latest["figures"],
        "figures",
    )
    for camera in ROBOT.cameras:
        assert int(figures[f"frames.{camera}.sent"]) > 0
        assert 0 < float(figures[f"frames.{camera}.rate_hz"]) < 35
    assert 0.2 < float(figures["real_time_factor"]) < 2.0


def test_lifecycle_can_be_managed_and_repeated(start_process: Starter, ros_domain: int) -> None:
    start_process.node("sim_node", "-p", "robot:=franka", "-p", "autostart:=false")
    client = Client(ros_domain)

    def change(transition: int, state: str) -> None:
        # Asked twice where it takes long, it is refused the second time.
        request = ChangeState.Request(transition=Transition(id=transition))
        client.call(ChangeState, "sim_node/change_state", request)
        assert client.call(GetState, "sim_node/get_state", GetState.Request()).current_state.label == state

    try:
        for _ in range(2):
            change(Transition.TRANSITION_CONFIGURE, "inactive")
            refusal = client.call(Trigger, "sim_node/reset", Trigger.Request())
            assert not refusal.success and "not active" in refusal.message
            change(Transition.TRANSITION_ACTIVATE, "active")
            start = np.array(draw_scene(0).start_joints)
            client.near(start, "the arm at rest", 5e-3)
            assert client.result(client.goal(0.0)).result.reached_goal
            assert client.node.count_publishers(ARM.states.topic) == 1
            assert client.node.count_subscribers(_topic("joint_position")) == 1
            change(Transition.TRANSITION_DEACTIVATE, "inactive")
            change(Transition.TRANSITION_CLEANUP, "unconfigured")
            client.wait(lambda: client.node.count_publishers(ARM.states.topic) == 0, "no publishers left")
    finally:
        client.close()


def test_ctrl_c_ends_twin_and_cameras(start_process: Starter, ros_domain: int) -> None:
    twin = start_process.node("sim_node", "-p", "robot:=franka")
    twin.wait_for_text("seed 0:", 90)
    cameras = _camera_process(twin.pid)
    # The kernel may deliver a signal to any thread, and Python handles it on the main one only.
    thread = max(int(path.name) for path in Path(f"/proc/{twin.pid}/task").iterdir())
    assert ctypes.CDLL(None).tgkill(twin.pid, thread, signal.SIGINT) == 0
    assert twin.wait(20) == 0
    wait_for(lambda: not Path(f"/proc/{cameras}").exists(), 10, "the camera process to end")


def test_cameras_that_die_end_the_twin(start_process: Starter, ros_domain: int) -> None:
    twin = start_process.node("sim_node", "-p", "robot:=franka")
    twin.wait_for_text("seed 0:", 90)
    os.kill(_camera_process(twin.pid), signal.SIGKILL)
    assert twin.wait(20) == 1
    assert "the camera process ended" in twin.output


def _camera_process(pid: int) -> int:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            if b"camera_driver" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
    raise AssertionError("no camera process")


def test_without_opengl_the_packages_to_install_are_named(
    start_process: Starter, ros_domain: int, tmp_path: Path
) -> None:
    twin = start_process.node(
        "sim_node", "-p", "robot:=franka", MUJOCO_GL="egl", __EGL_VENDOR_LIBRARY_DIRS=str(tmp_path)
    )
    assert twin.wait(90) == 1
    assert "sudo apt-get install libegl1 libgl1-mesa-dri" in twin.output
    assert "Traceback" not in twin.output


def test_a_robot_it_is_no_twin_of(start_process: Starter, ros_domain: int, tmp_path: Path) -> None:
    other = _yaml_beside_urdf(tmp_path, Path(FILE).read_text().replace("width: 640", "width: 1280", 1))
    twin = start_process.node("sim_node", "-p", f"robot:={other}")
    assert twin.wait(90) == 1
    assert "the twin renders 640x480" in twin.output
    assert "Traceback" not in twin.output


@pytest.mark.parametrize("asked_by", ["publish_clock", "use_sim_time"])
def test_clock(start_process: Starter, ros_domain: int, asked_by: str) -> None:
    start_process.node("sim_node", "-p", "robot:=franka", "-p", f"{asked_by}:=true")
    client = Client(ros_domain)
    try:
        clocks: list[Clock] = []
        client.node.create_subscription(Clock, "/clock", clocks.append, RELIABLE)
        client.wait(lambda: len(clocks) > 100, "/clock", 90)
        times = [message.clock.sec * 10**9 + message.clock.nanosec for message in clocks]
        assert np.all(np.diff(times) > 0)
        assert np.median(np.diff(times)) == 4_000_000
        state = decode_joint_state(client.wait(client._state, "joint states"))
        assert abs(state.stamp_ns - times[-1]) < 2_000_000_000
    finally:
        client.close()
