"""The four things that travel from camera to command. Data never flows back.

    Observation -> RawChunk -> ActionChunk -> Command

Stamps are integer nanoseconds on the ROS clock; poses are of the tool frame in the arm's base frame;
quaternions are xyzw; everything is SI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
ImageArray = NDArray[np.uint8]


@dataclass(frozen=True)
class Observation:
    """A complete, fresh and aligned view of the robot at one moment.

    images: {camera name of the robot YAML: uint8 [H, W, 3], RGB}; treat as read-only (they may view
        a message's bytes).
    state: {group: float64 vector, SI}. Groups per arm: `<arm>/joint_position` [J] rad,
        `<arm>/tcp_pose` [7] (x y z m, quaternion xyzw), `<arm>/gripper` [1] opening width in m. Of a base:
        `base/velocity` [2], forward m/s and turning rad/s.
    stamps_ns: {stream name: stamp of the sample used}; streams are `camera/<name>`,
        `<arm>/joint_states`, `<arm>/gripper_states`, `base/odometry`.
    stamp_ns: the one time the whole observation stands for (the newest common image time); arm
        joints are interpolated to it.
    """

    images: Mapping[str, ImageArray]
    state: Mapping[str, FloatArray]
    prompt: str
    stamps_ns: Mapping[str, int]
    stamp_ns: int


@dataclass(frozen=True)
class RawChunk:
    """What the network returned: float32 [H, K], normalised (or action tokens), in the policy's own
    convention."""

    values: NDArray[np.float32]


@dataclass(frozen=True)
class ActionChunk:
    """H absolute targets for named channels of the robot.

    channels: names such as `arm/joint1`, `arm/tcp/position.x`, `arm/tcp/orientation.w`,
        `arm/gripper` (opening width in m), `base/vx`, `base/wz`; see `vla_ros.robot.channels`.
    targets: float64 [H, C] in SI units, absolute.
    due_ns: int64 [H], strictly increasing: when each row is to hold, ROS clock.
    stamp_ns: stamp of the observation the chunk was computed from.
    """

    channels: tuple[str, ...]
    targets: FloatArray
    due_ns: NDArray[np.int64]
    stamp_ns: int


@dataclass(frozen=True)
class Motion:
    """What an arm's driver is given at one tick: where to be next, and the way to rest after it.

    after_s: float64 [P], seconds after the command's stamp, increasing. q, v, a: float64 [P, J], rad, rad/s,
    rad/s^2. Row 0 is due one control period after the stamp; the rows after it bring the arm to rest within
    its limits should no further command come. Quintic interpolation between rows is the planned motion.
    """

    after_s: FloatArray
    q: FloatArray
    v: FloatArray
    a: FloatArray


@dataclass(frozen=True)
class Command:
    """One tick's targets for one arm, before and after safety.

    stamp_ns: when the command was made; acts_at_ns: when it is expected to act.
    source: "policy", "human", "hold", "estop" or "home".
    wanted: float64 [J] joint positions in rad before safety; motion: what is sent.
    gripper, gripper_wanted: opening width in m after and before safety, or None when nothing was ever
    commanded.
    interventions: short words naming each limit that changed the command this tick.
    """

    stamp_ns: int
    acts_at_ns: int
    source: str
    wanted: FloatArray
    motion: Motion
    gripper: float | None
    gripper_wanted: float | None
    interventions: tuple[str, ...] = ()

    @property
    def sent(self) -> FloatArray:
        """Joint positions after safety, float64 [J] rad, to be reached one control period after the stamp."""
        return self.motion.q[0]


@dataclass(frozen=True)
class BaseCommand:
    """One tick's velocity for the base, before and after safety.

    stamp_ns, source, interventions: as in `Command`. wanted, sent: float64 [2], forward m/s and
    turning rad/s.
    """

    stamp_ns: int
    source: str
    wanted: FloatArray
    sent: FloatArray
    interventions: tuple[str, ...] = ()
