"""What all simulated drivers have in common: states out at their rate, commands in, once per step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from geometry_msgs.msg import Pose, PoseStamped
from numpy.typing import ArrayLike
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from rosbags.serde import SerdeError
from rosbags.typesys import Stores, get_typestore
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState

from vla_ros.errors import KinematicsError, Refused
from vla_ros.nodes.cdr import JointStateWriter
from vla_ros.nodes.qos import state_qos
from vla_ros.nodes.transport import polled_subscription, take_latest
from vla_ros.robot.config import PublishedPose
from vla_ros.robot.config_fields import Stream
from vla_ros.sim.arm import SimArm
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.types import FloatArray

COMMAND_DEPTH = STATE_DEPTH = 10
POSE_PERIOD_NS = 20_000_000
_store = get_typestore(Stores.ROS2_HUMBLE)


@dataclass(frozen=True)
class Host:
    """The process that a face is part of.

    rejected: called with (driver, reason, text) for each command that the real driver would not take; obeyed:
    with the time in ns of one that it takes. in_physics: has something done between two steps.
    """

    node: Node
    rejected: Callable[[str, str, str], None]
    obeyed: Callable[[int], None]
    in_physics: Callable[[Callable[[], None]], None]


class Output(Protocol):
    """Something periodic that a driver publishes."""

    def publish(self, now_ns: int) -> None:
        """Publish if it is due at `now_ns`, the time of the twin's present state."""
        ...


class Face:
    """One driver as the graph sees it: what it publishes and what it obeys. Used from the physics thread."""

    def __init__(self, host: Host, outputs: Iterable[Output], commands: Sequence[Command]) -> None:
        self._outputs = tuple(outputs)
        self._commands = Commands(host, commands)

    def publish(self, stamp_ns: int) -> None:
        """Publish what is due at `stamp_ns`, the time of the twin's present state."""
        for output in self._outputs:
            output.publish(stamp_ns)

    def obey(self, now_ns: int) -> None:
        """Take what has arrived."""
        self._commands.obey(now_ns)

    def discard(self) -> None:
        """Drop what has arrived, and forget what was under way: the scene was reset."""
        self._commands.discard()

    def destroy(self) -> None:
        """Give up what is not a publisher, a subscription or a service of the node."""


class Due:
    """Whether something periodic is due, without making up for what was missed."""

    def __init__(self, period_ns: int) -> None:
        self._period_ns, self._next_ns = period_ns, 0

    def at(self, now_ns: int) -> bool:
        """True once a period."""
        if now_ns < self._next_ns:
            return False
        behind = now_ns >= self._next_ns + self._period_ns
        self._next_ns = (now_ns if behind else self._next_ns) + self._period_ns
        return True


class JointStates:
    """sensor_msgs/JointState of a stream: its topic, rate and QoS.

    read: gives position, velocity and effort, one number per name each. stamp: makes the message's stamp of
    the time in ns, where the driver's clock is not the ROS clock.
    """

    def __init__(
        self,
        node: Node,
        stream: Stream,
        frame: str,
        names: Sequence[str],
        read: Callable[[], tuple[ArrayLike, ArrayLike, ArrayLike]],
        stamp: Callable[[int], int] = lambda now_ns: now_ns,
    ) -> None:
        self._publisher = node.create_publisher(JointState, stream.topic, state_qos(stream, STATE_DEPTH))
        self._writer = JointStateWriter(frame, names)
        self._due = Due(round(SECOND_NS / stream.rate_hz))
        self._read, self._stamp = read, stamp

    def publish(self, now_ns: int) -> None:
        """See Output."""
        if self._due.at(now_ns):
            self._publisher.publish(self._writer.serialise(self._stamp(now_ns), *self._read()))


class ToolPose:
    """The tool's pose where the robot YAML says that the driver publishes it (`published_pose`).

    gripper: what Cobot Magic puts into orientation.w.
    """

    def __init__(self, node: Node, arm: SimArm, config: PublishedPose, gripper: Callable[[], float]) -> None:
        self._arm, self._type, self._gripper = arm, config.type, gripper
        self._publisher = node.create_publisher(
            Pose if config.type == "pose" else PoseStamped, config.topic, 10
        )
        self._due = Due(POSE_PERIOD_NS)

    def publish(self, now_ns: int) -> None:
        """See Output."""
        if not self._due.at(now_ns):
            return
        matrix = self._arm.kinematics.forward(self._arm.body.positions())
        pose = Pose()
        pose.position.x, pose.position.y, pose.position.z = map(float, matrix[:3, 3])
        turn = Rotation.from_matrix(matrix[:3, :3])
        o = pose.orientation
        if self._type == "pose_stamped_rpy":
            o.x, o.y, o.z = map(float, turn.as_euler("xyz"))
            o.w = self._gripper()
        else:
            o.x, o.y, o.z, o.w = map(float, turn.as_quat())
        if self._type == "pose":
            self._publisher.publish(pose)
            return
        message = PoseStamped(pose=pose)
        message.header.frame_id = self._arm.config.base_frame
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, SECOND_NS)
        self._publisher.publish(message)


@dataclass(frozen=True)
class Command:
    """A command topic: what to call with each message that has arrived, the newest only.

    rosbags_name: how rosbags names the type, for common messages, which it decodes faster than rclpy.
    """

    label: str
    message_type: type
    topic: str
    obey: Callable[[Any, int], None]
    rosbags_name: str = ""


class Commands:
    """Command topics of one driver, read once per step."""

    def __init__(self, host: Host, commands: Sequence[Command]) -> None:
        self._rejected, self._obeyed = host.rejected, host.obeyed
        self._inputs = [
            (command, polled_subscription(host.node, command.message_type, command.topic, COMMAND_DEPTH))
            for command in commands
        ]
        for command in commands:
            if command.rosbags_name:
                # rosbags compiles a decoder at its first use: not while the arm moves.
                _store.get_msgdef(command.rosbags_name)

    def obey(self, now_ns: int) -> None:
        """Take what has arrived; the newest command of each topic counts."""
        for command, subscription in self._inputs:
            data = take_latest(subscription)
            if data is None:
                continue
            try:
                if command.rosbags_name:
                    message = _store.deserialize_cdr(data, command.rosbags_name)
                else:
                    message = deserialize_message(data, command.message_type)
                command.obey(message, now_ns)
            except SerdeError as error:
                text = f"{len(data)} bytes that are no {command.rosbags_name} ({error})"
                self._rejected(command.label, "undecodable", text)
            except Refused as error:
                self._rejected(command.label, error.reason, str(error))
            except KinematicsError as error:
                self._rejected(command.label, "kinematics", str(error))
            else:
                self._obeyed(now_ns)

    def discard(self) -> None:
        """Drop what has arrived."""
        for _, subscription in self._inputs:
            take_latest(subscription)


def arm_values(arm: SimArm) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Positions, velocities and efforts of an arm's joints."""
    return arm.body.positions(), arm.body.velocities(), arm.body.efforts()
