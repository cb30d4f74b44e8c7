"""A gripper in its driver's own units: straight lines through closed and open.

Policies, limits and records know a gripper by its opening width in m; what its driver reads and takes may be
metres of one finger, radians of a motor or its counts, and may fall while the gripper opens.
"""

from __future__ import annotations

import math

from vla_ros.errors import Refused
from vla_ros.robot.config import Gripper


def width_read(gripper: Gripper, reading: float) -> float:
    """Opening width (m) of what its joints' positions sum up to; beyond closed and open the line goes on."""
    return _along(reading, gripper.reads or gripper.width, gripper.width)


def reading_at(gripper: Gripper, width: float) -> float:
    """What the joints' positions sum up to at an opening width (m): the inverse of `width_read`."""
    return _along(width, gripper.width, gripper.reads or gripper.width)


def command_for(gripper: Gripper, width: float) -> float:
    """What the driver is sent for an opening width (m), which is first brought into the YAML's range.

    Drivers abort a goal beyond their range (franka_gripper does), while a policy may well ask for a hair
    more than open. Raises Refused "nan".
    """
    if not math.isfinite(width):
        raise Refused("nan", f"gripper width is {width}")
    low, high = gripper.width
    return _along(min(max(float(width), low), high), gripper.width, gripper.commands or gripper.width)


def width_commanded(gripper: Gripper, command: float) -> float:
    """Opening width (m) that a command stands for: the inverse of `command_for` within the range."""
    return _along(command, gripper.commands or gripper.width, gripper.width)


def _along(value: float, line: tuple[float, float], other: tuple[float, float]) -> float:
    if line == other:
        return float(value)
    share = (value - line[0]) / (line[1] - line[0])
    # So that both ends come out exactly.
    return (1.0 - share) * other[0] + share * other[1]
