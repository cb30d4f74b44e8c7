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
