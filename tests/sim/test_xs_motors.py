"""The twin's Interbotix motors: what they are like before anybody prepares them, and after a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")

from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand
from interbotix_xs_msgs.srv import OperatingModes, RegisterValues
from std_srvs.srv import Trigger

from tests.sim.stage import Stage
from tests.support import ask
from vla_ros.robot.drivers import driver_for

GROUP, SINGLE = "/wx250s/commands/joint_group", "/wx250s/commands/joint_single"


def registers(subject: Stage, reg: str, name: str = "arm") -> list[int]:
    client = subject.peer.create_client(RegisterValues, "/wx250s/get_motor_registers")
    kind = "group" if name in ("arm", "all") else "single"
    request = RegisterValues.Request(cmd_type=kind, name=name, reg=reg)
    return list(ask(client, request, step=subject.run).values)


def take(subject: Stage, steps: tuple[Any, ...]) -> list[str]:
    """Call a driver's steps, each with what follows from it; what they say is wrong."""
    wrong: list[str] = []
    for step in steps:
        client = subject.peer.create_client(step.service_type, step.service)
        response = ask(client, step.request, step=subject.run)
        wrong += [text for text in [step.wrong(response)] if text]
        wrong += take(subject, step.then(response))
    return wrong


def recover(subject: Stage) -> list[str]:
    recovery = driver_for(subject.arm.config).recovery()
    assert recovery is not None
    return take(subject, recovery.steps)


def test_widowx_comes_up_as_xsarm_control_leaves_it(stage: Callable[[str], Stage]) -> None:
    """Its arm takes 2 s to each goal, and its gripper no angle at all, before the driver's first steps."""
    subject = stage("widowx")
    assert registers(subject, "Operating_Mode") == [3] * 6
    assert registers(subject, "Operating_Mode", "gripper") == [16]
    assert registers(subject, "Profile_Velocity") == [2000] * 6
    assert registers(subject, "No_Such_Register") == []
    home = np.array(subject.arm.config.home)
    subject.send(JointGroupCommand, GROUP, JointGroupCommand(name="arm", cmd=(home + 0.2).tolist()))
    subject.run(1000)
    np.testing.assert_allclose(subject.arm.body.positions(), home + 0.1, atol=0.02)
    subject.send(JointSingleCommand, SINGLE, JointSingleCommand(name="gripper", cmd=1.0))
    assert subject.rejected == [("joint_single", "mode")]


def test_widowx_is_readied_without_letting_go_of_its_arm(stage: Callable[[str], Stage]) -> None:
    subject = stage("widowx")
    assert take(subject, driver_for(subject.arm.config).start_steps()) == []
    assert subject.rejected == [], "nothing was let go of"
    assert registers(subject, "Profile_Velocity") == [0] * 6
    target = np.array(subject.arm.config.home) + 0.2
    subject.send(JointGroupCommand, GROUP, JointGroupCommand(name="arm", cmd=target.tolist()))
    subject.send(JointSingleCommand, SINGLE, JointSingleCommand(name="gripper", cmd=1.2684))
    subject.run(500)
    np.testing.assert_allclose(subject.arm.body.positions(), target, atol=2e-3)
    assert subject.arm.gripper is not None
    assert subject.arm.gripper.width == pytest.approx(0.044, abs=1e-4)


def test_widowx_in_another_mode_is_left_to_the_operator(stage: Callable[[str], Stage]) -> None:
    subject = stage("widowx")
    client = subject.peer.create_client(OperatingModes, "/wx250s/set_operating_modes")
    ask(client, OperatingModes.Request(cmd_type="group", name="arm", mode="pwm"), step=subject.run)
    assert subject.rejected == [("motors", "let_go")], "somebody else did"
    (wrong,) = take(subject, driver_for(subject.arm.config).start_steps()[:1])
    assert "it is pwm" in wrong and len(subject.rejected) == 1
    assert recover(subject) == []
    assert registers(subject, "Operating_Mode") == [3] * 6 and len(subject.rejected) == 2


def test_an_overloaded_motor_comes_back_by_a_reboot(stage: Callable[[str], Stage]) -> None:
    subject = stage("widowx")
    start = driver_for(subject.arm.config).start_steps()
    take(subject, start)
    overload = subject.peer.create_client(Trigger, "/twin/arm/overload")
    ask(overload, Trigger.Request(), step=subject.run)
    assert registers(subject, "Hardware_Error_Status") == [0, 32, 0, 0, 0, 0]
    command = JointGroupCommand(name="arm", cmd=subject.arm.config.home)
    take(subject, start)
    subject.send(JointGroupCommand, GROUP, command)
    assert subject.rejected == [("joint_group", "torque")], "torque alone does not bring it back"
    assert recover(subject) == []
    assert subject.rejected[1:] == [("motors", "let_go")]
    subject.send(JointGroupCommand, GROUP, command)
    assert len(subject.rejected) == 2
    # Where nothing is wrong, nothing is let go of.
    assert recover(subject) == [] and len(subject.rejected) == 2


def fault(subject: Stage, kind: str) -> None:
    ask(subject.peer.create_client(Trigger, f"/twin/arm/{kind}"), Trigger.Request(), step=subject.run)


def test_an_overloaded_shadow_comes_back_by_its_own_name(stage: Callable[[str], Stage]) -> None:
    subject = stage("widowx")
    fault(subject, "overload_shadow")
    assert registers(subject, "Hardware_Error_Status", "all") == [0] * 7, "no group holds it"
    assert registers(subject, "Hardware_Error_Status", "shoulder_shadow") == [32]
    assert recover(subject) == []
    assert registers(subject, "Hardware_Error_Status", "shoulder_shadow") == [0]
    assert registers(subject, "Torque_Enable", "shoulder_shadow") == [1]
    assert registers(subject, "Torque_Enable", "elbow_shadow") == [1]
    assert subject.rejected == [], "the motor beside it holds"


def test_a_silent_motor_lets_nothing_pass(stage: Callable[[str], Stage]) -> None:
    """Those before it answer, and what they say is right."""
    subject = stage("widowx")
    fault(subject, "silence")
    assert registers(subject, "Operating_Mode") == [3] and registers(subject, "Profile_Velocity") == [2000]
    wrong = take(subject, driver_for(subject.arm.config).start_steps())
    assert [text.partition(",")[0] for text in wrong] == [
        "Operating_Mode came from 1 of the motors of group 'arm'",
        "Profile_Velocity came from 1 of the motors of group 'arm'",
    ]
    assert "Hardware_Error_Status came from 1 of the motors of group 'all', expected 7" in recover(subject)[0]
