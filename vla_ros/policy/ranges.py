"""Could a bundle's statistics be those of this robot? Wrong units, and most wrong conventions, could not."""

from __future__ import annotations

import numpy as np

from vla_ros.action.grippers import gripper_from_width
from vla_ros.observation.proprioception import gripper_signal
from vla_ros.policy.manifest_inputs import StateSlice
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.robot.config import Arm, BaseLimits, Safety
from vla_ros.types import FloatArray

# (lowest, highest, their unit): a possible range of a slice's values, with a margin.
Range = tuple[FloatArray, FloatArray, str]

# Commands may ask for a little more than there is, and sensors overshoot: this part of a range.
MARGIN = 0.1
# The robot's limits may be set lower than those it was taught with: this part of their range.
VELOCITY_MARGIN = 1.0
# A tool may have been anywhere in another laboratory: this part of the workspace's size.
TOOL_MARGIN = 1.0


def beyond(q01: FloatArray, q99: FloatArray, low: FloatArray, high: FloatArray, unit: str) -> str:
    """Which of the quantiles lie outside [low, high], in words; "" where none does. All [N]; where nothing is
    known of a value (NaN) there is nothing to compare."""
    for index, (least, most) in enumerate(zip(q01, q99, strict=True)):
        known = np.array([least, most])[~np.isnan([least, most])]
        if not np.all((low[index] <= known) & (known <= high[index])):
            return (
                f"value {index} spans {least:.4g} to {most:.4g}, but must lie within "
                f"{low[index]:.4g} to {high[index]:.4g} {unit}".rstrip()
            )
    return ""


def possible_base(limits: BaseLimits) -> Range:
    """(lowest, highest) velocity [2] of a base, asked for or measured, with a margin, and their unit."""
    high = (1 + 2 * VELOCITY_MARGIN) * np.array(limits.velocity)
    return -high, high, "(m/s, rad/s)"


def possible_state(part: StateSlice, arm: Arm, safety: Safety) -> Range:
    """(lowest, highest) value [size] of a state slice with a margin, and their unit.

    From the arm's joint limits, the gripper's width and the workspace, in the slice's own convention.
    """
    unit, margin = "", MARGIN
    if part.signal == "joint_position":
        unit = "rad"
        ends = np.array(arm.limits.position, dtype=np.float64).T * np.array(part.signs or [1])
        low, high = ends.min(axis=0), ends.max(axis=0)
    elif part.signal == "gripper" and arm.gripper is not None:
        unit = "m" if part.gripper is not None and part.gripper.unit == "width_m" else ""
        ends = np.array([gripper_signal(part, width, arm.gripper.width) for width in arm.gripper.width])
        low, high = ends.min(axis=0), ends.max(axis=0)
    elif part.signal == "tcp_position":
        unit, margin = "m", TOOL_MARGIN
        low, high = np.array(safety.workspace.min), np.array(safety.workspace.max)
    else:
        largest = np.pi if part.rotation is not None and part.rotation.startswith(("euler_", "axis")) else 1.0
        high = np.full(part.size, largest)
        low = -high
    return low - margin * (high - low), high + margin * (high - low), unit


def possible_action(part: ActionSlice, arm: Arm, safety: Safety) -> Range:
    """(lowest, highest) value [size] of an action slice with a margin, and their unit.

    From the arm's joint limits, the gripper's width and the workspace, in the slice's own convention: what is
    relative lies within the whole range, either way.
    """
    unit, margin = "", MARGIN
    if part.signal == "joint_velocity":
        unit, margin = "rad/s", VELOCITY_MARGIN
        high = np.array(arm.limits.velocity, dtype=np.float64)
        low = -high
    elif part.signal == "joint_position":
        unit = "rad"
        ends = np.array(arm.limits.position, dtype=np.float64).T
        signed = ends * np.array(part.signs or [1])
        absolute = np.full(part.size, part.reference == "absolute") | ~np.array(part.mask or [True])
        low = np.where(absolute, signed.min(axis=0), ends[0] - ends[1])
        high = np.where(absolute, signed.max(axis=0), ends[1] - ends[0])
    elif part.signal == "gripper" and part.gripper is not None and arm.gripper is not None:
        unit = {"width_m": "m", "finger_m": "m", "joint_rad": "rad"}.get(part.gripper.unit, "")
        ends = gripper_from_width(arm.gripper.width, part.gripper, arm.gripper.width)
        if part.gripper.unit == "logit":
            ends = np.array([-np.inf, np.inf])
        low, high = ends.min(keepdims=True), ends.max(keepdims=True)
    elif part.signal == "tcp_position":
        unit, margin = "m", TOOL_MARGIN
        low, high = np.array(safety.workspace.min), np.array(safety.workspace.max)
        if part.reference != "absolute":
            reach = float(np.linalg.norm(high - low))
            low, high = np.full(3, -reach), np.full(3, reach)
    else:
        angles = part.rotation is not None and part.rotation.startswith(("euler_", "axis_angle"))
        high = np.full(part.size, 2 * np.pi if angles else 1.0)
        low = -high
    return low - margin * (high - low), high + margin * (high - low), unit
