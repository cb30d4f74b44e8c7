"""A real control_node process and, in this process, vendors' driver nodes with their own message types and
their own traps: what they do with a command is what their sources do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import yaml
from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand
from interbotix_xs_msgs.srv import OperatingModes, RegisterValues, TorqueEnable
from piper_msgs.msg import PosCmd
from piper_msgs.srv import Enable
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from tests.support import Started, Starter, ask, claimed_domain, wait_for
from vla_ros.action.message import to_message
from vla_ros.nodes.qos import LATCHED
from vla_ros.robot.channels import gripper_channel, joint_channels
from vla_ros.robot.config import Arm
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk

CONFIGS = Path(__file__).parents[2] / "robot_configs"
MS = 1_000_000
# The SDK's clock, in s when it was started.
SDK_BEGAN = 4_000


class VendorArm:
    """One arm and its gripper, where commands took them at once. reading: of the gripper, in the driver's
    unit. heard: messages of its command topics with when they came; asked: requests of its services."""

    def __init__(self, node: Any, arm: Arm) -> None:
        self.q = np.array(arm.home)
        self.alive = True
        self.has_gripper = True
        self.heard: list[tuple[float, Any]] = []
        self.asked: list[Any] = []
        self.refuses = False
        self._node = node
        self._arm = arm
        self._listening: list[tuple[type, str, Any]] = []
        self._subscriptions: list[Any] = []
        assert arm.gripper is not None
        self._gripper = arm.gripper
        self.reading = 0.5 * sum(arm.gripper.reads or arm.gripper.width)
        self._states = node.create_publisher(JointState, arm.states.topic, 10)

    def of(self, kind: type) -> list[Any]:
        """The messages of a type that it heard."""
        return [message for _, message in list(self.heard) if isinstance(message, kind)]

    def publish(self, now_ns: int) -> None:
        """Joint states, as the driver lists them."""
        names, positions = [*self._arm.joints], self.q.tolist()
        if self.has_gripper:
            for name, position in self._fingers():
                names.append(name)
                positions.append(position)
        # Piper_ros has a velocity for each joint of the arm and none for the gripper.
        message = JointState(name=names, position=positions, velocity=[0.0] * len(self.q))
        stamp = self._stamp(now_ns)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 10**9)
        self._states.publish(message)

    def _fingers(self) -> list[tuple[str, float]]:
        return [(self._gripper.joints[0], self.reading)]

    def _stamp(self, now_ns: int) -> int:
        return now_ns

    def _listen(self, kind: type, topic: str, obey: Any) -> None:
        def hear(message: Any) -> None:
            self.heard.append((time.monotonic(), message))
            obey(message)

        self._listening.append((kind, topic, hear))
        self._subscriptions.append(self._node.create_subscription(kind, topic, hear, 10))

    def go(self) -> None:
        """Take no more commands, as when the driver's process has ended."""
        while self._subscriptions:
            self._node.destroy_subscription(self._subscriptions.pop())

    def come_back(self) -> None:
        """Take commands again."""
        for kind, topic, hear in self._listening:
            self._subscriptions.append(self._node.create_subscription(kind, topic, hear, 10))


class InterbotixArm(VendorArm):
    """interbotix_xs_sdk: motors take goals in the unit of their operating mode, and nothing before torque."""

    def __init__(self, node: Any, arm: Arm) -> None:
        super().__init__(node, arm)
        entry, single = arm.drivers.interbotix, self._gripper.interbotix
        assert entry is not None and single is not None
        self.on = False
        # How long each of its services takes to answer.
        self.slow_s = 0.0
        # Of the arm's six motors: xsarm_control's mode file.
        self.registers = {"Operating_Mode": 3, "Profile_Velocity": 2000}
        self._listen(JointGroupCommand, entry.topic, self._group)
        self._listen(JointSingleCommand, single.topic, self._single)
        if entry.torque_service:
            node.create_service(TorqueEnable, entry.torque_service, self._torque)
        if entry.modes_service:
            node.create_service(OperatingModes, entry.modes_service, self._modes)
        if entry.registers:
            node.create_service(RegisterValues, entry.registers.get, self._get)
            node.create_service(RegisterValues, entry.registers.set, self._set)

    def _fingers(self) -> list[tuple[str, float]]:
        # The motor's angle, and after it what xs_sdk works out for the fingers.
        return [("gripper", 1.0), ("left_finger", self.reading), ("right_finger", -self.reading)]

    def _group(self, message: JointGroupCommand) -> None:
        assert message.name == "arm" and len(message.cmd) == 6
        if self.on:
            self.q = np.array(message.cmd, dtype=np.float64)

    def _single(self, message: JointSingleCommand) -> None:
        assert message.name == "gripper"
        assert self._gripper.commands and self._gripper.reads
        share = (message.cmd - self._gripper.commands[0]) / np.ptp(self._gripper.commands)
        self.reading = float(self._gripper.reads[0] + share * np.ptp(self._gripper.reads))

    def _torque(self, request: TorqueEnable.Request, response: TorqueEnable.Response) -> Any:
        self.asked.append(request)
        self.on = self.on or (request.name == "arm" and request.enable)
        return response

    def _modes(self, request: OperatingModes.Request, response: OperatingModes.Response) -> Any:
        self.asked.append(request)
        # The motors let go while their mode is changed.
        self.on = self.on and request.name != "arm"
        return response

    def _get(self, request: RegisterValues.Request, response: RegisterValues.Response) -> Any:
        response.values = [self.registers[request.reg]] * 6
        return response

    def _set(self, request: RegisterValues.Request, response: RegisterValues.Response) -> Any:
        self.asked.append(request)
        time.sleep(self.slow_s)
        self.registers[request.reg] = request.value
        return response


class PiperArm(VendorArm):
    """Piper_ros: stamps of the SDK, 0 rad for a joint that is not named, nothing before it is enabled."""

    def __init__(self, node: Any, arm: Arm) -> None:
        super().__init__(node, arm)
        self.on = False
        self.can_is_alive = True
        self._sdk_ns = 0
        topics = arm.drivers
        assert topics.piper_joint is not None and topics.piper_pose is not None
        self._listen(JointState, topics.piper_joint.topic, self._joints)
        self._listen(PosCmd, topics.piper_pose.topic, self._pose)
        node.create_service(Enable, "/enable_srv", self._enable)
        self._listen(Bool, "/enable_flag", lambda message: self._switch(message.data))

    def _stamp(self, now_ns: int) -> int:
        if self.can_is_alive:
            self._sdk_ns = SDK_BEGAN * 10**9 + time.monotonic_ns() % 10**12
        return self._sdk_ns

    def _joints(self, message: JointState) -> None:
        if self.on:
            named = dict(zip(message.name, message.position, strict=True))
            self.q = np.array([named.get(f"joint{index}", 0.0) for index in range(1, 7)])
            self.reading = message.position[6] if len(message.position) >= 7 else 0.0

    def _pose(self, message: PosCmd) -> None:
        if self.on:
            self.reading = message.gripper

    def _enable(self, request: Enable.Request, response: Enable.Response) -> Any:
        self.asked.append(request)
        if not self.refuses:
            self._switch(request.enable_request)
        response.enable_response = not self.refuses
        return response

    def _switch(self, on: bool) -> None:
        self.on, self.reading = on, 0.0


class CobotArm(VendorArm):
    """Cobot Magic: the puppet follows /master/joint_*, by index."""

    def __init__(self, node: Any, arm: Arm) -> None:
        super().__init__(node, arm)
        assert arm.drivers.cobot_magic is not None
        self._listen(JointState, arm.drivers.cobot_magic.topic, self._joints)

    def _joints(self, message: JointState) -> None:
        self.q, self.reading = np.array(message.position[:6]), message.position[6]


VENDORS = {
    "interbotix": InterbotixArm,
    "piper_joint": PiperArm,
    "piper_pose": PiperArm,
    "cobot_magic": CobotArm,
}


class VendorGraph:
    """See the module. file: the robot YAML."""

    def __init__(self, starter: Starter, domain: int, file: Path) -> None:
        self.robot = load_robot(file)
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("vendor", context=self.context)
        self.arms = {name: VENDORS[arm.driver](self.node, arm) for name, arm in self.robot.arms.items()}
        self.sources: list[str] = []
        self.commands: list[JointState] = []
        self.chunks = self.node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        self.node.create_subscription(
            String, "vla/control_source", lambda message: self.sources.append(message.data), LATCHED
        )
        self.node.create_subscription(JointState, "vla/command", self.commands.append, 100)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._alive = True
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._spin, self._publish)]
        for thread in self._threads:
            thread.start()
        self.process: Started = starter.node(
            *("control_node", "-p", f"robot:={file}"),
            ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        )
        self.process.wait_for_text("commanding at", 60.0)

    def close(self) -> None:
        self._alive = False
        self._threads[1].join(2.0)
        self._executor.shutdown(timeout_sec=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def call(self, service: str) -> Trigger.Response:
        return ask(self.node.create_client(Trigger, f"control_node/{service}"), Trigger.Request())

    def start(self) -> None:
        """Call ~/start until the joint states are there."""

        def started() -> bool:
            response = self.call("start")
            known = ("joint states", "gripper's width", "nobody subscribes")
            assert response.success or any(word in response.message for word in known), response.message
            return bool(response.success)

        wait_for(started, 15.0, "start to succeed")
        time.sleep(0.05)

    def follow(self, away: float, width: float, until: Any, timeout_s: float = 15.0) -> None:
        """Send chunks that bring every joint of every arm `away` from home and grippers to `width`, until."""
        channels: list[str] = []
        target: list[float] = []
        for name, arm in self.robot.arms.items():
            channels += [*joint_channels(name, len(arm.joints)), gripper_channel(name)]
            target += [*(np.array(arm.home) + away), width]
        rows = np.tile(np.array(target), (10, 1))

        def send() -> None:
            now = self.node.get_clock().now().nanoseconds
            due = now + np.arange(1, 11) * 100 * MS
            chunk = ActionChunk(tuple(channels), rows, due.astype(np.int64), now)
            self.chunks.publish(to_message(chunk))
            time.sleep(0.2)

        wait_for(until, timeout_s, "the arms to be there", send)

    def arrived(self, away: float) -> bool:
        """Whether every arm is that far from home."""
        return all(
            np.abs(self.arms[name].q - arm.home - away).max() < 2e-3 for name, arm in self.robot.arms.items()
        )

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()

    def _publish(self) -> None:
        while self._alive:
            now = self.node.get_clock().now().nanoseconds
            for arm in self.arms.values():
                if arm.alive:
                    arm.publish(now)
            time.sleep(0.01)


def robot_file(folder: Path, robot: str, **arm_changes: Any) -> Path:
    """A shipped YAML with keys of its arms changed and patient watchdogs, beside a link to the URDFs."""
    content = yaml.safe_load((CONFIGS / f"{robot}.yaml").read_text())
    for arm in content["arms"].values():
        arm.update(arm_changes)
        arm["states"]["max_age_ms"] = arm["gripper"]["states"]["max_age_ms"] = 1500.0
    content["safety"]["joint_states_timeout_ms"] = 1500.0
    content["safety"]["chunk_timeout_ms"] = 2000.0
    (folder / "urdf").symlink_to(CONFIGS / "urdf")
    file = folder / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


@contextlib.contextmanager
def vendor_graph(folder: Path, robot: str, **arm_changes: Any) -> Iterator[VendorGraph]:
    """A graph on a domain of its own."""
    starter = Starter()
    file = robot_file(folder, robot, **arm_changes)
    with claimed_domain() as domain:
        graph = VendorGraph(starter, domain, file)
        try:
            yield graph
        finally:
            starter.end()
            graph.close()
