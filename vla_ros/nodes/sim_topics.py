"""The face that the twin shows to the graph: the topics of the real driver, serialised by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import KinematicsError, Refused
from vla_ros.nodes import transport
from vla_ros.nodes.cdr import JointStateWriter
from vla_ros.nodes.qos import LATCHED
from vla_ros.robot.config import Stream
from vla_ros.sim.controllers import SECOND_NS, TrajectoryPoint, pose_matrix
from vla_ros.sim.twin import Twin

_COMMAND_DEPTH = 10
_store = get_typestore(Stores.ROS2_HUMBLE)


class StatePublishers:
    """Joint states of arm and fingers with the robot YAML's QoS, and optionally /clock.

    Use from one thread.
    """

    CLOCK_PERIOD_NS = 4_000_000

    def __init__(self, node: Node, twin: Twin, publish_clock: bool) -> None:
        arm, gripper = twin.arm, twin.gripper
        self._twin = twin
        self._arm = node.create_publisher(JointState, arm.states.topic, _qos(arm.states))
        self._arm_writer = JointStateWriter(arm.base_frame, arm.joints)
        self._fingers = node.create_publisher(JointState, gripper.states.topic, _qos(gripper.states))
        self._fingers_writer = JointStateWriter(arm.tool_frame, gripper.joints)
        self._fingers_period_ns = round(SECOND_NS / gripper.states.rate_hz)
        self._fingers_due_ns = 0
        self._zeros = [0.0] * len(gripper.joints)
        self._clock = node.create_publisher(Clock, "/clock", 10) if publish_clock else None
        self._clock_due_ns = 0

    def publish(self, stamp_ns: int) -> None:
        """Publish what is due at `stamp_ns`, the time of the twin's present state."""
        world = self._twin.world
        self._arm.publish(
            self._arm_writer.serialise(
                stamp_ns, world.joint_positions, world.joint_velocities, world.joint_efforts
            )
        )
        if stamp_ns >= self._fingers_due_ns:
            self._fingers_due_ns = _next_due(self._fingers_due_ns, self._fingers_period_ns, stamp_ns)
            # Like franka_gripper: positions only.
            positions = self._twin.finger_positions()
            self._fingers.publish(
                self._fingers_writer.serialise(stamp_ns, positions, self._zeros, self._zeros)
            )
        if self._clock is not None and stamp_ns >= self._clock_due_ns:
            self._clock_due_ns = _next_due(self._clock_due_ns, self.CLOCK_PERIOD_NS, stamp_ns)
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(stamp_ns, SECOND_NS)
            self._clock.publish(message)


class CommandSubscriptions:
    """The command topics of the YAML's drivers, read once per step.

    refused: called with (driver, reason, text) for each command that a real controller would not take.
    """

    def __init__(self, node: Node, twin: Twin, refused: Callable[[str, str, str], None]) -> None:
        self._twin = twin
        self._refused = refused
        drivers = twin.arm.drivers
        self._inputs: list[tuple[str, Any, str, Callable[[Any, int], None]]] = []
        for name, driver, kind, text, obey in (
            (
                "joint_position",
                drivers.joint_position,
                Float64MultiArray,
                "std_msgs/msg/Float64MultiArray",
                self._joint_position,
            ),
            (
                "joint_trajectory",
                drivers.joint_trajectory,
                JointTrajectory,
                "trajectory_msgs/msg/JointTrajectory",
                self._joint_trajectory,
            ),
            (
                "cartesian_pose",
                drivers.cartesian_pose,
                PoseStamped,
                "geometry_msgs/msg/PoseStamped",
                self._cartesian_pose,
            ),
        ):
            if driver is not None:
                subscription = transport.polled_subscription(node, kind, driver.topic, _COMMAND_DEPTH)
                self._inputs.append((name, subscription, text, obey))
                # rosbags compiles a decoder at its first use: not while the arm moves.
                _store.get_msgdef(text)

    def obey(self, now_ns: int) -> None:
        """Take what has arrived; the newest command of each topic counts."""
        for name, subscription, text, obey in self._inputs:
            data = transport.take_latest(subscription)
            if data is None:
                continue
            try:
                obey(_store.deserialize_cdr(data, text), now_ns)
            except SerdeError as error:
                self._refused(name, "undecodable", f"{len(data)} bytes that are no {text} ({error})")
            except Refused as error:
                self._refused(name, error.reason, str(error))
            except KinematicsError as error:
                self._refused(name, "kinematics", str(error))
            else:
                self._twin.note_command(now_ns)

    def discard(self) -> None:
        """Drop what has arrived."""
        for _, subscription, _, _ in self._inputs:
            transport.take_latest(subscription)

    def _joint_position(self, message: Any, now_ns: int) -> None:
        self._twin.controllers.joint_position(message.data)

    def _joint_trajectory(self, message: Any, now_ns: int) -> None:
        points = [
            TrajectoryPoint(
                point.positions, _nanoseconds(point.time_from_start), point.velocities, point.accelerations
            )
            for point in message.points
        ]
        start_ns = _nanoseconds(message.header.stamp)
        self._twin.controllers.joint_trajectory(message.joint_names, points, start_ns, now_ns)

    def _cartesian_pose(self, message: Any, now_ns: int) -> None:
        place, turn = message.pose.position, message.pose.orientation
        pose = pose_matrix((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        self._twin.controllers.cartesian_pose(pose, message.header.frame_id)


def publish_latched(node: Node, topic: str, text: str) -> Any:
    """A transient-local String publisher that has published `text`."""
    publisher = node.create_publisher(String, topic, LATCHED)
    publisher.publish(String(data=text))
    return publisher


def _qos(stream: Stream) -> QoSProfile:
    best_effort = stream.reliability == "best_effort"
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    return QoSProfile(depth=10, reliability=reliability)


def _next_due(due_ns: int, period_ns: int, now_ns: int) -> int:
    """The next multiple of the period, without making up for lost ones."""
    return due_ns + period_ns if now_ns < due_ns + period_ns else now_ns + period_ns


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * SECOND_NS + int(time.nanosec)
