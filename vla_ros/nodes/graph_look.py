"""Looks at a running graph for `vla robot check --live`: who is there, what comes, and how fast."""

from __future__ import annotations

import statistics
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from scipy.spatial.transform import Rotation

from vla_ros.errors import KinematicsError, Refused, VlaRosError
from vla_ros.nodes.listeners import only_listens
from vla_ros.nodes.topic_types import message_class
from vla_ros.nodes.transport import RawReceiver
from vla_ros.observation.decode import (
    decode_compressed_image,
    decode_image,
    decode_joint_state,
    decode_odometry,
)
from vla_ros.robot.config import Robot
from vla_ros.robot.drivers import Call, Goal, Send, driver_for
from vla_ros.robot.drivers.twist import BaseTwist
from vla_ros.robot.graph_check import JOINT_STATE, ODOMETRY, Endpoint, Line, Seen, Wanted, inputs, wanted_line
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import check_description, read_urdf
from vla_ros.robot.measured_check import gripper_line, image_line, joint_lines, odometry_line, pose_lines
from vla_ros.robot.states import positions_by_name
from vla_ros.robot.yaml_lines import KeyPath, key_text
from vla_ros.types import FloatArray

# Discovery takes a second and more on a busy machine.
DISCOVERY_S, MEASURE_S = 5.0, 3.0
_FEEDBACK, _FEEDBACK_TYPE = "/_action/feedback", "_FeedbackMessage"
_STAMPED = (JOINT_STATE, ODOMETRY, "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


@dataclass
class _Arrivals:
    """The messages of one topic: how many, when the first and the last came, how old they were (ms)."""

    count: int = 0
    first_s: float = 0.0
    last_s: float = 0.0
    ages_ms: list[float] = field(default_factory=list)
    last: bytes = b""

    @property
    def rate_hz(self) -> float | None:
        return (self.count - 1) / (self.last_s - self.first_s) if self.last_s > self.first_s else None


def look(node: Node, robot: Robot, file: Path) -> list[Line]:
    """Every line about `robot` (from `load_robot(file)`) on the graph that `node` is in. Takes 3 to 8 s."""
    lines: list[Line] = []
    all_wanted = [*inputs(robot), *_outputs(robot, lines)]
    _wait_discovered(node, all_wanted)
    graph = _Graph(node)
    ends = [graph.endpoints(wanted) for wanted in all_wanted]
    arrivals = _listen(node, all_wanted, ends)
    for wanted, endpoints in zip(all_wanted, ends, strict=True):
        came = arrivals.get(wanted.path, _Arrivals())
        seen = Seen(
            node.resolve_topic_name(wanted.name),
            tuple(endpoints),
            tuple(graph.rivals(wanted)),
            came.count,
            came.rate_hz,
            statistics.median(came.ages_ms) if came.ages_ms else None,
        )
        lines.append(wanted_line(wanted, seen, graph.others(wanted)))
    return [*lines, *_content_lines(robot, file, {path: came.last for path, came in arrivals.items()})]


def _outputs(robot: Robot, lines: list[Line]) -> list[Wanted]:
    """What the robot's nodes publish to and call. What a package is missing for goes to `lines`."""
    found: list[Wanted] = []
    for name, arm in robot.arms.items():
        at: KeyPath = ("arms", name, "drivers", arm.driver)
        try:
            driver = driver_for(arm)
            recovery = driver.recovery()
            steps = [*driver.start_steps(), *(() if recovery is None else recovery.steps)]
        except (ImportError, VlaRosError) as error:
            lines.append(Line(False, key_text(at), str(error), "have its messages where Python finds them"))
            continue
        found.append(Wanted((*at, "topic"), driver.topic, "subscriber", _type_name(driver.message_type)))
        # One service often takes several of them.
        found += dict.fromkeys(_of_step(at, step) for step in steps)
        if arm.gripper is not None:
            at = ("arms", name, "gripper")
            if arm.gripper.action is not None:
                path, kind = (*at, "action", "action"), "control_msgs/action/GripperCommand"
                found.append(Wanted(path, arm.gripper.action.action, "action", kind))
            if arm.gripper.interbotix is not None:
                path, kind = (*at, "interbotix", "topic"), "interbotix_xs_msgs/msg/JointSingleCommand"
                found.append(Wanted(path, arm.gripper.interbotix.topic, "subscriber", kind))
    if robot.base is not None:
        base, at = BaseTwist(robot.base), ("base", "twist")
        found.append(Wanted((*at, "topic"), base.topic, "subscriber", _type_name(base.message_type)))
        found += [_of_step((*at, "torque_service"), step) for step in base.start_steps()]
    return found


def _of_step(at: KeyPath, step: Call | Send | Goal) -> Wanted:
    if isinstance(step, Send):
        return Wanted(at, step.topic, "subscriber", _type_name(type(step.message)))
    if isinstance(step, Goal):
        return Wanted(at, step.action, "action", _type_name(step.action_type))
    return Wanted(at, step.service, "service", _type_name(step.service_type))


def _type_name(kind: type) -> str:
    """sensor_msgs/msg/Image for that class."""
    package, folder, *_ = kind.__module__.split(".")
    return f"{package}/{folder}/{kind.__name__}"


class _Graph:
    """What the node knows of the graph at one moment."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._own = node.get_fully_qualified_name()
        self._topics = dict(node.get_topic_names_and_types())
        self._services: dict[str, list[Endpoint]] = {}
        for name, namespace in node.get_node_names_and_namespaces():
            try:
                served = node.get_service_names_and_types_by_node(name, namespace)
            except RuntimeError:  # the node has gone meanwhile
                continue
            for service, types in served:
                ends = self._services.setdefault(service, [])
                ends += [Endpoint(f"{namespace.rstrip('/')}/{name}", kind) for kind in types]

    def endpoints(self, wanted: Wanted) -> list[Endpoint]:
        """Who is at the other end of `wanted`."""
        name = self._node.resolve_topic_name(wanted.name)
        if wanted.side == "service":
            return self._services.get(name, [])
        if wanted.side == "action":
            return [
                Endpoint(end.node, end.type.removesuffix(_FEEDBACK_TYPE))
                for end in self._ends(self._node.get_publishers_info_by_topic(name + _FEEDBACK))
            ]
        if wanted.side == "subscriber":
            ends = self._ends(self._node.get_subscriptions_info_by_topic(name))
            return [end for end in ends if not only_listens(end.node)]
        return self._ends(self._node.get_publishers_info_by_topic(name))

    def rivals(self, wanted: Wanted) -> list[str]:
        """Who publishes on a topic that the robot's own nodes command on."""
        if wanted.side != "subscriber":
            return []
        name = self._node.resolve_topic_name(wanted.name)
        return [end.node for end in self._ends(self._node.get_publishers_info_by_topic(name))]

    def others(self, wanted: Wanted) -> dict[str, list[str]]:
        """{name: types} of everything that somebody has at the side of `wanted`."""
        if wanted.side == "service":
            return {name: [end.type for end in ends] for name, ends in self._services.items()}
        if wanted.side == "action":
            return {
                name.removesuffix(_FEEDBACK): [kind.removesuffix(_FEEDBACK_TYPE) for kind in types]
                for name, types in self._topics.items()
                if name.endswith(_FEEDBACK)
            }
        count: Callable[[str], int] = (
            self._node.count_subscribers if wanted.side == "subscriber" else self._node.count_publishers
        )
        return {name: types for name, types in self._topics.items() if count(name)}

    def _ends(self, infos: list[Any]) -> list[Endpoint]:
        found = []
        for info in infos:
            name = f"{info.node_namespace.rstrip('/')}/{info.node_name}"
            if name != self._own:
                qos = info.qos_profile
                reliable = qos.reliability != ReliabilityPolicy.BEST_EFFORT
                latched = qos.durability == DurabilityPolicy.TRANSIENT_LOCAL
                found.append(
                    Endpoint(
                        name,
                        info.topic_type,
                        "reliable" if reliable else "best_effort",
                        "transient_local" if latched else "volatile",
                    )
                )
        return found


def _wait_discovered(node: Node, all_wanted: list[Wanted]) -> None:
    """Return once everything that is wanted has somebody, or after DISCOVERY_S."""
    end = time.monotonic() + DISCOVERY_S
    while time.monotonic() < end:
        graph = _Graph(node)
        if all(graph.endpoints(wanted) for wanted in all_wanted):
            return
        time.sleep(0.1)


def _listen(node: Node, all_wanted: list[Wanted], ends: list[list[Endpoint]]) -> dict[KeyPath, _Arrivals]:
    """Receive for MEASURE_S what is published with the wanted type. {path: what came}."""
    receiver, arrivals, subscriptions = RawReceiver(node), {}, []
    # On a simulated clock, stamps say nothing about how long a message was on its way.
    simulated = node.count_publishers("/clock") > 0
    for wanted, endpoints in zip(all_wanted, ends, strict=True):
        if wanted.side != "publisher" or wanted.type not in {end.type for end in endpoints}:
            continue
        came = arrivals[wanted.path] = _Arrivals()
        qos = QoSProfile(
            depth=100 if wanted.type == JOINT_STATE else 5,
            reliability=ReliabilityPolicy[wanted.reliability.upper()],
            durability=DurabilityPolicy[wanted.durability.upper()],
        )
        stamped = wanted.type in _STAMPED and not simulated
        callback = _callback(node, came, stamped)
        subscriptions.append(receiver.subscribe(message_class(wanted.type), wanted.name, qos, callback))
    if subscriptions:
        receiver.start()
        time.sleep(MEASURE_S)
        receiver.stop()
    for subscription in subscriptions:
        node.destroy_subscription(subscription)
    return arrivals


def _callback(node: Node, came: _Arrivals, stamped: bool) -> Callable[[bytes], None]:
    clock = node.get_clock()

    def arrived(cdr: bytes) -> None:
        came.last_s = time.monotonic()
        came.first_s = came.first_s or came.last_s
        came.count += 1
        came.last = cdr
        if stamped:
            order = "<" if cdr[1] & 1 else ">"
            seconds, nanoseconds = struct.unpack_from(order + "iI", cdr, 4)
            came.ages_ms.append(clock.now().nanoseconds / 1e6 - (seconds * 1e3 + nanoseconds / 1e6))

    return arrived


def _content_lines(robot: Robot, file: Path, last: dict[KeyPath, bytes]) -> list[Line]:
    """Lines about what the newest messages say; {path: message} where any came."""
    lines: list[Line] = []
    measured: dict[str, FloatArray] = {}
    published: dict[str, FloatArray] = {}
    for name, arm in robot.arms.items():
        at: KeyPath = ("arms", name)
        xml = _description(robot, name, last.get((*at, "robot_description")), lines) or read_urdf(file, arm)
        if cdr := last.get((*at, "states", "topic")):
            sample = decode_joint_state(cdr)
            lines += joint_lines(name, arm, sample.names, sample.positions.tolist())
            try:
                q = positions_by_name(sample.names, sample.positions.tolist(), arm.joints)
                kinematics = Kinematics(xml, arm.joints, arm.base_frame, arm.tool_frame)
                measured[name] = kinematics.forward(q)
            except (Refused, KinematicsError):
                pass  # said already
        if arm.gripper is not None and (cdr := last.get((*at, "gripper", "states", "topic"))):
            sample = decode_joint_state(cdr)
            lines.append(gripper_line(name, arm.gripper, sample.names, sample.positions.tolist()))
        if arm.published_pose is not None and (cdr := last.get((*at, "published_pose", "topic"))):
            try:
                published[name] = _pose(cdr, arm.published_pose.type)
            except ValueError:
                what, found = f"arms.{name}.published_pose", "an orientation that is none (all zero)"
                lines.append(
                    Line(False, what, found, "correct type: pose_stamped_rpy carries roll, pitch, yaw")
                )
    lines += pose_lines(robot, measured, published)
    if robot.base is not None and (cdr := last.get(("base", "odometry", "topic"))):
        try:
            lines.append(odometry_line(robot.base, decode_odometry(cdr).velocity.tolist()))
        except Refused as refused:
            fix = "have the base's driver publish finite velocities"
            lines.append(Line(False, "base.odometry velocity", str(refused), fix))
    for name, camera in robot.cameras.items():
        if cdr := last.get(("cameras", name, "topic")):
            try:
                frame = decode_image(cdr) if camera.transport == "raw" else decode_compressed_image(cdr)
                height, width, _ = frame.rgb().shape
            except Refused as refused:
                fix = "have the camera's node send an encoding that is read here"
                lines.append(Line(False, f"cameras.{name}", str(refused), fix))
            else:
                lines.append(image_line(name, camera, width, height))
    return lines


def _description(robot: Robot, name: str, cdr: bytes | None, lines: list[Line]) -> str | None:
    """The URDF that was published, once its joints and frames have been found fit."""
    if cdr is None:
        return None
    from std_msgs.msg import String

    xml = str(deserialize_message(cdr, String).data)
    arm = robot.arms[name]
    what = f"arms.{name} frames and joints in {arm.robot_description}"
    try:
        check_description(robot, name, xml)
    except KinematicsError as error:
        for text in str(error).split("\n"):
            found, _, fix = text.partition(": found ")[2].rpartition("; ")
            lines.append(Line(False, what, found or text, fix))
        return None
    lines.append(Line(True, what, f"{arm.base_frame}, {arm.tool_frame} and {len(arm.joints)} joints"))
    return xml


def _pose(cdr: bytes, kind: str) -> FloatArray:
    """4x4 of a published pose: geometry_msgs Pose, PoseStamped, or one with roll, pitch, yaw in x, y, z."""
    from geometry_msgs.msg import Pose, PoseStamped

    message: Any = deserialize_message(cdr, Pose if kind == "pose" else PoseStamped)
    pose = message if kind == "pose" else message.pose
    turn = [pose.orientation.x, pose.orientation.y, pose.orientation.z]
    matrix = np.eye(4)
    if kind == "pose_stamped_rpy":
        matrix[:3, :3] = Rotation.from_euler("xyz", turn).as_matrix()
    else:
        matrix[:3, :3] = Rotation.from_quat([*turn, pose.orientation.w]).as_matrix()
    matrix[:3, 3] = pose.position.x, pose.position.y, pose.position.z
    return matrix
