"""Could a bundle's statistics be those of this robot? Wrong units, and most wrong conventions, could not."""

from __future__ import annotations

import numpy as np

from vla_ros.policy.manifest_inputs import StateSlice
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.robot.config import Arm, Safety
from vla_ros.types import FloatArray

# Commands may ask for a little more than there is, and sensors overshoot: this part of a range.
MARGIN = 0.1
# A tool may have been anywhere in another laboratory: this part of the workspace's size.
TOOL_MARGIN = 1.0


def outside(
    part: StateSlice | ActionSlice, q01: FloatArray, q99: FloatArray, arm: Arm, safety: Safety
) -> str:
    """What part of a slice's quantiles [size] this arm cannot have, in words; "" where it can have them all.

    Joint positions and gripper widths are compared with the arm's own, tool positions with the workspace,
    rotations with the entries of a rotation matrix, and a gripper's commands with the manifest's 0 to 1.
    """
    low, high, unit = _possible(part, arm, safety)
    for index, (least, most) in enumerate(zip(q01, q99, strict=True)):
        if not (low[index] <= least <= high[index] and low[index] <= most <= high[index]):
            return (
                f"value {index} spans {least:.4g} to {most:.4g}, but must lie within "
                f"{low[index]:.4g} to {high[index]:.4g} {unit}".rstrip()
            )
    return ""


def _possible(part: StateSlice | ActionSlice, arm: Arm, safety: Safety) -> tuple[FloatArray, FloatArray, str]:
    """(lowest, highest) value [size] with its margin, and their unit."""
    unit, margin = "m", MARGIN
    if part.signal == "joint_position":
        unit = "rad"
        low, high = np.array(arm.limits.position, dtype=np.float64).T
    elif part.signal == "gripper_width" and arm.gripper is not None:
        low, high = (np.array([width]) for width in arm.gripper.width)
    elif part.signal == "tcp_position":
        low, high = np.array(safety.workspace.min), np.array(safety.workspace.max)
        margin = TOOL_MARGIN
        if isinstance(part, ActionSlice) and part.reference == "eef_relative":
            reach = float(np.linalg.norm(high - low))
            low, high = np.full(3, -reach), np.full(3, reach)
    else:
        unit = ""
        high = np.ones(part.size)
        low = -high if part.signal == "tcp_rot6d" else 0 * high
    return low - margin * (high - low), high + margin * (high - low), unit
