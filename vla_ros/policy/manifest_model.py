"""What the parts of a manifest have in common."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

PositiveInt = Annotated[int, Field(gt=0)]
Rot6d = Literal["columns", "columns_interleaved", "rows"]

# Values per signal; joint positions have as many as the arm has joints.
SIGNAL_SIZES = {"tcp_position": 3, "tcp_rot6d": 6, "gripper": 1, "gripper_width": 1}


def check_slice(signal: str, size: int, rot6d: str | None) -> None:
    """Raise ValueError when a slice's size or rotation layout does not fit its signal."""
    expected = SIGNAL_SIZES.get(signal, size)
    if size != expected:
        raise ValueError(f"{signal} has {expected} values, not {size}")
    if (signal == "tcp_rot6d") != (rot6d is not None):
        raise ValueError("rot6d (the layout) is needed for tcp_rot6d, and only there")


class Model(BaseModel):
    """Unknown keys are refused, and nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)
