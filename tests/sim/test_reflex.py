"""The twin's Franka after a reflex: what it goes on saying, what it no longer obeys, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("controller_manager_msgs.srv", reason="needs ros2_control's messages")
pytest.importorskip("franka_msgs.action", reason="needs franka_ros2's messages")

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from tests.sim.stage import Stage
from tests.support import ask
from vla_ros.robot.drivers import Call, Goal, driver_for

COMMANDS = "/forward_position_controller/commands"


def tripped(stage: Callable[[str], Stage]) -> Stage:
    subject = stage("franka")
    subject.run(1000)
    ask(subject.peer.create_client(Trigger, "/twin/arm/reflex"), Trigger.Request(), step=subject.run)
    return subject


def steps(subject: Stage) -> list[Any]:
    recovery = driver_for(subject.arm.config).recovery()
    assert recovery is not None and recovery.warning == ""
    return list(recovery.steps)


def take(subject: Stage, step: Any) -> str:
    """What is wrong with the answer to a step."""
    if isinstance(step, Call):
        client = subject.peer.create_client(step.service_type, step.service)
        return str(step.wrong(ask(client, step.request, step=subject.run)))
    assert isinstance(step, Goal)
    action = ActionClient(subject.peer, step.action_type, step.action)
    subject.until(action.server_is_ready, step.action)
    accepted = action.send_goal_async(step.goal)
    subject.until(accepted.done, "the goal to be taken")
    reached = accepted.result().get_result_async()
    subject.until(reached.done, "the goal to be reached")
    action.destroy()
    return "" if reached.result().status == GoalStatus.STATUS_SUCCEEDED else "aborted"


def moved(subject: Stage, away: float = 0.1) -> np.ndarray:
    """How far the joints are half a second after they were sent `away`."""
    before = subject.arm.body.positions()
    subject.send(Float64MultiArray, COMMANDS, Float64MultiArray(data=(before + away).tolist()))
    subject.run(500)
    return subject.arm.body.positions() - before


def test_a_reflex_stops_the_arm_and_its_states_but_not_their_coming(stage: Callable[[str], Stage]) -> None:
    subject = tripped(stage)
    before = subject.hear(JointState, "/joint_states")
    assert np.abs(moved(subject)).max() < 2e-3
    assert subject.rejected == [("joint_position", "reflex")]
    after = subject.hear(JointState, "/joint_states")
    assert list(after.position[:7]) == list(before.position[:7]), "as it was then, bit by bit"
    assert after.header.stamp != before.header.stamp


def test_recovery_takes_every_step_and_moves_nothing(stage: Callable[[str], Stage]) -> None:
    subject = tripped(stage)
    for step in steps(subject):
        assert np.abs(moved(subject)).max() < 2e-3, f"before: {step.what}"
        assert take(subject, step) == ""
    before = subject.arm.body.positions()
    subject.run(200)
    np.testing.assert_allclose(subject.arm.body.positions(), before, atol=2e-3, err_msg="it stays")
    np.testing.assert_allclose(moved(subject), 0.1, atol=5e-3)


@pytest.mark.parametrize("left_out", [0, 1, 2])
def test_no_step_may_be_left_out(stage: Callable[[str], Stage], left_out: int) -> None:
    """Controllers that are still active, an error that still stands, a component that is unconfigured."""
    subject = tripped(stage)
    taken = [step for index, step in enumerate(steps(subject)) if index != left_out]
    assert any(take(subject, step) for step in taken)
    assert np.abs(moved(subject)).max() < 2e-3
