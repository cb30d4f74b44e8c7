"""Watchdogs: is a target near enough to be taken up, and is what we act on still fresh?"""

from __future__ import annotations

import numpy as np

from vla_ros.action.rotations import angle_between, matrix_to_quaternion
from vla_ros.errors import Refused
from vla_ros.robot.config import Safety
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


def fresh(stamp_ns: int | None, now_ns: int, most_ms: float) -> bool:
    """Whether what was measured at `stamp_ns` may still be acted on at `now_ns`. A driver that goes silent
    and one that repeats an old stamp look alike."""
    if stamp_ns is None:
        return False
    return -CLOCK_AHEAD_NS <= now_ns - stamp_ns <= most_ms * MS


def age_text(what: str, stamp_ns: int | None, now_ns: int) -> str:
    """How old what was measured is, for people; what: joint states, odometry."""
    if stamp_ns is None:
        return f"no {what} came yet"
    if now_ns == 0:
        return f"no time yet to tell the age of {what} by: use_sim_time is set, and nobody publishes /clock"
    return f"the newest {what}: {(now_ns - stamp_ns) / 1e6:.0f} ms old"
