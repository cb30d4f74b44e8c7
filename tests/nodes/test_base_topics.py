"""control_node and a mobile base, through the base's real message types."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("interbotix_xs_msgs.msg", reason="needs the vendors' message packages")
pytest.importorskip("piper_msgs.msg", reason="needs the vendors' message packages")

import rclpy
from geometry_msgs.msg import Twist
from std_msgs.msg import Bool, String
from std_srvs.srv import Trigger

from tests.nodes.base_graph import MOST, TOPIC, BaseGraph, base_graph
from tests.support import wait_for
from vla_ros.nodes.graph_look import look
from vla_ros.nodes.qos import LATCHED, STATUS_QOS, STATUS_TOPIC

pytestmark = pytest.mark.graph


def stands(graph: BaseGraph) -> bool:
    """Whether the base was last sent zero, and stands."""
    return graph.at(0.0, 0.0) and bool(np.abs(graph.base.velocity).max() < 0.02)


def silent(graph: BaseGraph) -> bool:
    """Whether the base is sent nothing for a while."""
    before = len(graph.base.heard)
    time.sleep(0.3)
    return len(graph.base.heard) == before


def no_command(graph: BaseGraph) -> bool:
    """Whether no command was told for a while."""
    before = len(graph.graph.commands)
    time.sleep(0.3)
    return len(graph.graph.commands) == before


def test_a_chunk_drives_the_base_and_a_stop_brings_it_to_a_stand(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        words: list[str] = []
        graph.graph.node.create_subscription(
            String, "vla/intervention", lambda message: words.append(message.data), LATCHED
        )
        graph.start()
        assert graph.base.asked == [True] and not graph.base.heard, "switched on, and nothing sent yet"
        graph.drive(0.3, -0.4, lambda: graph.at(0.3, -0.4), "the base to be driven")
        drives = np.array([0.3, -0.4])
        graph.drive(0.3, -0.4, lambda: np.abs(graph.base.velocity - drives).max() < 0.02, "the base to drive")
        command = graph.graph.commands[-1]
        told = dict(zip(command.name, command.position, strict=True))
        assert told["base/vx"] == pytest.approx(0.3) and told["base/wz/wanted"] == pytest.approx(-0.4)
        graph.drive(2.0, -0.4, lambda: words and words[-1] == "base/velocity", "to be told of the limit")
        assert "base/acceleration" in words[0]
        told = dict(zip(graph.graph.commands[-1].name, graph.graph.commands[-1].position, strict=True))
        assert told["base/vx"] == MOST[0] and 0.5 < told["base/vx/wanted"] <= 2.0
        assert graph.graph.call("stop").success
        # 0.5 m/s at 0.5 m/s^2 are a second: a stop answers when the robot stands.
        assert graph.at(0.0, 0.0)
        wait_for(lambda: silent(graph), 5.0, "the stream to end")
        graph.assert_limits()
        graph.start()
        assert graph.base.asked == [True], "once"


def test_a_policy_that_is_gone_and_odometry_that_is_bring_it_to_a_stand_within_its_limits(
    tmp_path: Path,
) -> None:
    with base_graph(tmp_path) as graph:
        policy = rclpy.create_node("policy", context=graph.graph.context)
        policy.create_publisher(String, STATUS_TOPIC, STATUS_QOS)
        graph.start()
        graph.drive(0.4, 0.5, lambda: graph.at(0.4, 0.5), "the base to be driven")
        policy.destroy_node()
        graph.graph.process.wait_for_text("holding (policy_gone)")
        wait_for(lambda: stands(graph), 5.0, "the base to stand")
        assert not silent(graph), "it is held"
        graph.drive(0.4, 0.5, lambda: graph.at(0.4, 0.5), "the base to be driven again")
        graph.base.alive = False
        graph.drive(0.4, 0.5, lambda: graph.graph.sources[-1] == "hold", "a hold")
        graph.graph.process.wait_for_text("holding (odometry): base: the newest odometry: 15")
        wait_for(lambda: stands(graph), 5.0, "the base to stand")
        graph.drive(0.4, 0.5, lambda: not graph.graph.call("home").success, "going home to be refused")
        graph.base.alive = True
        graph.drive(0.4, 0.5, lambda: graph.at(0.4, 0.5), "to go on by itself")
        assert graph.graph.call("estop").success
        wait_for(lambda: stands(graph), 5.0, "the base to stand")
        assert not silent(graph), "it is held"
        graph.assert_limits()


def test_a_start_needs_the_base_too(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        call = graph.graph.call

        def refused(words: str) -> None:
            def look() -> bool:
                response = call("start")
                assert not response.success
                return words in response.message

            wait_for(look, 20.0, words)

        graph.base.alive = False
        refused("no odometry came yet; is /mobile_base/odom being published?")
        assert not graph.base.asked, "not switched on for a start that is refused"
        graph.base.alive, graph.base.velocity = True, np.array([0.0, np.nan])
        graph.graph.process.wait_for_text("base: odometry is not finite: 0.0 m/s, nan rad/s")
        refused("no odometry came yet")
        graph.base.velocity, graph.base.refuses = np.zeros(2), True
        refused("/mobile_base/set_motor_torque_status answers that Failed to enable motor torque.")
        graph.base.refuses = False
        teleop = rclpy.create_node("joystick", context=graph.graph.context)
        teleop.create_publisher(Twist, TOPIC, 10)
        refused("/joystick publishes /mobile_base/cmd_vel")
        teleop.destroy_node()
        wait_for(lambda: call("start").success, 10.0, "start to succeed")


def test_a_base_is_not_switched_on_after_the_emergency_stop_is_pressed(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        graph.base.refuses = True

        def refused() -> bool:
            asked = start.call_async(Trigger.Request())
            return "Failed to enable" in wait_for(lambda: asked.done() and asked.result(), 30.0).message

        # Known to control_node, and asked once: steps take longer than `ask` waits before it asks again.
        start = graph.graph.node.create_client(Trigger, "control_node/start")
        wait_for(start.service_is_ready, 10.0, "the service")
        time.sleep(0.5)
        wait_for(refused, 20.0, "everything but the base to be ready")
        graph.base.refuses, count = False, len(graph.base.asked)
        press = graph.graph.node.create_publisher(Bool, "vla/estop", LATCHED)
        wait_for(lambda: press.get_subscription_count() == 2, 10.0, "control_node to listen")

        def steps() -> int:
            return graph.graph.process.output.count("switch on the base")

        wait_for(lambda: steps() == count, 5.0, "the log")
        starting = start.call_async(Trigger.Request())
        # Its service is asked half a second later.
        wait_for(lambda: steps() > count, 10.0, "the step")
        press.publish(Bool(data=True))
        response = wait_for(lambda: starting.done() and starting.result(), 15.0, "an answer")
        assert not response.success and "emergency stop pressed" in response.message
        time.sleep(2.0)
        assert len(graph.base.asked) == count and not graph.base.on


def test_a_base_whose_driver_was_gone_is_switched_on_anew(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        graph.start()
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven")
        graph.base.go()
        graph.graph.process.wait_for_text("base: nobody subscribes to /mobile_base/cmd_vel")
        wait_for(lambda: graph.graph.sources[-1] == "hold", 10.0, "a hold")
        wait_for(lambda: no_command(graph), 10.0, "nothing to be sent any more")
        graph.base.heard.clear()
        graph.base.alive = True
        graph.base.come_back()
        until = time.monotonic() + 1.5
        graph.drive(0.4, 0.0, lambda: time.monotonic() > until, "a while")
        assert not graph.base.heard, "its motors are off"
        graph.start()
        assert graph.base.asked == [True, True]
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven")
        graph.assert_limits()


def test_a_node_that_stood_still_does_not_push_a_base_that_has_stopped(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        graph.start()
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven")
        pid = graph.graph.process.pid
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: np.abs(graph.base.velocity).max() < 0.01, 5.0, "the driver to stop the base")
        time.sleep(0.5)  # until its odometry says so, on a busy machine too
        heard = len(graph.base.heard)
        os.kill(pid, signal.SIGCONT)
        wait_for(lambda: len(graph.base.heard) > heard + 5, 10.0, "commands")
        after = graph.base.sent(heard)[:, 0]
        assert after[0] <= 0.02 and np.diff(after).max() <= 0.01 + 1e-9, "as from a stand"
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven again")


def test_a_base_whose_e_stop_is_released_does_not_set_off_by_itself(tmp_path: Path) -> None:
    """And its driver stamps odometry with a clock of its own."""
    with base_graph(tmp_path, stamps="arrival") as graph:
        graph.base.behind_s = 1_000_000
        graph.start()
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven")
        graph.base.pressed = True
        graph.drive(0.4, 0.0, lambda: graph.graph.sources[-1] == "hold", "a hold")
        graph.graph.process.wait_for_text("gave up (base_not_following): the base is at 0.00 m/s")
        wait_for(lambda: silent(graph), 5.0, "the stream to end")
        graph.base.pressed = False
        heard, until = len(graph.base.heard), time.monotonic() + 1.0
        graph.drive(0.4, 0.0, lambda: time.monotonic() > until, "a while")
        assert len(graph.base.heard) == heard
        graph.start()
        graph.drive(0.4, 0.0, lambda: graph.at(0.4, 0.0), "the base to be driven")
        graph.assert_limits()


def test_the_live_check_looks_at_the_base(tmp_path: Path) -> None:
    with base_graph(tmp_path) as graph:
        looker = rclpy.create_node("looker", context=graph.graph.context)
        lines = {line.what: line for line in look(looker, graph.graph.robot, tmp_path / "mobile.yaml")}
        looker.destroy_node()
        # Rates are the machine's as much as the driver's.
        assert " Hz, declared 20 Hz" in lines["base.odometry.topic /mobile_base/odom"].found
        assert lines["base.twist.topic /mobile_base/cmd_vel"].ok
        assert lines["base.twist.torque_service /mobile_base/set_motor_torque_status"].ok
        assert lines["base.odometry velocity"].found == "0.000 m/s, 0.000 rad/s"
