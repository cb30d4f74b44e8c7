"""The topics that a robot YAML names: which are what, and that they do not contradict each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vla_ros.robot.config import Arm, Robot
from vla_ros.robot.config_fields import Model
from vla_ros.robot.yaml_lines import KeyPath, Problem, key_text


@dataclass(frozen=True)
class Named:
    """A topic (or an action) that the YAML names at `path`; what: joint states, commands, images, ..."""

    path: KeyPath
    topic: str
    what: str


def arm_topics(name: str, arm: Arm) -> list[Named]:
    """What arm `name` is measured and commanded on: joint states first; of drivers only the chosen."""
    at: KeyPath = ("arms", name)
    found = [Named((*at, "states", "topic"), arm.states.topic, "joint states")]
    driver = getattr(arm.drivers, arm.driver)
    if driver is not None:
        found.append(Named((*at, "drivers", arm.driver, "topic"), driver.topic, "commands"))
    if arm.published_pose is not None:
        found.append(Named((*at, "published_pose", "topic"), arm.published_pose.topic, "tool pose"))
    gripper = arm.gripper
    if gripper is not None:
        found.append(Named((*at, "gripper", "states", "topic"), gripper.states.topic, "joint states"))
        if gripper.action is not None:
            found.append(
                Named((*at, "gripper", "action", "action"), gripper.action.action, "gripper commands")
            )
        if gripper.interbotix is not None:
            path: KeyPath = (*at, "gripper", "interbotix", "topic")
            found.append(Named(path, gripper.interbotix.topic, "gripper commands"))
    return found


def arm_services(name: str, arm: Arm) -> list[Named]:
    """Services and actions of the chosen driver: what it needs at its start and after a fault."""
    at: KeyPath = ("arms", name, "drivers", arm.driver)
    found: list[Named] = []
    for key, value in getattr(arm.drivers, arm.driver) or ():
        if isinstance(value, Model):
            names = [(inner, text) for inner, text in value if isinstance(text, str) and inner != "hardware"]
            found += [Named((*at, key, inner), text, "services") for inner, text in names]
        elif key.endswith("_service") and value is not None:
            found.append(Named((*at, key), value, "services"))
    return found


def named_topics(robot: Robot) -> list[Named]:
    """Every topic that has to be there for this robot to run, in the order of the file."""
    found: list[Named] = []
    for name, arm in robot.arms.items():
        if arm.robot_description is not None:
            path: KeyPath = ("arms", name, "robot_description")
            found.append(Named(path, arm.robot_description, "robot description"))
        found += arm_topics(name, arm)
    if robot.base is not None:
        found.append(Named(("base", "odometry", "topic"), robot.base.odometry.topic, "odometry"))
        found.append(Named(("base", "twist", "topic"), robot.base.twist.topic, "base commands"))
    for name, camera in robot.cameras.items():
        found.append(Named(("cameras", name, "topic"), camera.topic, "images"))
        found.append(Named(("cameras", name, "camera_info"), camera.camera_info, "camera info"))
        realsense = camera.source.realsense if camera.source is not None else None
        if realsense is not None and realsense.depth_aligned is not None:
            at = ("cameras", name, "source", "realsense", "depth_aligned")
            found.append(Named(at, realsense.depth_aligned, "depth images"))
    return found


def command_topics(robot: Robot) -> list[str]:
    """The topics that a robot is commanded on (a gripper's action is none)."""
    return [
        named.topic
        for named in named_topics(robot)
        if named.what.endswith("commands") and named.path[-1] == "topic"
    ]


def topic_problems(robot: Robot) -> Iterator[Problem]:
    """Topics used for two things, commands that two arms would obey, and arms whose topics are crossed."""
    yield from _ambiguous(robot)
    yield from _shared(robot)
    arms = list(robot.arms.items())
    for index, (name, arm) in enumerate(arms):
        for other_name, other in arms[index + 1 :]:
            yield from _crossed(name, arm, other_name, other)
            yield from _crossed(other_name, other, name, arm)


def tokens(topic: str) -> list[str]:
    """The words of a topic: /follower_left/joint_states has follower, left, joint, states."""
    return [word for word in re.split(r"[/_]", topic) if word]


def _ambiguous(robot: Robot) -> Iterator[Problem]:
    first: dict[str, Named] = {}
    for named in named_topics(robot):
        known = first.setdefault(named.topic, named)
        if known.what != named.what:
            yield Problem(
                named.path,
                f"{named.topic} for {named.what}, which {key_text(known.path)} names for {known.what}",
                "one topic for one thing",
                "correct one of the two",
            )


def _shared(robot: Robot) -> Iterator[Problem]:
    """Two arms may publish on one topic under names of their own; they are never commanded on one."""
    commands: dict[str, str] = {}
    joints: dict[tuple[str, str], str] = {}
    for name, arm in robot.arms.items():
        for named in arm_topics(name, arm):
            if (
                named.what in ("commands", "gripper commands")
                and commands.setdefault(named.topic, name) != name
            ):
                yield Problem(
                    named.path,
                    f"{named.topic}, on which arm '{commands[named.topic]}' is commanded too",
                    "a topic of this arm's own",
                    "name this arm's",
                )
        streams: list[tuple[KeyPath, str, list[str]]] = [(("states",), arm.states.topic, arm.joints)]
        if arm.gripper is not None:
            streams.append((("gripper", "states"), arm.gripper.states.topic, arm.gripper.joints))
        for key, topic, names in streams:
            taken = next((joint for joint in names if joints.setdefault((topic, joint), name) != name), None)
            if taken is not None:
                yield Problem(
                    ("arms", name, *key, "topic"),
                    f"{topic}, where '{taken}' is a joint of arm '{joints[topic, taken]}'",
                    "a topic of this arm's own, or joint names of its own",
                    "name this arm's",
                )


def _crossed(name: str, arm: Arm, other_name: str, other: Arm) -> Iterator[Problem]:
    """Arm `name` measured in one namespace and commanded, or switched on, in the other arm's.

    The two words in which the topics of the joint states differ (left and right) tell the namespaces apart.
    """
    mine, others = tokens(arm.states.topic), tokens(other.states.topic)
    if len(mine) != len(others):
        return
    pairs = {pair for pair in zip(mine, others, strict=True) if pair[0] != pair[1]}
    if len(pairs) != 1:
        return
    ((own, foreign),) = pairs
    for named in [*arm_topics(name, arm)[1:], *arm_services(name, arm)]:
        words = tokens(named.topic)
        if foreign in words and own not in words:
            yield Problem(
                named.path,
                f"{named.topic}, beside the joint states of arm '{other_name}' ({other.states.topic})",
                f"{named.what} of this arm, whose joint states are on {arm.states.topic}",
                f"the topics of '{name}' and '{other_name}' are swapped: write '{own}' for '{foreign}' "
                "here, or swap the topics of the joint states",
            )
