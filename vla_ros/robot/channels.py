"""Channel names: the one vocabulary for targets on `/vla/action_chunk` and `/vla/command`."""

from __future__ import annotations

from functools import cache

# On `/vla/command`: what was wanted of a channel, before safety.
WANTED = "/wanted"
POSITION_AXES = ("x", "y", "z")
ORIENTATION_AXES = ("x", "y", "z", "w")


@cache
def joint_channels(arm: str, joints: int) -> tuple[str, ...]:
    """`arm/joint1` ... `arm/jointN`, in the order of the robot YAML's `joints`."""
    return tuple(f"{arm}/joint{index + 1}" for index in range(joints))


@cache
def tool_channels(arm: str) -> tuple[str, ...]:
    """Seven channels of a tool pose: position x y z (m), orientation x y z w (unit quaternion)."""
    position = tuple(f"{arm}/tcp/position.{axis}" for axis in POSITION_AXES)
    return position + tuple(f"{arm}/tcp/orientation.{axis}" for axis in ORIENTATION_AXES)


def gripper_channel(arm: str) -> str:
    """The gripper's opening width in m."""
    return f"{arm}/gripper"


# The base's velocity: forward in m/s, turning in rad/s, positive to the left.
BASE_CHANNELS = ("base/vx", "base/wz")
# ... as measured: the group of an observation's state.
BASE_VELOCITY = "base/velocity"
