"""Joint states that jump are not taken; an arm that really moved is believed in the end."""

import numpy as np
import pytest

from tests.safety.plant import FILE
from vla_ros.robot.load import load_robot
from vla_ros.safety.joints import JointWatch, Measured

MS = 1_000_000
ARM = load_robot(FILE).arms["arm"]
HOME = np.array(ARM.home)
JUMPED = HOME + np.eye(7)[3]


def watch_with(samples: list[np.ndarray], live: bool, dt_ms: int = 10) -> tuple[JointWatch, list[str]]:
    watch = JointWatch(ARM)
    texts = []
    for index, q in enumerate(samples):
        texts.append(watch.take(Measured(q, index * dt_ms * MS), live))
    return watch, texts


def test_motion_at_the_arm_s_own_speed_is_taken() -> None:
    fastest = np.array(ARM.limits.velocity)
    watch, texts = watch_with([HOME + index * 0.01 * fastest for index in range(50)], live=True)
    assert not any(texts)
    assert watch.newest is not None
    assert watch.newest.stamp_ns == 490 * MS


@pytest.mark.parametrize("live", [True, False])
def test_a_glitch_of_one_sample_is_left_out_and_told_once(live) -> None:
    watch, texts = watch_with([HOME, HOME, JUMPED, HOME, HOME], live)
    assert [bool(text) for text in texts] == [False, False, True, False, False]
    assert "fr3_joint4 jumped from -2.356 to -1.356 rad" in texts[2]
    assert watch.newest is not None
    assert np.array_equal(watch.newest.q, HOME)
    assert not watch.jumping


def test_a_lasting_jump_leaves_the_states_to_grow_old_while_the_arm_is_commanded() -> None:
    watch, texts = watch_with([HOME, *[JUMPED] * 12], live=True)
    assert sum(map(bool, texts)) == 1
    assert watch.jumping
    assert watch.newest is not None
    assert watch.newest.stamp_ns == 0, "older than joint_states_timeout_ms by now, so the arm is held"
    watch, _ = watch_with([HOME, *[JUMPED] * 60], live=True)
    assert not watch.jumping


def test_an_arm_set_elsewhere_is_believed_where_nothing_commands_it() -> None:
    watch, _ = watch_with([HOME, *[JUMPED] * 3], live=False)
    assert watch.jumping
    watch, _ = watch_with([HOME, *[JUMPED] * 8], live=False)
    assert not watch.jumping
    assert watch.newest is not None
    assert np.array_equal(watch.newest.q, JUMPED)


def test_samples_out_of_order_and_repeated_ones_are_ignored() -> None:
    watch = JointWatch(ARM)
    watch.take(Measured(HOME, 50 * MS), True)
    assert watch.take(Measured(JUMPED, 40 * MS), True) == ""
    assert watch.take(Measured(JUMPED, 50 * MS), True) == ""
    assert watch.newest is not None
    assert np.array_equal(watch.newest.q, HOME)


def test_after_forgetting_the_next_state_is_believed() -> None:
    watch, _ = watch_with([HOME, HOME], live=True)
    watch.forget()
    assert watch.take(Measured(JUMPED, 5 * MS), True) == ""
    assert watch.newest is not None
    assert np.array_equal(watch.newest.q, JUMPED)


def test_a_motion_begins_only_from_states_that_have_agreed_for_a_while() -> None:
    watch, _ = watch_with([HOME] * 5, live=False)
    assert not watch.settled
    watch, _ = watch_with([HOME] * 7, live=False)
    assert watch.settled
    watch.take(Measured(JUMPED, 70 * MS), False)
    assert not watch.settled
    watch.forget()
    watch.take(Measured(JUMPED, 80 * MS), False)
    assert not watch.settled, "it may be a glitch"
