"""What must hold of how an arm and its gripper are driven, and of where cameras are mounted."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pinocchio as pin

from vla_ros.robot.config import Arm, Gripper, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.config_drivers import Enable
from vla_ros.robot.drivers import WITH_GRIPPER
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.urdf import MOVABLE, Description
from vla_ros.robot.words import advice, quoted
from vla_ros.robot.yaml_lines import KeyPath, Problem

# What Piper_ros looks for in a JointState; it drives a joint to 0 rad that it does not find.
PIPER_JOINTS = tuple(f"joint{index}" for index in range(1, 7))
AGILEX_JOINTS = 6
_FOR_SHADOWS = ("registers", "reboot_service", "torque_service")
_GRIPPER_DRIVERS = ("action", "interbotix", "with_arm")
# Rounding in a YAML or a URDF is not a looser limit.
ROUNDING = 1e-6


def driver_problems(at: KeyPath, arm: Arm) -> Iterator[Problem]:
    """Mistakes in the choice and the entries of an arm's driver; at: the arm's path."""
    chosen = [name for name in type(arm.drivers).model_fields if getattr(arm.drivers, name) is not None]
    if arm.driver not in chosen:
        yield Problem(
            (*at, "driver"),
            f"'{arm.driver}', which has no entry under drivers",
            f"one of {quoted(chosen)}" if chosen else "an entry under drivers",
            f"add {arm.driver}: under drivers" + (" or choose another" if chosen else ""),
        )
    for name in chosen:
        enable = getattr(getattr(arm.drivers, name), "enable", None)
        if enable is not None:
            yield from _enable_problems((*at, "drivers", name, "enable"), enable)
    yield from _shadow_problems((*at, "drivers", "interbotix", "shadows"), arm)
    if arm.driver == "piper_joint" and tuple(arm.joints) != PIPER_JOINTS:
        yield Problem(
            (*at, "joints"),
            quoted(arm.joints),
            f"{quoted(PIPER_JOINTS)}, in this order: Piper_ros drives a joint to 0 rad that it does not find",
            "name the joints so, in the URDF too",
        )
    elif arm.driver in WITH_GRIPPER and len(arm.joints) != AGILEX_JOINTS:
        yield Problem(
            (*at, "joints"),
            f"{len(arm.joints)} joints",
            f"{AGILEX_JOINTS}, for the driver takes what follows them for the gripper",
            "name exactly those",
        )
    if arm.driver in WITH_GRIPPER and (arm.gripper is None or arm.gripper.with_arm is None):
        yield Problem(
            (*at, "gripper"),
            "no gripper with with_arm",
            f"one, for the messages of {arm.driver} hold the gripper too, and one that is left out is closed",
            "add gripper: with with_arm: {joint: NAME}",
        )


def piper_tool_problems(
    at: KeyPath, arm: Arm, urdf: Description, kinematics: Kinematics
) -> Iterator[Problem]:
    """A tool frame elsewhere than the arm takes the poses for that piper_pose sends; at: the arm's path."""
    place = kinematics.model.frames[kinematics.tool].placement
    if arm.driver != "piper_pose" or np.abs(place.homogeneous - np.eye(4)).max() <= ROUNDING:
        return
    flange = urdf.joints[arm.joints[-1]].child
    yield Problem(
        (*at, "tool_frame"),
        f"'{arm.tool_frame}', {np.linalg.norm(place.translation):.3f} m and "
        f"{np.linalg.norm(pin.log3(place.rotation)):.3f} rad away from '{flange}'",
        f"'{flange}': the arm takes the poses of piper_pose for those of its last joint's link",
        f"write tool_frame: {flange} and tip_frame: {arm.tip_frame or arm.tool_frame}, or choose piper_joint",
    )


def gripper_problems(at: KeyPath, arm: Arm, gripper: Gripper) -> Iterator[Problem]:
    """Mistakes in a gripper's keys, without the URDF; at: the gripper's path, arm: whose it is."""
    chosen = [name for name in _GRIPPER_DRIVERS if getattr(gripper, name) is not None]
    if len(chosen) != 1:
        yield Problem(
            at,
            f"{' and '.join(chosen)} together" if chosen else f"none of {', '.join(_GRIPPER_DRIVERS)}",
            f"exactly one of {', '.join(_GRIPPER_DRIVERS)}",
            "keep the one by which the gripper is commanded" if chosen else "say how it is commanded",
        )
    driver = arm.driver
    if gripper.with_arm is not None and driver not in WITH_GRIPPER:
        yield Problem(
            (*at, "with_arm"),
            f"with_arm, though the messages of '{driver}' hold no gripper",
            f"with_arm with {quoted(WITH_GRIPPER)} only",
            "give the gripper a driver of its own",
        )
    if driver == "piper_joint" and gripper.with_arm is not None and gripper.with_arm.joint != "gripper":
        yield Problem(
            (*at, "with_arm", "joint"),
            f"'{gripper.with_arm.joint}'",
            "'gripper', as Piper_ros calls it",
            "rename it",
        )
    entry = arm.drivers.interbotix
    service = entry.modes_service if entry is not None and driver == "interbotix" else None
    if gripper.interbotix is not None and gripper.interbotix.mode is not None and service is None:
        yield Problem(
            (*at, "interbotix", "mode"),
            f"'{gripper.interbotix.mode}', but no service to set it by",
            "the arm's drivers.interbotix.modes_service",
            "add modes_service: /NAME/set_operating_modes there",
        )
    low, high = gripper.width
    if low >= high:
        yield Problem((*at, "width"), f"[{low}, {high}]", "closed before open", "swap the two")
    elif gripper.action is not None and gripper.action.min_change_m >= high - low:
        yield Problem(
            (*at, "action", "min_change_m"),
            f"{gripper.action.min_change_m} m",
            f"less than the travel of {high - low:.4g} m",
            "write a smaller one",
        )
    for key, pair in (("reads", gripper.reads), ("commands", gripper.commands)):
        if pair is not None and pair[0] == pair[1]:
            yield Problem(
                (*at, key),
                f"[{pair[0]}, {pair[1]}]",
                "two values, for closed and for open, that differ",
                "write what the driver says or takes when closed and when open",
            )


def gripper_description_problems(
    at: KeyPath, gripper: Gripper, urdf: Description, source: str
) -> Iterator[Problem]:
    """Mistakes of a gripper against the URDF; at: the gripper's path, source: says which URDF.

    With `reads`, joints are the driver's own names in the driver's own units, which no URDF knows.
    """
    sound = True
    for index, name in enumerate(gripper.joints):
        joint, path = urdf.joints.get(name), (*at, "joints", index)
        if joint is None:
            sound = False
            if gripper.reads is None:
                yield Problem(
                    path,
                    f"'{name}', which is not in {source}",
                    f"one of {quoted(urdf.movable())}",
                    advice(
                        name,
                        urdf.movable(),
                        "write the joint as the URDF names it, or add reads: [closed, open] where the driver "
                        "has names of its own",
                    ),
                )
        elif joint.kind not in MOVABLE:
            sound = False
            yield Problem(
                path,
                f"'{name}', a {joint.kind} joint in {source}",
                "a revolute, continuous or prismatic joint",
                "name only joints that move",
            )
    if not sound or gripper.reads is not None:
        return
    joints, names = [urdf.joints[name] for name in gripper.joints], quoted(gripper.joints)
    travel = sum(joint.upper for joint in joints)
    if math.isfinite(travel) and gripper.width[1] > travel + ROUNDING:
        yield Problem(
            (*at, "width", 1),
            f"{gripper.width[1]} m",
            f"at most {travel:g} m, the sum of the URDF's upper limits of {names}",
            "lower it",
        )
    speed = sum(joint.velocity for joint in joints)
    if gripper.speed > speed + ROUNDING:
        yield Problem(
            (*at, "speed"),
            f"{gripper.speed} m/s",
            f"at most {speed:g} m/s, the sum of the URDF's velocities of {names}",
            "lower it",
        )
    effort = min(joint.effort for joint in joints)
    if gripper.action is not None and gripper.action.max_effort > effort + ROUNDING:
        yield Problem(
            (*at, "action", "max_effort"),
            f"{gripper.action.max_effort} N",
            f"at most the URDF's effort of {names}, {effort:g} N",
            "lower it",
        )


def mount_problems(at: KeyPath, camera: Camera, robot: Robot) -> Iterator[Problem]:
    """Mistakes in where a camera is mounted; at: the camera's path."""
    if camera.mount is not None and camera.mount.arm is not None and camera.mount.arm not in robot.arms:
        yield Problem(
            (*at, "mount", "arm"),
            f"'{camera.mount.arm}', which is no arm of this robot",
            f"one of {quoted(robot.arms)}",
            advice(camera.mount.arm, robot.arms, "name an arm, or none for the robot's common frame"),
        )


def _shadow_problems(at: KeyPath, arm: Arm) -> Iterator[Problem]:
    entry = arm.drivers.interbotix
    if entry is None or not entry.shadows:
        return
    missing = [key for key in _FOR_SHADOWS if getattr(entry, key) is None]
    if missing:
        yield Problem(
            at,
            f"{quoted(entry.shadows)} without {' and '.join(missing)}",
            f"{', '.join(_FOR_SHADOWS)} beside it: recovery reads, reboots and switches on each by name",
            f"add {' and '.join(missing)}, or leave shadows out",
        )


def _enable_problems(at: KeyPath, enable: Enable) -> Iterator[Problem]:
    if (enable.topic is None) == (enable.service is None):
        yield Problem(
            at,
            "neither" if enable.topic is None else "both",
            "exactly one of topic and service",
            "keep the service, which says whether it worked" if enable.topic else "add service: /enable_srv",
        )
