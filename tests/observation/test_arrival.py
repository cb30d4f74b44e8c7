"""Observations of a driver whose stamps are not on the ROS clock."""

from __future__ import annotations

import numpy as np
import pytest

from tests.observation.feed import HOME, JOINTS, T0, at
from tests.observation.messages import joint_state
from tests.tiny_bundle import franka_fields
from vla_ros.errors import Refused
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.robot.config import Robot

SDK = 4_000_000_000_000


def buffers(**states: str) -> ObservationBuffers:
    fields = franka_fields()
    fields["arms"]["arm"]["states"].update(states)
    return ObservationBuffers(Robot.model_validate(fields), [])


def test_joint_states_count_from_their_arrival() -> None:
    found = buffers(stamps="arrival")
    ring = found.joints["arm"]
    for tick in range(5):
        found.joint_states("arm", joint_state(SDK + tick, JOINTS, HOME), at(5 * tick))
    ring.check(at(21))
    assert [stamp for stamp, _ in ring.samples] == [at(5 * tick) for tick in range(5)]
    np.testing.assert_array_equal(ring.samples[-1][1], HOME)
    by_header = buffers()
    by_header.joint_states("arm", joint_state(SDK, JOINTS, HOME), T0)
    with pytest.raises(Refused):
        by_header.joints["arm"].check(T0)


def test_a_driver_that_repeats_its_last_joint_states_is_frozen() -> None:
    found = buffers(stamps="arrival")
    for tick in range(100):
        found.joint_states("arm", joint_state(SDK, JOINTS, HOME), at(tick))
    with pytest.raises(Refused) as caught:
        found.joints["arm"].check(at(100))
    assert caught.value.reason == "frozen"
