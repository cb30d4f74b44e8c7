"""A line of the contract between a policy and a robot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vla_ros.action.normalise import Scaling
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.ranges import Range, beyond, possible_base
from vla_ros.robot.config import Arm, Robot

# A slice is of the action, or of the state that the policy is told.
Of = Literal["action", "state"]


@dataclass(frozen=True)
class ContractLine:
    """One thing that policy and robot must agree on. fix: what to do, empty when `ok`."""

    ok: bool
    what: str
    policy_says: str
    robot_says: str
    fix: str = ""


def paired(manifest: Manifest, robot: Robot, role: str) -> tuple[str, Arm] | None:
    """The robot's arm (name, arm) that plays `role`; None when the robot has too few."""
    index = manifest.arms.index(role)
    return list(robot.arms.items())[index] if index < len(robot.arms) else None


def gripper_line(manifest: Manifest, name: str, arm: Arm, robot: Robot) -> tuple[str, str]:
    """(what the robot says of the gripper of arm `name`, the fix where it has none)."""
    if arm.gripper is None:
        return "no gripper", (
            f"policy '{manifest.name}' needs a gripper on arm '{name}'; robot '{robot.name}' declares "
            f"none: add arms.{name}.gripper"
        )
    low, high = arm.gripper.width
    return f"{low:g} to {high:g} m, {arm.gripper.states.topic}", ""


def base_line(manifest: Manifest, robot: Robot, of: Of, columns: slice, scaling: Scaling) -> ContractLine:
    """The line of a slice base_velocity in `columns` of the action or the state."""
    what, wants = f"{of} base_velocity", "2"
    if robot.base is None:
        does, has, instead = {
            "action": ("drives a base", "takes none", "with these columns as padding"),
            "state": ("is told how fast a base moves", "has none", "without these values"),
        }[of]
        fix = (
            f"policy '{manifest.name}' {does} (base_velocity); robot '{robot.name}' {has}: export it "
            f"{instead}, or use a robot with a base"
        )
        return ContractLine(False, what, wants, "no base", fix)
    forward, turning = robot.base.limits.velocity
    topic = robot.base.twist.topic if of == "action" else robot.base.odometry.topic
    says = f"up to {forward:g} m/s and {turning:g} rad/s either way, {topic}"
    fix = statistics_fix(manifest, robot, of, what, columns, scaling, possible_base(robot.base.limits))
    return ContractLine(not fix, what, wants, says, fix)


def statistics_fix(
    manifest: Manifest, robot: Robot, of: Of, what: str, columns: slice, scaling: Scaling, possible: Range
) -> str:
    """The fix where the statistics of `columns` cannot be of this robot, "" where they can."""
    low, high = scaling.extent
    wrong = beyond(low[columns], high[columns], *possible)
    if not wrong:
        return ""
    normalisation = manifest.normalisation
    file = normalisation.action.file if of == "action" else normalisation.proprio.file
    return (
        f"policy '{manifest.name}': {file}: {what}: {wrong}: statistics of another robot or in other units; "
        f"export it with those of '{robot.name}'"
    )
