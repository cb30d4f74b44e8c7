"""A real control_node process and, in this process, the robot around it: joint states on the driver's topic,
a first-order arm that follows what comes on the driver's topic, a gripper action server, and a recorder."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from control_msgs.action import GripperCommand
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import PoseStamped
from rclpy.action import ActionServer
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, Float64MultiArray, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from tests.support import Started, Starter, ask, claimed_domain, wait_for
from vla_ros.action.message import to_message
from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.nodes.realtime import real_time_thread
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import ActionChunk

FRANKA = Path(__file__).parents[2] / "robot_configs" / "franka.yaml"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MS = 1_000_000
TOOL = (*tool_channels("arm"), gripper_channel("arm"))
JOINTS = (*joint_channels("arm", 7), gripper_channel("arm"))


# A busy test machine holds this process up for longer than a robot's driver is ever held up.
PATIENT_MS = 1500.0


def robot_yaml(folder: Path, **arm_changes: Any) -> Path:
    """franka.yaml with keys of its arm changed and a patient watchdog, beside a link to the URDFs."""
    content = yaml.safe_load(FRANKA.read_text())
    content["arms"]["arm"].update(arm_changes)
    content["safety"]["joint_states_timeout_ms"] = PATIENT_MS
    (folder / "urdf").symlink_to(FRANKA.parent / "urdf")
    file = folder / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


class ControlGraph:
    """See the module. `names` are the joint names published, in that order."""

    def __init__(
        self,
        starter: Starter,
        domain: int,
        robot: Path,
        *ros_args: str,
        launch: bool = True,
        sim_time: bool = False,
    ) -> None:
        self.starter = starter
        self.file = robot
        self.domain = domain
        self.robot = load_robot(robot)
        self.arm = self.robot.arms["arm"]
        xml = read_urdf(robot, self.arm)
        self.kinematics = Kinematics(xml, self.arm.joints, self.arm.base_frame, self.arm.tool_frame)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("robot", context=self.context)
        self.home = np.array(self.arm.home)
        self.process: Started
        self._begin = time.monotonic_ns()
        self._clock = self.node.create_publisher(Clock, "/clock", 10) if sim_time else None
        self.lock = threading.Lock()
        self.names: Sequence[str] = list(self.arm.joints)
        self.publishing = True
        self.obeys = True
        self.q = self.home.copy()
        self.target = self.home.copy()
        # A trajectory's due times, ns, and joints [P, 7].
        self.way: tuple[np.ndarray, np.ndarray] | None = None
        self.driver_messages: list[tuple[float, Any]] = []
        self.commands: list[JointState] = []
        self.sources: list[str] = []
        self.interventions: list[str] = []
        self.goals: list[float] = []
        self.diagnostics: dict[str, str] = {}
        self.state = ""
        self._wire()
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._alive = True
        self._threads = [
            threading.Thread(target=self._spin, daemon=True),
            threading.Thread(target=self._plant, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        if launch:
            self.process = self.start_node(*ros_args)

    def _wire(self) -> None:
        node, arm = self.node, self.arm
        best_effort = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._states = node.create_publisher(JointState, arm.states.topic, best_effort)
        self.chunks = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        self.estop = node.create_publisher(Bool, "vla/estop", LATCHED)
        self.estop_client = node.create_client(Trigger, "control_node/estop")
        self.volatile_estop = node.create_publisher(Bool, "vla/estop", best_effort)
        drivers = arm.drivers
        self._drivers: list[tuple[Any, str]] = []
        for message_type, driver in (
            (JointTrajectory, drivers.joint_trajectory),
            (Float64MultiArray, drivers.joint_position),
            (PoseStamped, drivers.cartesian_pose),
        ):
            assert driver is not None
            self._drivers.append((message_type, driver.topic))
        node.create_subscription(JointState, "vla/command", self.commands.append, 100)
        node.create_subscription(String, "vla/control_source", lambda m: self.sources.append(m.data), LATCHED)
        node.create_subscription(
            String, "vla/intervention", lambda m: self.interventions.append(m.data), LATCHED
        )
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self.connect_driver()
        assert arm.gripper is not None and arm.gripper.action is not None
        self._server = ActionServer(node, GripperCommand, arm.gripper.action.action, self._on_goal)

    def connect_driver(self) -> None:
        """Take commands, as a driver that has just started."""
        self._subscriptions = [
            self.node.create_subscription(kind, topic, self._on_driver, 100) for kind, topic in self._drivers
        ]

    def disconnect_driver(self) -> None:
        """Take no commands any more; joint states go on."""
        for subscription in self._subscriptions:
            self.node.destroy_subscription(subscription)

    def start_node(self, *ros_args: str) -> Started:
        """Start a control_node process and wait until it commands."""
        process = self.launch(*ros_args)
        process.wait_for_text("commanding at", 60.0)
        return process

    def launch(self, *ros_args: str) -> Started:
        """Start a control_node process."""
        return self.starter.node(
            "control_node",
            "-p",
            f"robot:={self.file}",
            *ros_args,
            ROS_DOMAIN_ID=str(self.domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        )

    def close(self) -> None:
        self._alive = False
        for thread in self._threads[1:]:
            thread.join(2.0)
        self._executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def _spin(self) -> None:
        real_time_thread()
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _plant(self) -> None:
        real_time_thread()
        while self._alive:
            now = self.now_ns()
            with self.lock:
                if self.way is not None:
                    times, rows = self.way
                    # Relative, or float64 would round the nanoseconds since 1970.
                    self.target = np.array([np.interp(now - times[0], times - times[0], q) for q in rows.T])
                self.q = self.q + 0.15 * (self.target - self.q)
                q = dict(zip(self.arm.joints, self.q.tolist(), strict=True))
            if self.publishing:
                message = JointState(name=list(self.names), position=[q.get(n, 0.5) for n in self.names])
                message.header.stamp.sec, message.header.stamp.nanosec = divmod(now, 10**9)
                if self._clock is not None:
                    self._clock.publish(Clock(clock=message.header.stamp))
                self._states.publish(message)
            time.sleep(0.005)

    def _on_driver(self, message: Any) -> None:
        self.driver_messages.append((time.monotonic(), message))
        if not self.obeys:
            return
        if isinstance(message, JointTrajectory):
            order = [message.joint_names.index(name) for name in self.arm.joints]
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            times = [
                stamp + p.time_from_start.sec * 10**9 + p.time_from_start.nanosec for p in message.points
            ]
            with self.lock:
                self.way = (np.array(times), np.array([p.positions for p in message.points])[:, order])
        elif isinstance(message, Float64MultiArray):
            with self.lock:
                self.target = np.array(message.data)

    def _on_goal(self, handle: Any) -> GripperCommand.Result:
        self.goals.append(handle.request.command.position)
        handle.succeed()
        return GripperCommand.Result(position=handle.request.command.position, reached_goal=True)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("control_node"):
                self.diagnostics = {pair.key: pair.value for pair in status.values}
                self.state = status.message

    # What tests do ---------------------------------------------------------------------------------------

    def call(self, service: str, name: str = "control_node") -> Trigger.Response:
        client = self.node.create_client(Trigger, f"{name}/{service}")
        return ask(client, Trigger.Request())

    def fresh(self) -> None:
        """Back to where a new control_node would be, with the arm at home."""
        self.publishing = True
        self.names = list(self.arm.joints)
        assert self.call("stop").success
        assert self.call("reset").success
        with self.lock:
            self.way = None
            self.q = self.home.copy()
            self.target = self.home.copy()
        time.sleep(0.3)
        self.driver_messages.clear()
        self.commands.clear()
        self.interventions.clear()
        self.goals.clear()

    def start(self, node: str = "control_node") -> None:
        """Call ~/start of `node` until the joint states are there."""

        def started() -> bool:
            response = self.call("start", node)
            # Joint states are discovered a moment after the services.
            assert response.success or "joint states" in response.message, response.message
            return bool(response.success)

        wait_for(started, 15.0, "start to succeed")
        # A chunk has to be younger than the start.
        time.sleep(0.05)

    def now_ns(self) -> int:
        """The time of the graph: simulated time begins at 1000 s and runs at half speed."""
        if self._clock is not None:
            return 1000 * 10**9 + (time.monotonic_ns() - self._begin) // 2
        return self.node.get_clock().now().nanoseconds

    def joint_chunk(
        self, away: Sequence[float] | float = 0.0, rows: int = 10, width: float = 0.08
    ) -> ActionChunk:
        """From home to `away` rad from it, 100 ms a row."""
        share = np.linspace(0, 1, rows + 1)[1:, None]
        targets = np.column_stack([self.home + share * away, np.full(rows, width)])
        return self.chunk(JOINTS, targets)

    def tool_chunk(self, shift: Sequence[float], rows: int = 10, width: float = 0.08) -> ActionChunk:
        """From the measured tool pose to `shift` m from it."""
        pose = self.kinematics.forward(self.q)
        row = np.concatenate([pose[:3, 3], matrix_to_quaternion(pose[:3, :3]), [width]])
        targets = np.tile(row, (rows, 1))
        targets[:, :3] += np.linspace(0, 1, rows + 1)[1:, None] * np.asarray(shift)
        return self.chunk(TOOL, targets)

    def chunk(
        self, channels: tuple[str, ...], targets: np.ndarray, stamp_ns: int | None = None
    ) -> ActionChunk:
        stamp = self.now_ns() if stamp_ns is None else stamp_ns
        due = stamp + np.arange(1, len(targets) + 1) * 100 * MS
        return ActionChunk(channels, targets, due.astype(np.int64), stamp)

    def send(self, chunk: ActionChunk | JointTrajectory) -> None:
        self.chunks.publish(to_message(chunk) if isinstance(chunk, ActionChunk) else chunk)

    def wait_source(self, source: str, timeout_s: float = 10.0) -> None:
        wait_for(lambda: self.sources and self.sources[-1] == source, timeout_s, f"source {source}")

    def count(self, key: str) -> int:
        return int(self.diagnostics.get(key, 0))

    def wait_count(self, key: str, above: int) -> None:
        wait_for(lambda: self.count(key) > above, 10.0, f"{key} > {above}: {self.diagnostics}")

    def sent_joints(self) -> np.ndarray:
        """[N, 7] of vla/command."""
        messages = list(self.commands)
        assert all(list(m.name[:7]) == list(JOINTS[:7]) for m in messages)
        return np.array([m.position[:7] for m in messages])

    def command_stamps(self) -> np.ndarray:
        """int64 [N], ns, of vla/command."""
        return np.array([m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in list(self.commands)])

    def settle(self) -> np.ndarray:
        """Wait until commands no longer move; returns the resting joints."""

        def resting() -> bool:
            rows = self.sent_joints()[-20:]
            return len(rows) == 20 and bool(np.all(rows == rows[-1]))

        wait_for(resting, 10.0, "commands to rest")
        return self.sent_joints()[-1]

    def assert_limits(self) -> None:
        """What was sent breaks no joint limit."""
        stamps = self.command_stamps()
        q = self.sent_joints()[: len(stamps)]
        limits = self.arm.limits
        low, high = np.array(limits.position).T
        assert np.all((low <= q) & (q <= high))
        # Stamps are whole periods apart; a machine that held the node up leaves some out.
        dt = np.diff(stamps)[:, None] / 1e9
        v = np.diff(q, axis=0) / dt
        # Streams that were interrupted (a stop, a start) are judged one by one.
        same = dt[:, 0] < 0.5
        assert np.all(np.abs(v)[same] <= np.array(limits.velocity) + 1e-6)
        next_to = np.abs(dt[:, 0] - 0.01) < 1e-6
        a = np.diff(v, axis=0)[next_to[1:] & next_to[:-1]] / 0.01
        assert np.all(np.abs(a) <= np.array(limits.acceleration) + 1e-4)


@contextlib.contextmanager
def standing_graph(folder: Path) -> Iterator[ControlGraph]:
    """One graph on a domain of its own, for a module's tests; its robot's YAML is written to `folder`."""
    starter = Starter()
    with claimed_domain() as domain:
        graph = ControlGraph(starter, domain, robot_yaml(folder))
        try:
            yield graph
        finally:
            starter.end()
            graph.close()
