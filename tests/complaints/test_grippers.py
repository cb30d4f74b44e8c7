"""A gripper's width means the same in what is seen and in what is commanded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny_bundle import franka_fields
from vla_ros.action.grippers import gripper_is_open, gripper_to_width
from vla_ros.policy.manifest_model import Binary, GripperRule
from vla_ros.robot.config import Gripper, Robot
from vla_ros.robot.grippers import command_for
from vla_ros.robot.states import gripper_width

FRANKA = Robot.model_validate(franka_fields())


def gripper(**changes) -> Gripper:
    fields = franka_fields()
    fields["arms"]["arm"]["gripper"].update(changes)
    found = Robot.model_validate(fields).arms["arm"].gripper
    assert found is not None
    return found


@pytest.mark.complaint("openpi 360", "openpi 405")
@given(
    wanted=st.floats(0.0, 0.08),
    # What one finger of the driver is sent and says when closed and open, and how many fingers it names.
    form=st.sampled_from(
        [
            ([0.0, 0.04], None, 2),
            ([0.0, 0.08], None, 1),
            ([0.0, 0.8], [0.0, 0.8], 1),
            ([3.0, 0.0], [3.0, 0.0], 1),
        ]
    ),
)
def test_the_width_that_is_commanded_is_the_width_that_is_seen(wanted: float, form) -> None:
    """There, observation and action went through two scalings that are not each other's inverse, and the
    gripper opened and closed for ever."""
    commands, reads, fingers = form
    joints = [f"finger{index}" for index in range(fingers)]
    one = gripper(commands=commands, reads=reads, joints=joints)
    # Each finger goes to what is commanded, whatever the driver calls it, and is reported by its joint.
    seen = gripper_width(one, joints, [command_for(one, wanted)] * fingers)
    assert seen == pytest.approx(wanted, abs=1e-12)


@pytest.mark.complaint("openpi 360", "openpi 405")
@pytest.mark.parametrize(("unit", "is_open"), [("open_fraction", 1.0), ("closed_fraction", 0.0)])
def test_a_policy_s_open_is_the_widest_and_its_closed_the_narrowest(unit: str, is_open: float) -> None:
    rule = GripperRule(unit=unit, binary=Binary(threshold=0.5, hysteresis=0.1))
    assert gripper_is_open([is_open, 1 - is_open], rule).tolist() == [True, False]
    ends = FRANKA.arms["arm"].gripper.width
    assert gripper_to_width([is_open, 1 - is_open], rule, ends).tolist() == [max(ends), min(ends)]
