"""A line of the contract between a policy and a robot."""

from __future__ import annotations

from dataclasses import dataclass

from vla_ros.policy.manifest import Manifest
from vla_ros.robot.config import Arm, Robot


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
