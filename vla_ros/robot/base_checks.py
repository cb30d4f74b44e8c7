"""What must hold of a mobile base's keys."""

from __future__ import annotations

from collections.abc import Iterator

from vla_ros.robot.config import MobileBase, Robot
from vla_ros.robot.topics import tokens
from vla_ros.robot.yaml_lines import KeyPath, Problem

# Of the seconds after a press that a base still goes on, by v^2 / 2a: 0.75 m from 1 m/s in this time.
LONGEST_STOP_S = 1.5
_AXES = (("m/s", "m/s^2"), ("rad/s", "rad/s^2"))


def base_problems(robot: Robot) -> Iterator[Problem]:
    """Mistakes in a base's keys that concern several of them, or the arms'."""
    base = robot.base
    if base is None:
        return
    if "base" in robot.arms:
        yield Problem(
            ("arms", "base"),
            "an arm called 'base', though the robot has a base",
            "another name: base/... are the base's channels",
            "rename the arm",
        )
    for index, (velocity, acceleration) in enumerate(
        zip(base.limits.velocity, base.limits.acceleration, strict=True)
    ):
        speed, change = _AXES[index]
        if velocity / acceleration > LONGEST_STOP_S:
            yield Problem(
                ("base", "limits", "acceleration", index),
                f"{acceleration:g} {change}: to stop from {velocity:g} {speed} takes "
                f"{velocity / acceleration:.3g} s, and {velocity**2 / (2 * acceleration):.3g} {speed[:-2]}",
                f"at least {velocity / LONGEST_STOP_S:.3g} {change}, for a stop within {LONGEST_STOP_S:g} s",
                "raise it, or lower the velocity",
            )
    yield from _topic_problems(base)


def _topic_problems(base: MobileBase) -> Iterator[Problem]:
    """Odometry and commands that were taken for each other, as far as their names tell."""
    path: KeyPath = ("base", "twist", "topic")
    if any(word.startswith("odom") for word in tokens(base.twist.topic)):
        yield Problem(
            path,
            f"{base.twist.topic}, which is called like odometry",
            "the topic that the base takes velocities on, such as /cmd_vel",
            "name that one; base.odometry.topic is the place for this one",
        )
    path = ("base", "odometry", "topic")
    if {"cmd", "vel"} <= set(tokens(base.odometry.topic)):
        yield Problem(
            path,
            f"{base.odometry.topic}, which is called like commands",
            "the topic that the base publishes its odometry on, such as /odom",
            "name that one; base.twist.topic is the place for this one",
        )
