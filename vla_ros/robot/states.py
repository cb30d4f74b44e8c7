"""Joint states by name: never by index, never filled in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vla_ros.errors import Refused
from vla_ros.robot.config import Gripper
from vla_ros.robot.grippers import width_read
from vla_ros.types import FloatArray

# Joint states that differ by more than an arm can move are no motion. Arms are faster than the limits set for
# them: this many times, and a jump of this much is let pass as noise or as a state that was late, rad.
FASTER, JUMP = 2.0, 0.05


def positions_by_name(names: Sequence[str], positions: Sequence[float], wanted: Sequence[str]) -> FloatArray:
    """The positions of the joints `wanted`, float64 [J], out of a JointState's names and positions.

    Other joints in the message are ignored, and their order does not matter.

    Raises Refused: "missing_joint" (one is not in the message), "incomplete" (names and positions
    differ in number), "duplicate_joint" (a wanted name comes twice), "nan" (not finite).
    """
    if len(names) != len(positions):
        raise Refused("incomplete", f"joint state has {len(names)} names but {len(positions)} positions")
    # Later entries win here; a wanted name that comes twice is found by the count below.
    found = dict(zip(names, positions, strict=True))
    try:
        values = [float(found[name]) for name in wanted]
    except KeyError:
        missing = [name for name in wanted if name not in found]
        raise Refused("missing_joint", f"joint state lacks {missing}; it has {list(names)}") from None
    if len(found) != len(names):
        twice = sorted({name for name in wanted if list(names).count(name) > 1})
        if twice:
            raise Refused("duplicate_joint", f"joint state names {twice} more than once")
    if not all(map(math.isfinite, values)):
        bad = {name: value for name, value in zip(wanted, values, strict=True) if not math.isfinite(value)}
        raise Refused("nan", f"joint state is not finite: {bad}")
    return np.array(values)


def gripper_width(gripper: Gripper, names: Sequence[str], positions: Sequence[float]) -> float:
    """Opening width in m, out of the sum of the positions of the gripper's joints.

    Raises Refused as `positions_by_name`.
    """
    return width_read(gripper, float(positions_by_name(names, positions, gripper.joints).sum()))
