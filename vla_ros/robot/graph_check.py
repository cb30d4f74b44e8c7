"""What a robot YAML says about a running graph against what is there: one line each, with what to do.

Plain data in, lines out: `vla_ros.nodes.graph_look` looks at the graph.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from vla_ros.robot.config import Robot
from vla_ros.robot.config_fields import Stream
from vla_ros.robot.yaml_lines import KeyPath, key_text

# A rate is as declared within these shares; the middleware and a busy machine cost some.
_SLOWEST, _FASTEST = 0.8, 1.25
_PUBLISHED_POSE = {
    "pose": "geometry_msgs/msg/Pose",
    "pose_stamped": "geometry_msgs/msg/PoseStamped",
    "pose_stamped_rpy": "geometry_msgs/msg/PoseStamped",
}
JOINT_STATE, ODOMETRY = "sensor_msgs/msg/JointState", "nav_msgs/msg/Odometry"


@dataclass(frozen=True)
class Line:
    """One thing that was looked at. ok: None for what cannot be told; fix: what to do, "" when ok."""

    ok: bool | None
    what: str
    found: str
    fix: str = ""


@dataclass(frozen=True)
class Wanted:
    """What has to be on the graph for the key `path`.

    side: who has to be there: a `publisher` (we subscribe), a `subscriber` (we publish), a `service` or an
    `action`. reliability, durability: ours. rate_hz: that of the YAML; max_age_ms: where stamps count.
    least_hz: slower than this will not do, whatever the YAML says.
    """

    path: KeyPath
    name: str
    side: Literal["publisher", "subscriber", "service", "action"]
    type: str
    reliability: Literal["reliable", "best_effort"] = "reliable"
    durability: Literal["volatile", "transient_local"] = "volatile"
    rate_hz: float | None = None
    max_age_ms: float | None = None
    least_hz: float = 0.0


@dataclass(frozen=True)
class Endpoint:
    """A node at the other end; reliability and durability as in `Wanted` (of services and actions none)."""

    node: str
    type: str
    reliability: str = "reliable"
    durability: str = "volatile"


@dataclass(frozen=True)
class Seen:
    """What was seen of a `Wanted`.

    name: resolved. rivals: nodes that publish where we would. received: messages; rate_hz: from two on;
    age_ms: median from stamp to arrival, None where that means nothing.
    """

    name: str
    endpoints: tuple[Endpoint, ...] = ()
    rivals: tuple[str, ...] = ()
    received: int = 0
    rate_hz: float | None = None
    age_ms: float | None = None


def inputs(robot: Robot) -> list[Wanted]:
    """The topics that a robot's nodes subscribe to, as they do."""
    found: list[Wanted] = []
    for name, arm in robot.arms.items():
        at: KeyPath = ("arms", name)
        if arm.robot_description is not None:
            path, kind = (*at, "robot_description"), "std_msgs/msg/String"
            found.append(Wanted(path, arm.robot_description, "publisher", kind, durability="transient_local"))
        found.append(_stream((*at, "states"), arm.states, robot.control.rate_hz))
        if arm.gripper is not None:
            found.append(_stream((*at, "gripper", "states"), arm.gripper.states))
        if arm.published_pose is not None:
            kind = _PUBLISHED_POSE[arm.published_pose.type]
            path = (*at, "published_pose", "topic")
            found.append(Wanted(path, arm.published_pose.topic, "publisher", kind, reliability="best_effort"))
    if robot.base is not None:
        found.append(_stream(("base", "odometry"), robot.base.odometry, kind=ODOMETRY))
    for name, camera in robot.cameras.items():
        kind = "sensor_msgs/msg/Image" if camera.transport == "raw" else "sensor_msgs/msg/CompressedImage"
        found.append(
            Wanted(
                ("cameras", name, "topic"), camera.topic, "publisher", kind, "best_effort",
                rate_hz=camera.rate_hz, max_age_ms=camera.max_age_ms,
            )
        )  # fmt: skip
        path = ("cameras", name, "camera_info")
        kind = "sensor_msgs/msg/CameraInfo"
        found.append(Wanted(path, camera.camera_info, "publisher", kind, "best_effort"))
    return found


def wanted_line(wanted: Wanted, seen: Seen, others: Mapping[str, Sequence[str]]) -> Line:
    """Whether what is wanted is there, of its type, compatible, and as fast and fresh as the YAML says.

    others: {name: types} of what else the graph has on that side.
    """
    key = key_text(wanted.path)
    right = [endpoint for endpoint in seen.endpoints if endpoint.type == wanted.type]
    what = f"{key} {seen.name}"
    if not seen.endpoints:
        return Line(False, what, f"no {wanted.side}", _start(wanted, key, seen.name, others))
    if not right:
        types = ", ".join(sorted({endpoint.type for endpoint in seen.endpoints}))
        return Line(
            False, what, f"{types}, not {wanted.type}", _other_type(wanted, key, types, others, seen.name)
        )
    wrong = [problem for endpoint in right if (problem := _incompatible(wanted, endpoint, key))]
    if len(wrong) == len(right):
        return Line(False, what, *wrong[0])
    if len(seen.rivals) > 1:
        return Line(
            False, what, f"commanded by {', '.join(seen.rivals)}", "stop all but one of them: they contradict"
        )
    nodes = ", ".join(sorted({endpoint.node for endpoint in right}))
    if wanted.side != "publisher":
        return Line(True, what, nodes)
    if not seen.received:
        return Line(False, what, f"{nodes} publishes nothing", f"start it up: no message came on {seen.name}")
    return _measured_line(wanted, seen, what, nodes, _offers(wanted, others, seen.name))


def _stream(path: KeyPath, stream: Stream, least_hz: float = 0.0, kind: str = JOINT_STATE) -> Wanted:
    age = stream.max_age_ms if stream.stamps == "header" else None
    return Wanted(
        (*path, "topic"), stream.topic, "publisher", kind, stream.reliability,
        rate_hz=stream.rate_hz, max_age_ms=age, least_hz=least_hz,
    )  # fmt: skip


def _start(wanted: Wanted, key: str, name: str, others: Mapping[str, Sequence[str]]) -> str:
    return f"start the {_WHO[wanted.side]}, or correct {key}: {_offers(wanted, others, name)}"


_WHO = {
    "publisher": "node that publishes it",
    "subscriber": "controller that obeys it",
    "service": "driver that offers it",
    "action": "driver that offers it",
}


def _offers(wanted: Wanted, others: Mapping[str, Sequence[str]], name: str) -> str:
    """What the graph has of that type, nearest name first."""
    fitting = [other for other, types in others.items() if wanted.type in types and other != name]
    fitting.sort(key=lambda other: -difflib.SequenceMatcher(None, other, name).ratio())
    if not fitting:
        return f"nothing on the graph has the type {wanted.type}"
    return f"of type {wanted.type} there is {', '.join(fitting[:3])}"


def _other_type(wanted: Wanted, key: str, types: str, others: Mapping[str, Sequence[str]], name: str) -> str:
    images = {"sensor_msgs/msg/Image": "raw", "sensor_msgs/msg/CompressedImage": "compressed"}
    if wanted.type in images and types in images:
        return f"write transport: {images[types]} beside {key}"
    return f"correct {key}: {_offers(wanted, others, name)}"


def _incompatible(wanted: Wanted, endpoint: Endpoint, key: str) -> tuple[str, str] | None:
    """What was found and what to do where both ends' qualities of service cannot meet, which is silent."""
    we_listen = wanted.side == "publisher"
    offered, asked = (endpoint, wanted) if we_listen else (wanted, endpoint)
    if offered.reliability == "best_effort" and asked.reliability == "reliable":
        fix = (
            f"write reliability: best_effort beside {key}"
            if we_listen
            else f"have {endpoint.node} subscribe best effort or reliable, as it likes; we publish reliably"
        )
        return f"{endpoint.node} is best effort: a reliable subscriber gets nothing", fix
    if offered.durability == "volatile" and asked.durability == "transient_local":
        if we_listen:
            fix = f"have {endpoint.node} publish it with transient local durability, or leave {key} out"
            return f"{endpoint.node} is volatile: who comes later gets nothing", fix
        fix = f"have {endpoint.node} subscribe with volatile durability"
        return f"{endpoint.node} asks for transient local durability, which commands do not have", fix
    return None


def _measured_line(wanted: Wanted, seen: Seen, what: str, nodes: str, offers: str) -> Line:
    rate, declared = seen.rate_hz, wanted.rate_hz
    beside = key_text(wanted.path[:-1])
    if declared is not None:
        if rate is None:
            return Line(False, what, f"one message only, not {declared:g} Hz", "look at why its node stalls")
        found = f"{rate:.4g} Hz, declared {declared:g} Hz"
        if rate < min(_SLOWEST * declared, wanted.least_hz):
            fix = (
                f"too slow for control.rate_hz = {wanted.least_hz:g}: name the arm's own broadcaster in "
                f"{key_text(wanted.path)}, not an aggregated topic: {offers}"
            )
            return Line(False, what, found, fix)
        if rate < _SLOWEST * declared:
            slower = (
                f"have {nodes} publish faster, or write {beside}.rate_hz: {rate:.3g} and a max_age_ms above"
            )
            return Line(False, what, found, f"{slower} {1000 / rate:.0f}")
        if rate > _FASTEST * declared:
            return Line(False, what, found, f"write {beside}.rate_hz: {rate:.3g}")
        if wanted.max_age_ms is not None and seen.age_ms is not None:
            found += f", {seen.age_ms:.0f} ms old"
            if abs(seen.age_ms) > wanted.max_age_ms:
                fix = (
                    "synchronise both machines' clocks (chrony, PTP), or have the node stamp by the ROS clock"
                )
                if wanted.type in (JOINT_STATE, ODOMETRY):
                    fix += f"; where its stamps are another clock's, write {beside}.stamps: arrival"
                return Line(False, what, found, fix)
        return Line(True, what, found)
    return Line(True, what, nodes)
