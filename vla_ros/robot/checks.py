"""What must hold between the keys of a robot YAML, and between the YAML and the URDF."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from vla_ros.errors import KinematicsError
from vla_ros.robot.config import Arm, Box, Camera, Robot, Stream
from vla_ros.robot.driver_checks import (
    driver_problems,
    gripper_description_problems,
    gripper_problems,
    mount_problems,
)
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.urdf import MOVABLE, Description, parse_urdf
from vla_ros.robot.words import advice, quoted
from vla_ros.robot.yaml_lines import KeyPath, Problem
from vla_ros.types import FloatArray

# Rounding in a YAML or a URDF is not a looser limit.
_ROUNDING = 1e-6


def consistency_problems(robot: Robot) -> list[Problem]:
    """Mistakes that concern several keys and need no URDF."""
    problems: list[Problem] = []
    for name, arm in robot.arms.items():
        problems += _arm_problems(("arms", name), arm)
    topics: dict[str, str] = {}
    for name, camera in robot.cameras.items():
        problems += _stream_problems(("cameras", name), camera)
        problems += mount_problems(("cameras", name), camera, robot)
        first = topics.setdefault(camera.topic, name)
        if first != name:
            problems.append(
                Problem(
                    ("cameras", name, "topic"),
                    f"{camera.topic}, the topic of camera '{first}' too",
                    "one topic per camera",
                    "name this camera's own topic",
                )
            )
    for role, camera_name in robot.policy.cameras.items():
        if camera_name not in robot.cameras:
            problems.append(
                Problem(
                    ("policy", "cameras", role),
                    f"'{camera_name}', which is no camera of this robot",
                    f"one of {quoted(robot.cameras)}",
                    advice(camera_name, robot.cameras, "add it under cameras or map another"),
                )
            )
    problems += _box_problems(("safety", "workspace"), robot.safety.workspace)
    for index, box in enumerate(robot.safety.forbidden):
        problems += _box_problems(("safety", "forbidden", index), box)
    problems += _mounting_problems(robot)
    return problems


def description_problems(robot: Robot, name: str, xml: str, source: str) -> list[Problem]:
    """Mistakes of arm `name` against a URDF (its text); `source` says which, in messages."""
    arm, at = robot.arms[name], ("arms", name)
    try:
        urdf = parse_urdf(xml)
    except KinematicsError as error:
        return [Problem((*at, "urdf"), f"a URDF that cannot be used ({error})", "a URDF", "correct the file")]
    problems = [*_joint_problems(at, arm, urdf, source), *_frame_problems(at, arm, urdf, source)]
    problems = problems or list(_chain_problems(at, arm, urdf))
    if arm.gripper is not None:
        problems += gripper_description_problems((*at, "gripper"), arm.gripper, urdf, source)
    if problems:
        return problems
    problems = list(_limit_problems(at, arm, urdf))
    # The chain is sound from here on, so poses mean something.
    try:
        kinematics = Kinematics(xml, arm.joints, arm.base_frame, arm.tool_frame)
        home = kinematics.forward(arm.home)
    except KinematicsError as error:
        return [
            *problems,
            Problem((*at, "urdf"), f"a URDF that does not fit ({error})", "one that does", "correct it"),
        ]
    problems += _cartesian_frame_problems(at, arm, xml, home)
    box = robot.safety.workspace
    for axis, value, low, high in zip(range(3), home[:3, 3], box.min, box.max, strict=True):
        if not low <= value <= high:
            problems.append(
                Problem(
                    ("safety", "workspace"),
                    f"[{low}, {high}] m along {'xyz'[axis]}",
                    f"a box around the tool at home of arm '{name}', {'xyz'[axis]} = {value:.3f} m",
                    "widen the box or move home",
                )
            )
    alone = robot.model_copy(update={"arms": {name: arm}})
    return problems or distance_problems(alone, {name: kinematics})


def distance_problems(robot: Robot, kinematics: Mapping[str, Kinematics]) -> list[Problem]:
    """Forbidden boxes, and arms, that are too near at home; kinematics: {arm: its kinematics}."""
    geometry = Geometry(robot, kinematics)
    problems = []
    for rule in geometry.rules:
        found = geometry.distance(rule, np.concatenate([robot.arms[name].home for name in rule.arms]))
        if found >= rule.distance:
            continue
        if rule.kind == "forbidden":
            (name,) = rule.arms
            problems.append(
                Problem(
                    ("safety", "forbidden"),
                    f"a box that reaches {-found:.3f} m into the links of arm '{name}' at home",
                    "boxes that the links are outside of",
                    "make the box smaller, move home or lower link_radius",
                )
            )
        else:
            one, other = rule.arms
            problems.append(
                Problem(
                    ("arms", other, "home"),
                    f"{found:.3f} m from arm '{one}' at its home",
                    f"at least safety.arm_distance = {rule.distance:g} m",
                    "correct base_pose, home or link_radius",
                )
            )
    return problems


def _arm_problems(at: KeyPath, arm: Arm) -> Iterator[Problem]:
    count = len(arm.joints)
    limits = arm.limits
    sized: list[tuple[tuple[str, ...], Sequence[object]]] = [
        (("home",), arm.home),
        (("limits", "position"), limits.position),
        (("limits", "velocity"), limits.velocity),
        (("limits", "acceleration"), limits.acceleration),
        (("limits", "jerk"), limits.jerk),
    ]
    if limits.approach is not None:
        sized.append((("limits", "approach"), limits.approach))
    for key, values in sized:
        if len(values) != count:
            yield Problem(
                (*at, *key),
                f"{len(values)} values",
                f"{count}, one per joint",
                "give one value per entry of joints, in the same order",
            )
    yield from _repeated((*at, "joints"), arm.joints)
    for index, (low, high) in enumerate(limits.position):
        where = (*at, "limits", "position", index)
        if low >= high:
            yield Problem(where, f"[{low}, {high}]", "the lower limit before the upper", "swap the two")
        elif len(arm.home) == len(limits.position) and not low <= arm.home[index] <= high:
            yield Problem(
                (*at, "home", index),
                f"{arm.home[index]} rad",
                f"a value within limits.position[{index}] = [{low}, {high}] rad",
                "correct home or the limit",
            )
    yield from driver_problems(at, arm)
    yield from _stream_problems((*at, "states"), arm.states)
    gripper = arm.gripper
    if gripper is not None:
        yield from _stream_problems((*at, "gripper", "states"), gripper.states)
        yield from _repeated((*at, "gripper", "joints"), gripper.joints)
        yield from gripper_problems((*at, "gripper"), arm.driver, gripper)


def _box_problems(at: KeyPath, box: Box) -> Iterator[Problem]:
    for axis, low, high in zip(range(3), box.min, box.max, strict=True):
        if low >= high:
            yield Problem((*at, "min", axis), f"{low} m", f"less than max[{axis}] = {high} m", "swap the two")


def _mounting_problems(robot: Robot) -> Iterator[Problem]:
    """What the distance between arms, and from boxes, needs to know."""
    several = len(robot.arms) > 1
    seen: dict[tuple[float, ...], str] = {}
    for name, arm in robot.arms.items():
        pose = (*arm.base_pose.position, *arm.base_pose.rpy)
        if pose in seen:
            yield Problem(
                ("arms", name, "base_pose"),
                f"arm '{name}' standing where arm '{seen[pose]}' stands",
                "where its base_frame lies in the frame that all arms share",
                "add base_pose: {position: [x, y, z], rpy: [roll, pitch, yaw]}",
            )
        seen.setdefault(pose, name)
        if arm.link_radius is None and (several or robot.safety.forbidden):
            what = "another arm is to be kept at a distance" if several else "safety.forbidden has boxes"
            yield Problem(
                ("arms", name, "link_radius"),
                f"nothing, though {what}",
                "how thick the links are, in m",
                "add link_radius: the radius of capsules around the lines from joint to joint",
            )


def _repeated(at: KeyPath, names: Sequence[str]) -> Iterator[Problem]:
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Problem((*at, index), f"'{name}' again", "each joint once", "remove or correct it")


def _stream_problems(at: KeyPath, stream: Stream | Camera) -> Iterator[Problem]:
    period_ms = 1000.0 / stream.rate_hz
    if stream.max_age_ms < period_ms:
        yield Problem(
            (*at, "max_age_ms"),
            f"{stream.max_age_ms:g} ms",
            f"at least the period of rate_hz = {stream.rate_hz:g}, {period_ms:.4g} ms",
            "write milliseconds, not seconds, and more than one period",
        )


def _joint_problems(at: KeyPath, arm: Arm, urdf: Description, source: str) -> Iterator[Problem]:
    for index, name in enumerate(arm.joints):
        joint, path = urdf.joints.get(name), (*at, "joints", index)
        if joint is None:
            yield Problem(
                path,
                f"'{name}', which is not in {source}",
                f"one of {quoted(urdf.movable())}",
                advice(name, urdf.movable(), "write the joint as the URDF names it"),
            )
        elif joint.kind not in MOVABLE:
            yield Problem(
                path,
                f"'{name}', a {joint.kind} joint in {source}",
                "a revolute, continuous or prismatic joint",
                "name only joints that move",
            )


def _frame_problems(at: KeyPath, arm: Arm, urdf: Description, source: str) -> Iterator[Problem]:
    frames: list[tuple[KeyPath, str]] = [(("base_frame",), arm.base_frame), (("tool_frame",), arm.tool_frame)]
    if arm.drivers.cartesian_pose is not None:
        frames.append((("drivers", "cartesian_pose", "frame"), arm.drivers.cartesian_pose.frame))
    for key, frame in frames:
        if frame not in urdf.links:
            yield Problem(
                (*at, *key),
                f"'{frame}', which is not in {source}",
                f"one of {quoted(sorted(urdf.links))}",
                advice(frame, urdf.links, "write the link as the URDF names it"),
            )


def _chain_problems(at: KeyPath, arm: Arm, urdf: Description) -> Iterator[Problem]:
    chain = urdf.chain(arm.base_frame, arm.tool_frame)
    if chain is None:
        yield Problem(
            (*at, "tool_frame"),
            f"'{arm.tool_frame}', which does not hang below '{arm.base_frame}'",
            "a link of the same arm",
            "correct base_frame or tool_frame",
        )
    elif set(chain) != set(arm.joints):
        yield Problem(
            (*at, "joints"),
            f"{len(arm.joints)} joints ({quoted(arm.joints)})",
            f"the {len(chain)} that move between '{arm.base_frame}' and '{arm.tool_frame}': {quoted(chain)}",
            "name exactly those",
        )


def _cartesian_frame_problems(at: KeyPath, arm: Arm, xml: str, home: FloatArray) -> Iterator[Problem]:
    cartesian = arm.drivers.cartesian_pose
    if cartesian is None:
        return
    try:
        relabelled = Kinematics(xml, arm.joints, cartesian.frame, arm.tool_frame).forward(arm.home)
        same = bool(np.abs(relabelled - home).max() <= _ROUNDING)
    except KinematicsError:  # the frame moves with the arm
        same = False
    if not same:
        yield Problem(
            (*at, "drivers", "cartesian_pose", "frame"),
            f"'{cartesian.frame}', which lies elsewhere than '{arm.base_frame}'",
            f"a frame that lies where base_frame '{arm.base_frame}' lies",
            "name the frame that the controller's targets are in as base_frame too",
        )


def _limit_problems(at: KeyPath, arm: Arm, urdf: Description) -> Iterator[Problem]:
    for index, name in enumerate(arm.joints):
        joint = urdf.joints[name]
        low, high = arm.limits.position[index]
        if low < joint.lower - _ROUNDING or high > joint.upper + _ROUNDING:
            yield Problem(
                (*at, "limits", "position", index),
                f"[{low}, {high}] for {name}",
                f"limits inside the URDF's [{joint.lower:g}, {joint.upper:g}]",
                "tighten them",
            )
        velocity = arm.limits.velocity[index]
        if velocity > joint.velocity + _ROUNDING:
            yield Problem(
                (*at, "limits", "velocity", index),
                f"{velocity} for {name}",
                f"at most the URDF's {joint.velocity:g}",
                "lower it",
            )
