"""Buffers -> one Observation at one time, or the reason why there is none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.errors import Refused
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.driven import Driven
from vla_ros.observation.ring import MS, Ring
from vla_ros.robot.channels import BASE_VELOCITY
from vla_ros.robot.config import Robot
from vla_ros.types import FloatArray, ImageArray, Observation

# Joint states may be this much older than the newest image: then they are carried on along their last
# slope. At 2 rad/s^2 a slope held for 10 ms is wrong by 1e-4 rad; a held value would be by 2e-2 at 2 rad/s.
EXTRAPOLATION_NS = 10 * MS
# ... a slope over less than this would mostly be the encoder's noise.
SLOPE_NS = 10 * MS


Sample = tuple[int, FloatArray]


class Forward(Protocol):
    """Forward kinematics of one arm: `vla_ros.robot.kinematics.Kinematics`."""

    def forward(self, q: ArrayLike) -> FloatArray:
        """4x4 pose of the tool in the arm's base frame."""
        ...


def assemble(
    buffers: ObservationBuffers,
    robot: Robot,
    now_ns: int,
    prompt: str,
    kinematics: Mapping[str, Forward],
) -> Observation:
    """The newest observation that is complete, fresh and aligned.

    Its stamp is the newest time that every camera has reached: the oldest of the cameras' newest frames.
    The other cameras give the frame nearest to it, arm joints are interpolated to it, a gripper gives its
    last width and a base its last velocity before it. Optional cameras do not count for the stamp, and are
    left out where another one would be refused.

    now_ns: ROS clock. kinematics: {arm: its forward kinematics}.
    Raises Refused: "incomplete", "stale", "frozen", "back_in_time", "future", "skew" (streams further
    apart than observation.max_skew_ms), "undecodable", "changed_size", "no_camera_info", "camera_info", and
    what `ObservationBuffers` noted on arrival ("changed_encoding", "missing_joint", ...).
    """
    stamp_ns, cameras = newest_stamp(buffers, now_ns)
    return observation_at(buffers, robot, stamp_ns, prompt, kinematics, cameras)


def observation_at(
    buffers: ObservationBuffers,
    robot: Robot,
    stamp_ns: int,
    prompt: str,
    kinematics: Mapping[str, Forward],
    cameras: Sequence[str],
) -> Observation:
    """The observation of the time `stamp_ns`, present or past, from what the buffers hold of it.

    cameras: to look at; an optional one that has no usable frame near enough is left out.
    Raises Refused as `assemble` does, but for what concerns the newest samples.
    """
    skew_ns = round(robot.observation.max_skew_ms * MS)
    images: dict[str, ImageArray] = {}
    stamps: dict[str, int] = {}
    for name in cameras:
        ring = buffers.cameras[name]
        try:
            found_ns, frame = ring.nearest(stamp_ns)
            _check_skew(ring, found_ns, stamp_ns, skew_ns)
            rgb = buffers.picture(name, found_ns, frame)
        except Refused:
            if name not in buffers.optional:
                raise
        else:
            stamps[ring.stream], images[name] = found_ns, rgb
    state: dict[str, FloatArray] = {}
    for name, joints in buffers.joints.items():
        stamps[joints.stream], q = joints_at(joints, stamp_ns, skew_ns)
        pose = kinematics[name].forward(q)
        state[f"{name}/joint_position"] = q
        state[f"{name}/tcp_pose"] = np.concatenate([pose[:3, 3], matrix_to_quaternion(pose[:3, :3])])
    for name, widths in buffers.grippers.items():
        sample = widths.at_or_before(stamp_ns)
        if sample is None:
            raise Refused("incomplete", f"{widths.stream}: nothing from before the images yet")
        stamps[widths.stream] = sample[0]
        state[f"{name}/gripper"] = np.array([sample[1]])
    if buffers.tells_base_velocity and buffers.odometry is not None:
        stamps[buffers.odometry.stream], state[BASE_VELOCITY] = velocity_at(buffers.odometry, stamp_ns)
    return Observation(images=images, state=state, prompt=prompt, stamps_ns=stamps, stamp_ns=stamp_ns)


def newest_stamp(buffers: ObservationBuffers, now_ns: int) -> tuple[int, list[str]]:
    """The stamp an observation would have now, the newest time that every camera but the optional ones has
    reached, and the cameras that it would be of.

    Raises Refused where a stream's newest sample must not be used, as `assemble` says.
    """
    cameras = buffers.usable(now_ns)
    stamps = [buffers.cameras[name].samples[-1][0] for name in cameras if name not in buffers.optional]
    return min(stamps), cameras


def joints_at(ring: Ring[FloatArray], stamp_ns: int, skew_ns: int) -> tuple[int, FloatArray]:
    """(stamp of the nearest sample, float64 [J] interpolated linearly to `stamp_ns`).

    At most EXTRAPOLATION_NS past the newest sample its slope is carried on. Raises Refused: "incomplete"
    when all samples are newer, "skew" when the nearest one is further away than `skew_ns`, or when
    all are older and by more than the extrapolation allowed.
    """
    before, after = _around(ring, stamp_ns)
    if before is None:
        raise Refused("incomplete", f"{ring.stream}: nothing from before the images yet")
    if after is None:
        beyond = stamp_ns - before[0]
        earlier = ring.at_or_before(before[0] - SLOPE_NS)
        if beyond > EXTRAPOLATION_NS:
            text = f"{ring.stream}: newest sample is {beyond / MS:.0f} ms older than the images"
            raise Refused("skew", f"{text}, at most {EXTRAPOLATION_NS / MS:.0f} ms is allowed")
        if earlier is None or before[0] - earlier[0] > skew_ns:
            raise Refused("incomplete", f"{ring.stream}: too few samples from before the images yet")
        return before[0], _on_line(earlier, before, stamp_ns)
    nearest = min(before, after, key=lambda sample: abs(sample[0] - stamp_ns))
    _check_skew(ring, nearest[0], stamp_ns, skew_ns)
    if after[0] == before[0]:
        return nearest[0], np.array(before[1], dtype=np.float64)
    return nearest[0], _on_line(before, after, stamp_ns)


def velocity_at(ring: Ring[Driven], stamp_ns: int) -> tuple[int, FloatArray]:
    """(stamp, float64 [2]) of the last velocity that was measured before `stamp_ns`.

    Held, not interpolated: at the 20 Hz of a base the newest image has no odometry after it yet, and a slope
    carried on for 50 ms would mostly be the wheels' noise; and the last one that had come is what ALOHA
    records and shows its policies (`get_base_vel`). A base that speeds up by 1 m/s^2 is then off by 0.05 m/s.
    Raises Refused: "incomplete" when all are newer, "stale" when the last before it was older, at that time,
    than the stream's max_age_ms.
    """
    sample = ring.at_or_before(stamp_ns)
    if sample is None:
        raise Refused("incomplete", f"{ring.stream}: nothing from before the images yet")
    age = stamp_ns - sample[0]
    if age > ring.max_age_ns:
        raise Refused(
            "stale",
            f"{ring.stream}: the last sample on {ring.topic} before the images is older than they are by "
            f"{age / MS:.0f} ms, at most {ring.max_age_ns / MS:.0f} ms is allowed (max_age_ms)",
        )
    return sample[0], sample[1].velocity


def _around(ring: Ring[FloatArray], stamp_ns: int) -> tuple[Sample | None, Sample | None]:
    """The newest sample at or before `stamp_ns`, and the oldest at or after it."""
    after = None
    for sample in reversed(ring.samples):
        if sample[0] <= stamp_ns:
            return sample, sample if sample[0] == stamp_ns else after
        after = sample
    return None, after


def _on_line(first: Sample, second: Sample, stamp_ns: int) -> FloatArray:
    fraction = (stamp_ns - first[0]) / (second[0] - first[0])
    return np.asarray(first[1] + fraction * (second[1] - first[1]), dtype=np.float64)


def _check_skew(ring: Ring, found_ns: int, stamp_ns: int, skew_ns: int) -> None:
    apart = abs(found_ns - stamp_ns)
    if apart > skew_ns:
        raise Refused(
            "skew",
            f"{ring.stream}: its nearest sample lies {apart / MS:.0f} ms from the other cameras' newest "
            f"common time, at most {skew_ns / MS:.0f} ms is allowed (observation.max_skew_ms)",
        )
