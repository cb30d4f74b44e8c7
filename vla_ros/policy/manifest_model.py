"""The vocabulary that the parts of a manifest share: what a vector's entries may mean."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vla_ros.action.rotations import rotation_size

PositiveInt = Annotated[int, Field(gt=0)]


class Model(BaseModel):
    """Unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def check_part(signal: str, size: int, rotation: str | None) -> None:
    """Raise ValueError when a slice's size or rotation does not fit its signal."""
    if (signal == "tcp_rotation") != (rotation is not None):
        raise ValueError("rotation (the form) is needed for tcp_rotation, and only there")
    fixed = {"tcp_position": 3, "gripper": 1, "base_velocity": 2}
    expected = rotation_size(rotation) if rotation is not None else fixed.get(signal, size)
    if size != expected:
        raise ValueError(f"{rotation or signal} has {expected} values, not {size}")


def check_arm(signal: str, arm: str | None) -> None:
    """Raise ValueError when a slice names an arm and belongs to none, or the other way round."""
    if (arm is None) != (signal in ("base_velocity", "padding")):
        raise ValueError("arm is needed for all signals but base_velocity and padding, and only there")


def _known_rotation(rotation: str) -> str:
    rotation_size(rotation)
    return rotation


# The name of a form that rotations are spoken in: rot6d_columns, axis_angle, euler_xyz, ...; see
# `vla_ros.action.rotations`.
Rotation = Annotated[str, AfterValidator(_known_rotation)]


def _is_rotation(rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
    R = np.array(rows)
    if not (np.allclose(R @ R.T, np.eye(3), atol=1e-6) and np.linalg.det(R) > 0):
        raise ValueError("not a rotation matrix: its rows must be of length 1, at right angles, right-handed")
    return rows


Row = tuple[float, float, float]
# A constant rotation, three rows of three.
RotationMatrix = Annotated[tuple[Row, Row, Row], AfterValidator(_is_rotation)]


class GripperUnit(Model):
    """What a gripper's number means; f is how far it is open, 0 closed to 1 open.

    open_fraction  f
    closed_fraction  1 - f
    signed         2 f - 1 where `open_is` is 1, 1 - 2 f where it is -1
    logit          f is its sigmoid where `open_is` is 1, 1 - f where it is -1
    width_m        the opening width in m
    finger_m, joint_rad  a finger's travel in m or an angle in rad, on the straight line through `closed`
                   (its value at f = 0) and `open` (at f = 1)

    f = 0 and f = 1 are the two ends of the robot YAML's gripper.width.
    """

    unit: Literal[
        "open_fraction", "closed_fraction", "signed", "logit", "width_m", "finger_m", "joint_rad"
    ]  # fmt: skip
    open_is: Literal[-1, 1] | None = None
    closed: float | None = Field(default=None, allow_inf_nan=False)
    open: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _explicit(self) -> GripperUnit:
        if (self.open_is is not None) != (self.unit in ("signed", "logit")):
            raise ValueError("open_is (1 or -1) is needed for signed and logit, and only there")
        points = self.unit in ("finger_m", "joint_rad")
        if (self.closed is not None) != points or (self.open is not None) != points:
            raise ValueError("closed and open are needed for finger_m and joint_rad, and only there")
        if points and self.closed == self.open:
            raise ValueError(f"closed and open are the same, {self.closed}")
        return self


class Binary(Model):
    """The gripper is only ever closed or open: the side of `threshold` that a value lies on decides.

    threshold: in the unit's own values (a logit's after its sigmoid). From a value to the other side it takes
    more than `hysteresis` beyond the threshold; a value in between, or on the threshold, changes nothing.
    sticky_steps: for so many rows, its own counted, a change stays whatever comes (SimplerEnv's sticky
    gripper).
    """

    threshold: Annotated[float, Field(allow_inf_nan=False)]
    hysteresis: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    sticky_steps: PositiveInt = 1


class GripperRule(GripperUnit):
    """How a policy commands a gripper: any width, or, where `binary` is given, closed and open only."""

    binary: Binary | None = None
