"""control_node and the drivers of Interbotix and AgileX arms, through their real message types."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
pytest.importorskip("piper_msgs.msg", reason="needs the vendors' message packages")

from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand
from interbotix_xs_msgs.srv import OperatingModes, RegisterValues, TorqueEnable
from piper_msgs.msg import PosCmd
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool

from tests.nodes.vendor_graph import CobotArm, InterbotixArm, PiperArm, VendorGraph, vendor_graph
from tests.support import wait_for

pytestmark = pytest.mark.graph


def rises(values: list[float], most: float) -> None:
    """Each value is at most `most` above the one before."""
    assert np.diff(values).max() <= most


def silent(graph: VendorGraph) -> bool:
    """Whether no command was told for a while."""
    before = len(graph.commands)
    time.sleep(0.3)
    return len(graph.commands) == before


def test_widowx_is_prepared_once_and_then_moves(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "widowx") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, InterbotixArm)
        graph.start()
        kinds = [type(request) for request in arm.asked]
        assert kinds == [RegisterValues.Request, OperatingModes.Request] + [TorqueEnable.Request] * 2
        assert arm.registers["Profile_Velocity"] == 0
        assert arm.asked[1].name == "gripper", "the arm is not let go of"
        assert not arm.heard, "nothing moves before a chunk"
        before = arm.reading
        graph.follow(0.1, 0.044, lambda: graph.arrived(0.1) and arm.reading > 0.0369)
        messages = arm.of(JointGroupCommand)
        assert all(message.name == "arm" and len(message.cmd) == 6 for message in messages)
        # From the arm's place and the gripper's, without a step, at no more than the YAML's speed: 2 mm a
        # tick, of 44, are 0.06 rad; some ticks may come late.
        np.testing.assert_allclose(messages[0].cmd, graph.robot.arms["arm"].home, atol=5e-3)
        ramp = [message.cmd for message in arm.of(JointSingleCommand)]
        assert ramp[0] == pytest.approx(-0.3780 + (before - 0.015) / 0.022 * 1.6464, abs=0.07)
        assert ramp[-1] == pytest.approx(1.2684, abs=1e-4) and len(ramp) > 8
        rises(ramp, 0.062)
        assert all(np.diff(ramp) != 0.0), "the bus is spared what it knows"
        assert graph.call("stop").success
        graph.start()
        assert len(arm.asked) == 4, "not prepared again"


def test_an_arm_in_another_mode_is_not_started_and_not_let_go(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "widowx") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, InterbotixArm)
        arm.registers["Operating_Mode"] = 16
        text = refused(graph)
        assert "/wx250s/get_motor_registers answers that it is pwm" in text
        assert "support the arm and `vla recover`" in text and "operating_mode: position" in text
        assert not arm.asked and not arm.heard
        arm.registers["Operating_Mode"] = 3
        graph.start()


def test_no_step_is_taken_after_the_emergency_stop_is_pressed(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "widowx") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, InterbotixArm)
        graph.start()
        assert graph.call("stop").success
        arm.go()
        wait_for(lambda: not graph.call("start").success, 10.0, "the driver to be missed")
        arm.come_back()
        arm.on, arm.slow_s = False, 4.0
        arm.asked.clear()
        press = graph.node.create_publisher(Bool, "vla/estop", 10)
        wait_for(press.get_subscription_count, 10.0, "control_node to listen")
        said: list[Any] = []
        starting = threading.Thread(target=lambda: said.append(graph.call("start")))
        starting.start()
        # While the arm's profile is being taken off: the gripper's mode and torque would follow.
        wait_for(lambda: arm.asked, 20.0, "the first step")
        press.publish(Bool(data=True))
        # It is logged at once, though the driver takes its time to answer.
        graph.process.wait_for_text("emergency stop: pressed on vla/estop", 2.5)
        starting.join(15.0)
        assert not said[0].success and "cannot start: emergency stop pressed" in said[0].message
        time.sleep(3.0)
        assert len(arm.asked) == 1 and not arm.on
        assert graph.sources[-1] == "estop"
        arm.slow_s = 0.0
        assert graph.call("reset").success
        graph.start()
        assert arm.on


def test_a_driver_that_comes_back_is_prepared_anew_before_anything_is_sent(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "widowx") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, InterbotixArm)
        graph.start()
        graph.follow(0.3, 0.03, lambda: np.ptp([m.cmd[0] for m in arm.of(JointGroupCommand)] or [0.0]) > 0.05)
        arm.go()
        wait_for(lambda: graph.sources[-1] == "hold", 10.0, "a hold")
        arm.on = False
        graph.process.wait_for_text("(driver_gone): arm: nobody subscribes to")
        wait_for(lambda: silent(graph), 10.0, "nothing to be sent any more")
        arm.come_back()
        heard, asked, until = len(arm.heard), len(arm.asked), time.monotonic() + 1.5
        graph.follow(0.3, 0.03, lambda: time.monotonic() > until)
        assert graph.sources[-1] == "hold" and len(arm.heard) == heard, "its motors are off"
        graph.start()
        assert len(arm.asked) == 2 * asked and arm.on
        # Chunks near where it stopped: it is not taken up further away.
        away = float(arm.q[0] - graph.robot.arms["arm"].home[0])
        graph.follow(away, 0.03, lambda: graph.sources[-1] == "policy")
        graph.start()
        assert len(arm.asked) == 2 * asked, "not in motion"


def test_an_arm_is_not_switched_on_for_a_start_that_is_refused(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        arm.alive = False
        time.sleep(1.7)  # what was heard before is too old after 1.5 s

        def says_why() -> bool:
            response = graph.call("start")
            assert not response.success
            return "joint states" in response.message

        wait_for(says_why, 15.0, "the reason")
        assert not arm.asked, "it was not enabled, and its gripper not closed"
        arm.alive = True
        graph.start()
        assert len(arm.asked) == 1


def test_aloha_moves_two_arms_and_two_grippers(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "aloha") as graph:
        graph.start()
        left, right = graph.arms["left"], graph.arms["right"]
        graph.follow(0.05, 0.07, lambda: graph.arrived(0.05) and min(left.reading, right.reading) > 0.0578)
        # Read in metres of a finger, sent in radians.
        for arm in (left, right):
            assert arm.of(JointSingleCommand)[-1].cmd == pytest.approx(1.6214, abs=1e-4)


def test_piper_is_enabled_and_never_told_less_than_all(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, PiperArm)
        arm.reading = 0.05
        graph.start()
        assert len(arm.asked) == 1 and arm.on
        assert arm.reading == 0.0, "enabling closes it"
        arm.reading = 0.02
        # It says no gripper: until the policy wants another width, the arm's messages say the measured one.
        time.sleep(0.2)
        assert graph.call("home").success
        wait_for(lambda: len(arm.heard) > 20, 10.0, "commands")
        said = [message.position[6] for message in arm.of(JointState)]
        assert said == pytest.approx([0.02] * len(said))
        assert graph.call("stop").success
        graph.start()
        graph.follow(0.1, 0.07, lambda: graph.arrived(0.1) and arm.reading > 0.0699)
        messages = arm.of(JointState)
        names = [f"joint{index}" for index in range(1, 7)]
        assert all(list(message.name) == [*names, "gripper"] for message in messages)
        assert all(len(message.position) == 7 and message.velocity[6] == 100.0 for message in messages)
        # No joint was ever driven to 0: home's joints 2 and 3 are far from it.
        assert all(message.position[1] > 1.5 and message.position[2] < -1.4 for message in messages)
        rises([message.position[6] for message in messages], 0.0011)


def test_piper_that_repeats_itself_is_no_longer_believed(tmp_path: Path) -> None:
    """Its node goes on publishing what the arm last said when the arm is silent: the SDK's stamp stands."""
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, PiperArm)
        graph.start()
        graph.follow(0.05, 0.03, lambda: graph.sources and graph.sources[-1] == "policy")
        arm.can_is_alive = False
        graph.follow(0.05, 0.03, lambda: graph.sources[-1] == "hold")
        assert not graph.call("home").success
        arm.can_is_alive = True
        graph.follow(0.05, 0.03, lambda: graph.sources[-1] == "policy")


def test_piper_pose(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper", driver="piper_pose") as graph:
        (arm,) = graph.arms.values()
        # It takes no notice of where it is sent: this is about what is sent.
        graph.start()
        graph.follow(0.02, 0.03, lambda: len(arm.of(PosCmd)) > 50 and arm.reading > 0.0299)
        last = arm.of(PosCmd)[-1]
        assert not arm.of(JointState)
        assert 0.1 < last.x < 0.6 and abs(last.yaw) < 3.2 and last.gripper == pytest.approx(0.03)


def test_cobot_magic_moves_both_arms(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_cobot") as graph:
        left, right = graph.arms["left"], graph.arms["right"]
        assert isinstance(left, CobotArm)
        graph.start()
        graph.follow(0.05, 0.06, lambda: graph.arrived(0.05) and min(left.reading, right.reading) > 0.0599)
        for arm in (left, right):
            messages = arm.of(JointState)
            assert all(list(message.name) == [f"joint{i}" for i in range(7)] for message in messages)
            assert messages[0].position[6] == pytest.approx(0.035, abs=2e-3), "where it was"


def refused(graph: Any) -> str:
    """What ~/start says once the joint states are there."""
    said: list[str] = []

    def settled() -> bool:
        response = graph.call("start")
        assert not response.success
        said.append(response.message)
        return "joint states" not in response.message and "nobody subscribes to" not in said[-1]

    wait_for(settled, 15.0, "a reason")
    return said[-1]


def test_a_start_without_the_enabling_service_says_so(tmp_path: Path) -> None:
    enable = {"service": "/not_there"}
    drivers = {
        "piper_joint": {"topic": "/joint_ctrl_single", "speed_percent": 100, "enable": enable},
        "piper_pose": {"topic": "/pos_cmd"},
    }
    with vendor_graph(tmp_path, "agilex_piper", drivers=drivers) as graph:
        (arm,) = graph.arms.values()
        text = refused(graph)
        assert "cannot enable the arm" in text and "no service /not_there" in text
        assert not arm.heard


def test_an_arm_that_does_not_come_on_is_not_started(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        arm.refuses = True
        text = refused(graph)
        assert "/enable_srv answers that the arm's motors did not come on" in text
        assert not arm.heard
        arm.refuses = False
        graph.start()


def test_piper_is_enabled_by_a_message(tmp_path: Path) -> None:
    enable = {"topic": "/enable_flag"}
    drivers = {
        "piper_joint": {"topic": "/joint_ctrl_single", "speed_percent": 100, "enable": enable},
        "piper_pose": {"topic": "/pos_cmd"},
    }
    with vendor_graph(tmp_path, "agilex_piper", drivers=drivers) as graph:
        (arm,) = graph.arms.values()
        assert isinstance(arm, PiperArm)
        graph.start()
        wait_for(lambda: arm.on, 5.0, "the arm to be enabled")
        assert [message.data for message in arm.of(Bool)] == [True]


def test_no_start_while_the_gripper_s_width_is_not_known(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        arm.has_gripper = False
        time.sleep(1.7)  # what was heard before is too old after 1.5 s
        text = refused(graph)
        assert "gripper's width is not known" in text and "/joint_states_single" in text
        assert not arm.heard and not arm.asked
        arm.has_gripper = True
        graph.start()


def test_nothing_is_sent_where_the_gripper_got_lost_before_the_first_chunk(tmp_path: Path) -> None:
    with vendor_graph(tmp_path, "agilex_piper") as graph:
        (arm,) = graph.arms.values()
        graph.start()
        arm.has_gripper = False
        time.sleep(1.7)  # what was heard before is too old after 1.5 s
        graph.follow(0.05, 0.03, lambda: "holding (incomplete)" in graph.process.output)
        assert not arm.heard, "the arm's message holds the gripper"
        arm.has_gripper = True
        graph.follow(0.05, 0.03, lambda: graph.arrived(0.05))
