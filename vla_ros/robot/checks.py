"""What must hold between the keys of a robot YAML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vla_ros.robot.base_checks import base_problems
from vla_ros.robot.cameras import device_problems, source_problems, view_problems
from vla_ros.robot.config import Arm, Box, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.config_fields import Stream
from vla_ros.robot.driver_checks import driver_problems, gripper_problems, mount_problems
from vla_ros.robot.topics import topic_problems
from vla_ros.robot.words import advice, quoted
from vla_ros.robot.yaml_lines import KeyPath, Problem


def consistency_problems(robot: Robot) -> list[Problem]:
    """Mistakes that concern several keys and need no URDF."""
    problems: list[Problem] = []
    for name, arm in robot.arms.items():
        problems += _arm_problems(("arms", name), arm)
        problems += _rate_problems(("arms", name, "states", "rate_hz"), arm, robot)
    slowest = min(robot.arms, key=lambda name: robot.arms[name].states.rate_hz)
    period_ms = 1000.0 / robot.arms[slowest].states.rate_hz
    if robot.safety.joint_states_timeout_ms < period_ms:
        problems.append(
            Problem(
                ("safety", "joint_states_timeout_ms"),
                f"{robot.safety.joint_states_timeout_ms:g} ms",
                f"at least the period of the joint states of arm '{slowest}', {period_ms:.4g} ms",
                "write some periods",
            )
        )
    topics: dict[str, str] = {}
    for name, camera in robot.cameras.items():
        problems += _stream_problems(("cameras", name), camera)
        problems += mount_problems(("cameras", name), camera, robot)
        problems += view_problems(("cameras", name), camera)
        problems += source_problems(("cameras", name), camera)
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
    problems += device_problems(robot.cameras)
    if robot.base is not None:
        problems += _stream_problems(("base", "odometry"), robot.base.odometry)
    problems += base_problems(robot)
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
    problems += topic_problems(robot)
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
        yield from gripper_problems((*at, "gripper"), arm, gripper)


def _rate_problems(at: KeyPath, arm: Arm, robot: Robot) -> Iterator[Problem]:
    """Joint states slower than commands: an aggregated /joint_states, most often."""
    if arm.states.rate_hz < robot.control.rate_hz:
        yield Problem(
            at,
            f"{arm.states.rate_hz:g} Hz",
            f"at least control.rate_hz = {robot.control.rate_hz:g}: what each command is checked against has "
            "to be measured since the one before",
            "name the topic of the arm's own broadcaster, not an aggregated /joint_states (franka_ros2's "
            "comes at 30 Hz; its franka_robot_state_broadcaster/measured_joint_states at 1000), or lower "
            "control.rate_hz",
        )


def _box_problems(at: KeyPath, box: Box) -> Iterator[Problem]:
    for axis, low, high in zip(range(3), box.min, box.max, strict=True):
        if low >= high:
            yield Problem((*at, "min", axis), f"{low} m", f"less than max[{axis}] = {high} m", "swap the two")


def _mounting_problems(robot: Robot) -> Iterator[Problem]:
    """What the distance between arms, and from boxes, needs to know."""
    several = len(robot.arms) > 1
    seen: dict[tuple[float, ...], str] = {}
    for name, arm in robot.arms.items():
        if several and "base_pose" not in arm.model_fields_set:
            yield Problem(
                ("arms", name, "base_pose"),
                "nothing, though there are several arms",
                "where its base_frame lies in the frame that all arms share",
                "add base_pose: {position: [x, y, z], rpy: [roll, pitch, yaw]}",
            )
        pose = (*arm.base_pose.position, *arm.base_pose.rpy)
        if pose in seen and "base_pose" in arm.model_fields_set:
            yield Problem(
                ("arms", name, "base_pose"),
                f"arm '{name}' standing where arm '{seen[pose]}' stands",
                "where its base_frame lies in the frame that all arms share",
                "correct one of the two",
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
            "write more than one period",
        )
