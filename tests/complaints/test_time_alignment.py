"""What the cameras saw and where the arm was belong to one moment, or no observation is made."""

from __future__ import annotations

import numpy as np
import pytest

from tests.observation.messages import image, joint_state
from tests.observation.test_assemble import FINGERS, FRANKA, HOME, JOINTS, KINEMATICS, MS, PICTURE, T0
from vla_ros.errors import Refused
from vla_ros.observation.assemble import assemble
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.types import Observation

# 1 rad/s: 100 ms of misalignment would be 0.1 rad, some 5 cm at the tool.
SPEED = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])


def moving(ms: float) -> np.ndarray:
    """Where the joints really are."""
    return HOME + SPEED * ms / 1000


def stamp(ms: float) -> int:
    return T0 + round(ms * MS)


def see(now_ms: float, image_delay_ms: float, arm_clock_ms: float = 0.0) -> Observation:
    """What is seen of a moving arm whose images take `image_delay_ms` to arrive, while its joint states, at
    1 kHz, arrive at once and are stamped by a clock that is `arm_clock_ms` ahead of ours."""
    buffers = ObservationBuffers(FRANKA, ["front", "wrist"])
    for ms in np.arange(now_ms - 400, now_ms + 1):
        q = moving(ms)
        buffers.joint_states("arm", joint_state(stamp(ms + arm_clock_ms), JOINTS, q), stamp(ms))
        if ms % 66 == 0:
            fingers = joint_state(stamp(ms + arm_clock_ms), FINGERS, [0.04, 0.04])
            buffers.gripper_states("arm", fingers, stamp(ms))
    for name in ("front", "wrist"):
        buffers.image(name, image(stamp(now_ms - image_delay_ms), PICTURE), stamp(now_ms))
    return assemble(buffers, FRANKA, stamp(now_ms), "lift it", KINEMATICS)


@pytest.mark.complaint("hil-serl 8", "fairo 1402")
@pytest.mark.parametrize("delay_ms", [0.0, 10.0, 33.3, 99.9, 180.0])
def test_the_state_is_that_of_the_moment_the_images_were_taken(delay_ms: float) -> None:
    """There, the newest image went with the newest joint positions, whatever the camera's delay."""
    now = 660.0
    seen = see(now, delay_ms)
    then = now - delay_ms
    assert seen.stamp_ns == stamp(then)
    assert seen.state["arm/joint_position"] == pytest.approx(moving(then), abs=1e-6)
    pose = KINEMATICS["arm"].forward(moving(then))
    assert seen.state["arm/tcp_pose"][:3] == pytest.approx(pose[:3, 3], abs=1e-6)


@pytest.mark.complaint("fairo 1402")
@pytest.mark.parametrize(
    ("arm_clock_ms", "reason", "says"),
    [
        (+2000.0, "future", "synchronise the clocks"),
        (-2000.0, "stale", "arm/joint_states"),
        (-90.0, "stale", "arm/joint_states"),
    ],
)
def test_a_robot_whose_clock_is_another_is_refused_and_named(
    arm_clock_ms: float, reason: str, says: str
) -> None:
    """There, stamps came from the robot's own machine, out of step with the cameras' by an unknown amount."""
    with pytest.raises(Refused, match=says) as caught:
        see(660.0, 20.0, arm_clock_ms)
    assert caught.value.reason == reason
