"""What must hold between a robot YAML and the URDF of each arm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from vla_ros.errors import KinematicsError
from vla_ros.robot.config import Arm, Robot
from vla_ros.robot.driver_checks import ROUNDING, gripper_description_problems, piper_tool_problems
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.urdf import MOVABLE, Description, parse_urdf
from vla_ros.robot.words import advice, quoted
from vla_ros.robot.yaml_lines import KeyPath, Problem
from vla_ros.types import FloatArray


def description_problems(robot: Robot, name: str, xml: str, source: str) -> list[Problem]:
    """Mistakes of arm `name` against a URDF (its text); `source` says which, in messages."""
    arm, at = robot.arms[name], ("arms", name)
    try:
        urdf = parse_urdf(xml)
    except KinematicsError as error:
        return [Problem((*at, "urdf"), f"a URDF that cannot be used ({error})", "a URDF", "correct the file")]
    problems = [*_joint_problems(at, arm, urdf, source), *_frame_problems(at, arm, urdf, source)]
    problems = problems or list(_chain_problems(at, arm, urdf, source))
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
    problems += piper_tool_problems(at, arm, urdf, kinematics)
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
    if arm.tip_frame is not None:
        frames.append((("tip_frame",), arm.tip_frame))
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


def _chain_problems(at: KeyPath, arm: Arm, urdf: Description, source: str) -> Iterator[Problem]:
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
    elif list(chain) != list(arm.joints):
        yield Problem(
            (*at, "joints"),
            f"the order {quoted(arm.joints)}",
            f"the order of the chain from '{arm.base_frame}' to '{arm.tool_frame}': {quoted(chain)}",
            "list them so, and home and the limits with them (joint states are read by name, in any order)",
        )
    if arm.tip_frame is not None and set(urdf.chain(arm.base_frame, arm.tip_frame) or ()) != set(chain or ()):
        yield Problem(
            (*at, "tip_frame"),
            f"'{arm.tip_frame}', which does not move with '{arm.tool_frame}' as one piece",
            "a link that is fixed to the last of the joints",
            "correct it, or remove it where the arm ends at its tool frame",
        )
    for name in chain or ():
        if urdf.joints[name].mimics:
            yield Problem(
                (*at, "joints"),
                f"'{name}' in the chain to '{arm.tool_frame}', which mimics '{urdf.joints[name].mimics}' in "
                f"{source}",
                "joints that each move by themselves",
                "choose frames with no mimic joint between them, or describe the linkage in the URDF by the "
                "joints that its motors move",
            )


def _cartesian_frame_problems(at: KeyPath, arm: Arm, xml: str, home: FloatArray) -> Iterator[Problem]:
    cartesian = arm.drivers.cartesian_pose
    if cartesian is None:
        return
    try:
        relabelled = Kinematics(xml, arm.joints, cartesian.frame, arm.tool_frame).forward(arm.home)
        same = bool(np.abs(relabelled - home).max() <= ROUNDING)
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
        if low < joint.lower - ROUNDING or high > joint.upper + ROUNDING:
            yield Problem(
                (*at, "limits", "position", index),
                f"[{low}, {high}] for {name}",
                f"limits inside the URDF's [{joint.lower:g}, {joint.upper:g}]",
                "tighten them",
            )
        velocity = arm.limits.velocity[index]
        if velocity > joint.velocity + ROUNDING:
            yield Problem(
                (*at, "limits", "velocity", index),
                f"{velocity} for {name}",
                f"at most the URDF's {joint.velocity:g}",
                "lower it",
            )
