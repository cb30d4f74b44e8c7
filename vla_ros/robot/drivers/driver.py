"""What all drivers have in common."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from vla_ros.errors import Refused
from vla_ros.robot.config import Gripper
from vla_ros.robot.grippers import command_for
from vla_ros.types import FloatArray, Motion


@dataclass(frozen=True)
class Call:
    """A service that has to have been called before a driver's first command.

    what: what it does, for people; wrong: what a response says is wrong, "" where it worked; then: steps that
    the response makes necessary, to be taken next.
    """

    what: str
    service: str
    service_type: type
    request: Any
    wrong: Callable[[Any], str] = lambda response: ""
    then: Callable[[Any], tuple[Call, ...]] = lambda response: ()


@dataclass(frozen=True)
class Send:
    """A message that has to have been sent before a driver's first command, where somebody listens."""

    what: str
    topic: str
    message: Any


@dataclass(frozen=True)
class Goal:
    """A goal of an action that has to succeed."""

    what: str
    action: str
    action_type: type
    goal: Any


StartStep = Call | Send


@dataclass(frozen=True)
class Recovery:
    """What has a driver obey again after a fault. Only ever done because an operator decided so.

    warning: what the robot does meanwhile, which has to be confirmed; "" where nothing moves.
    """

    steps: tuple[Call | Goal, ...]
    warning: str = ""


class Driver(Protocol):
    """A driver's topic and how a motion is said on it. One stream of commands, in order of time.

    goes_on: whether the driver goes on to rest along the last message where no more come; others stay at the
    one position they know. settle_ns: how long it is given at the start of a stream to bring its own
    reference there, before the arm sets off. with_gripper: whether its messages hold the gripper.

    What a driver remembers it replaces and never changes in place, so that a message made on a copy of it
    leaves no trace where it is not sent.
    """

    goes_on: ClassVar[bool]
    settle_ns: ClassVar[int]
    with_gripper: ClassVar[bool]
    topic: str
    message_type: type

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """The message that commands `motion`, or None where there is nothing new to say.

        motion: joints in the order of the YAML's `joints`. tool_pose: 4x4, forward(motion.q[0]), tool in base
        frame. gripper: opening width in m to be sent now, which with_gripper needs. stamp_ns: now, ROS clock,
        to which motion.after_s refers.

        Raises Refused: "incomplete" (wrong shape, no gripper where there must be one), "nan" (not finite).
        """
        ...

    def start_steps(self) -> tuple[StartStep, ...]:
        """What the driver needs, in this order, before its first command."""
        ...

    def recovery(self) -> Recovery | None:
        """What it needs after a fault, where the YAML says how; None where it does not, or nothing can."""
        ...


def checked(motion: Motion, joints: int) -> FloatArray:
    """q, v and a of every row, [P, 3, J]."""
    rows = len(motion.after_s)
    for name, values in (("q", motion.q), ("v", motion.v), ("a", motion.a)):
        if np.shape(values) != (rows, joints):
            found = f"{name} of a motion has shape {np.shape(values)}"
            raise Refused("incomplete", f"{found}, expected ({rows}, {joints})")
    together = np.stack([motion.q, motion.v, motion.a], axis=1)
    if not np.isfinite(together).all():
        raise Refused("nan", f"joint command is not finite: {together.tolist()}")
    return together


def doubles(values: FloatArray) -> array[float]:
    """For a message's float64[]: rclpy copies an array.array as it is, and looks at each number of a list."""
    doubles = array("d")
    doubles.frombytes(values.tobytes())
    return doubles


def checked_pose(tool_pose: FloatArray) -> None:
    """Raise Refused, "incomplete" or "nan", for what is no pose, 4x4."""
    if np.shape(tool_pose) != (4, 4):
        raise Refused("incomplete", f"tool pose has shape {np.shape(tool_pose)}, expected (4, 4)")
    if not np.isfinite(tool_pose).all():
        raise Refused("nan", f"tool pose is not finite: {np.asarray(tool_pose).tolist()}")


def checked_gripper(gripper: Gripper, width: float | None) -> float:
    """What the driver is sent for a width that has to be known. Raises Refused "incomplete" and "nan"."""
    if width is None:
        raise Refused(
            "incomplete",
            "the arm's message holds the gripper, and where that is is not known; nothing is sent",
        )
    return command_for(gripper, width)
