"""The manifest's outputs: what the network's numbers mean."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, model_validator

from vla_ros.policy.manifest_model import (
    GripperRule,
    Model,
    PositiveInt,
    Rotation,
    check_arm,
    check_part,
)

Signal = Literal[
    "tcp_position", "tcp_rotation", "joint_position", "joint_velocity", "gripper", "base_velocity", "padding"
]
Reference = Literal[
    "absolute",
    "world_relative",
    "world_delta",
    "eef_relative",
    "eef_delta",
    "bridge_delta",
    "relative",
    "delta",
]
TOOL_REFERENCES = ("absolute", "world_relative", "world_delta", "eef_relative", "eef_delta")
REFERENCES: dict[str, tuple[str, ...]] = {
    "tcp_position": (*TOOL_REFERENCES, "bridge_delta"),
    "tcp_rotation": TOOL_REFERENCES,
    "joint_position": ("absolute", "relative", "delta"),
}
JOINTS = ("joint_position", "joint_velocity")
Sign = Literal[-1, 1]


class ActionSlice(Model):
    """A part of an action row, of arm slot `arm` (a role: the robot's arms are matched in order).

    tcp_position   3, m; `reference`
    tcp_rotation   as many as its form has; `rotation` (the form) and `reference`
    joint_position one per joint, rad; `reference`; for relative ones `mask`, true where a joint is relative
                   and false where it is absolute (without it all are relative)
    joint_velocity one per joint, rad/s
    gripper        1; `gripper` (what its number means)
    base_velocity  2: forward m/s and turning rad/s; belongs to no arm
    padding        any number of columns without meaning; belongs to no arm

    reference: see `vla_ros.action.references`; position and rotation of one arm may have different ones.
    delta_base, for deltas and velocities: what a chunk's first row starts from, the `measured` state or the
    `last_target` (the measured state where nothing was asked for before). The rows after it start from the
    target before them. For relative references it may be given too: what all rows refer to, the measured
    state where it is not (X-VLA's client for the Google robot refers to its last target).
    signs, for joints: -1 where the policy counts a joint the other way round.
    """

    arm: str | None = None
    signal: Signal
    size: PositiveInt
    reference: Reference | None = None
    delta_base: Literal["measured", "last_target"] | None = None
    rotation: Rotation | None = None
    gripper: GripperRule | None = None
    mask: list[bool] | None = None
    signs: list[Sign] | None = None

    @property
    def is_delta(self) -> bool:
        """Whether rows start from the ones before them."""
        return self.signal == "joint_velocity" or str(self.reference).endswith("delta")

    @property
    def from_last_target(self) -> bool:
        """Whether the first row, or for relative references each, refers to the last target."""
        return self.delta_base == "last_target"

    @property
    def form(self) -> list[str]:
        """In which form the values are, in words."""
        found = [self.rotation] if self.rotation else []
        found += [str(self.reference)] if self.reference else []
        found += [f"from the {self.delta_base.replace('_', ' ')}"] if self.delta_base else []
        if self.gripper is not None:
            found.append(self.gripper.unit)
            binary = self.gripper.binary
            found += [f"closed or open by {binary.threshold:g}"] if binary is not None else []
        found += [f"signs {self.signs}"] if self.signs else []
        return found

    @model_validator(mode="after")
    def _fits(self) -> ActionSlice:
        check_part(self.signal, self.size, self.rotation)
        check_arm(self.signal, self.arm)
        if (self.gripper is not None) != (self.signal == "gripper"):
            raise ValueError("gripper (what its number means) is needed for gripper, and only there")
        self._check_reference()
        for name, values in (("mask", self.mask), ("signs", self.signs)):
            if values is not None and len(values) != self.size:
                raise ValueError(f"{name}: has {len(values)} entries for {self.size} joints")
        if self.mask is not None and self.reference != "relative":
            raise ValueError("mask is for relative joint positions")
        if self.signs is not None and self.signal not in JOINTS:
            raise ValueError("signs is for joints")
        return self

    def _check_reference(self) -> None:
        known = REFERENCES.get(self.signal, ())
        if known and self.reference is None:
            raise ValueError(f"reference: {self.signal} needs one of {', '.join(known)}")
        if self.reference is not None and self.reference not in known:
            expected = f"expected one of {', '.join(known)}" if known else "it takes none"
            raise ValueError(f"reference: {self.signal} cannot be {self.reference}; {expected}")
        relative = str(self.reference).endswith("relative")
        if self.is_delta and self.delta_base is None:
            raise ValueError("delta_base (measured or last_target) is needed for deltas and velocities")
        if self.delta_base is not None and not (self.is_delta or relative):
            raise ValueError(f"delta_base is for what is relative, not for {self.reference or self.signal}")
        if self.reference == "bridge_delta" and self.delta_base != "last_target":
            raise ValueError(
                "bridge_delta is from the last_target; from the measured state it is world_delta"
            )


class Outputs(Model):
    """`horizon` rows of the slices in `action`; row k (from 0) is due at stamp + (k + first_step) * step_s.

    dt_s: the time between rows. anchor_span_s, in its place: the last row is due so long after the
    observation, and the rows are spread evenly (X-VLA's 30 anchors over 4 s)."""

    horizon: PositiveInt
    dt_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    anchor_span_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    first_step: Literal[0, 1]
    action: Annotated[list[ActionSlice], Field(min_length=1)]

    @property
    def step_s(self) -> float:
        """The time between two rows, s."""
        if self.dt_s is not None:
            return self.dt_s
        assert self.anchor_span_s is not None
        return self.anchor_span_s / (self.horizon - 1 + self.first_step)

    @property
    def size(self) -> int:
        """K, the width of one action row."""
        return sum(part.size for part in self.action)

    @model_validator(mode="after")
    def _timed(self) -> Outputs:
        if (self.dt_s is None) == (self.anchor_span_s is None):
            raise ValueError(
                "exactly one of dt_s (time between rows) and anchor_span_s (time of the last row)"
            )
        if self.anchor_span_s is not None and self.horizon + self.first_step < 2:
            raise ValueError("anchor_span_s: one row at the observation's time spans nothing; use dt_s")
        return self

    @model_validator(mode="after")
    def _said_once(self) -> Outputs:
        parts = Counter((part.arm, part.signal) for part in self.action if part.signal != "padding")
        if not parts:
            raise ValueError("action: all of it is padding")
        twice = [f"{arm}.{signal}" if arm else signal for (arm, signal), n in parts.items() if n > 1]
        if twice:
            raise ValueError(f"action: {', '.join(twice)} appears twice")
        return self
