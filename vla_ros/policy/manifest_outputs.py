"""The manifest's outputs: what the network's numbers mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vla_ros.policy.manifest_model import Model, PositiveInt, Rot6d, check_slice


class ActionSlice(Model):
    """A part of an action row. `reference` for tool poses: `eef_relative` is T0^-1 * Tk with T0 the
    measured pose at the observation's time; `absolute` is in the arm's base frame."""

    arm: str
    signal: Literal["tcp_position", "tcp_rot6d", "gripper", "joint_position"]
    size: PositiveInt
    reference: Literal["eef_relative", "absolute"]
    rot6d: Rot6d | None = None

    @model_validator(mode="after")
    def _fits(self) -> ActionSlice:
        check_slice(self.signal, self.size, self.rot6d)
        if self.reference == "eef_relative" and not self.signal.startswith("tcp_"):
            raise ValueError(f"{self.signal} cannot be eef_relative")
        return self


class GripperRule(Model):
    """A gripper value v in [0, 1] with 1 = open when `open_is` is 1. It switches to open above
    `threshold + hysteresis` and to closed below `threshold - hysteresis`, else it stays."""

    open_is: Literal[0, 1]
    threshold: float
    hysteresis: Annotated[float, Field(ge=0)]


class Outputs(Model):
    """horizon rows, dt_s apart; row k (from 0) is due at stamp + (k + first_step) * dt_s."""

    horizon: PositiveInt
    dt_s: Annotated[float, Field(gt=0)]
    first_step: Literal[0, 1]
    action: list[ActionSlice]
    gripper: GripperRule

    @property
    def size(self) -> int:
        """K, the width of one action row."""
        return sum(part.size for part in self.action)
