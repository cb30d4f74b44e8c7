"""Watchdogs: is a target near enough to be taken up, and is what we act on still fresh?"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vla_ros.action.rotations import angle_between, matrix_to_quaternion
from vla_ros.errors import Refused
from vla_ros.robot.config import Robot, Safety
from vla_ros.safety.joints import Measured
from vla_ros.types import FloatArray

MS = 1_000_000
# A stamp this far ahead of our clock means that the clocks differ, and then ages say nothing.
CLOCK_AHEAD_NS = 100 * MS


def check_near_joints(target: FloatArray, reference: FloatArray, safety: Safety, of_what: str) -> None:
    """Raises Refused("far") when a joint target [J] is further than `first_command_joint` from
    `reference` [J], rad."""
    apart = np.abs(target - reference)
    worst = int(np.argmax(apart))
    if not apart[worst] <= safety.first_command_joint:
        raise Refused(
            "far",
            f"joint {worst + 1} of the target is {apart[worst]:.3f} rad from {of_what}; at most "
            f"safety.first_command_joint = {safety.first_command_joint} rad is taken up",
        )


def check_near_pose(target: FloatArray, reference: FloatArray, safety: Safety, of_what: str) -> None:
    """Raises Refused("far") when a tool target [7] (x y z m, quaternion xyzw) is further from the pose
    `reference`, 4x4, than `first_command_position` m or `first_command_rotation` rad."""
    with np.errstate(over="ignore"):
        apart = float(np.linalg.norm(target[:3] - reference[:3, 3]))
    turned = float(angle_between(target[3:], matrix_to_quaternion(reference[:3, :3])))
    if not (apart <= safety.first_command_position and turned <= safety.first_command_rotation):
        raise Refused(
            "far",
            f"the tool target is {apart:.3f} m and {turned:.3f} rad from {of_what}; at most "
            f"safety.first_command_position = {safety.first_command_position} m and "
            f"safety.first_command_rotation = {safety.first_command_rotation} rad are taken up",
        )


def furthest_joint(
    robot: Robot, measured: Mapping[str, Measured], sent: Mapping[str, FloatArray]
) -> tuple[float, str]:
    """The joint that is measured furthest from what is sent, {arm: [J] rad}: how far, rad, and
    "arm: joint"."""
    furthest = (-1.0, "")
    for name, q in sent.items():
        apart = np.abs(measured[name].q - q)
        worst = int(np.argmax(apart))
        furthest = max(furthest, (float(apart[worst]), f"{name}: {robot.arms[name].joints[worst]}"))
    return furthest


def joint_states_fresh(stamp_ns: int | None, now_ns: int, safety: Safety) -> bool:
    """Whether joint states of `stamp_ns` may still be acted on at `now_ns`. A driver that goes silent and
    one that repeats an old stamp look alike."""
    if stamp_ns is None:
        return False
    return -CLOCK_AHEAD_NS <= now_ns - stamp_ns <= safety.joint_states_timeout_ms * MS


def chunks_ran_out(last_due_ns: int | None, time_ns: int, safety: Safety) -> bool:
    """Whether `time_ns` is past the last due step by more than the timeout."""
    return last_due_ns is None or time_ns - last_due_ns > safety.chunk_timeout_ms * MS


def age_text(stamp_ns: int | None, now_ns: int) -> str:
    """How old joint states are, for people."""
    if stamp_ns is None:
        return "no joint states have arrived"
    age = (now_ns - stamp_ns) / 1e6
    return f"the newest joint states are {age:.0f} ms old"
