"""The emergency stop on the real path: every way to press it, in every mode, and what releases it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import Bool

from tests.nodes.control_graph import ControlGraph, robot_yaml, standing_graph
from tests.support import Started, Starter, ask, claimed_domain, wait_for


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlGraph]:
    with standing_graph(tmp_path_factory.mktemp("robot")) as graph:
        yield graph


@pytest.fixture
def graph(shared: ControlGraph) -> ControlGraph:
    shared.fresh()
    return shared


def environment(graph: ControlGraph) -> dict[str, str]:
    return {"ROS_DOMAIN_ID": str(graph.domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}


def vla(graph: ControlGraph, start_process: Starter, *argv: str) -> Started:
    return start_process([sys.executable, "-m", "vla_ros.cli", *argv], "vla", **environment(graph))


def moving(graph: ControlGraph) -> None:
    graph.start()
    graph.send(graph.joint_chunk(0.5, rows=60))
    graph.wait_source("policy")


def homing(graph: ControlGraph) -> None:
    with graph.lock:
        graph.q = graph.target = graph.home + 0.2
    wait_for(lambda: graph.call("home").success, 10.0, "home to begin")
    graph.wait_source("home")


MODES = {
    "idle": lambda graph: None,
    "waiting": ControlGraph.start,
    "policy": moving,
    "homing": homing,
    "estop": lambda graph: graph.estop.publish(Bool(data=True)),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_service_stops_in_every_mode_until_reset(graph: ControlGraph, mode: str) -> None:
    MODES[mode](graph)
    assert graph.call("estop").success
    graph.wait_source("estop")
    if graph.commands:
        graph.settle()
        graph.assert_limits()
    # A release is not taken from the topic, nor from ~/stop.
    graph.estop.publish(Bool(data=False))
    assert graph.call("stop").success
    for service in ("start", "home"):
        response = graph.call(service)
        assert not response.success and "reset" in response.message
    wait_for(lambda: graph.diagnostics.get("estop_reason"), 10.0, "the reason")
    assert graph.state == f"estop: {graph.diagnostics['estop_reason']}"
    assert graph.call("reset").success
    graph.wait_source("hold")
    wait_for(lambda: graph.diagnostics.get("estop_reason") == "", 10.0, "no reason any more")


def test_the_service_answers_while_another_one_waits_for_the_arm(graph: ControlGraph) -> None:
    """~/stop answers when the arm rests; a press during that has to come through all the same."""
    moving(graph)
    wait_for(lambda: np.ptp(graph.sent_joints()[:, 0]) > 0.02, 10.0, "the arm to move")
    stopper = threading.Thread(target=graph.call, args=("stop",))
    stopper.start()
    assert graph.call("estop").success
    graph.wait_source("estop")
    stopper.join()
    assert graph.sources[-1] == "estop"
    graph.settle()
    graph.assert_limits()


def test_it_outlives_deactivation_and_configuring_anew(graph: ControlGraph) -> None:
    moving(graph)
    assert graph.call("estop").success
    graph.wait_source("estop")
    client = graph.node.create_client(ChangeState, "control_node/change_state")
    for transition in (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        future = client.call_async(request)
        wait_for(future.done, 20.0, f"transition {transition}")
        assert future.result().success
    wait_for(lambda: "reset" in graph.call("start").message, 10.0, "start to be refused")
    assert graph.sources[-1] == "estop"
    assert graph.call("reset").success


def test_a_press_from_before_the_node_counts(start_process: Starter, tmp_path: Path) -> None:
    with claimed_domain() as domain:
        graph = ControlGraph(start_process, domain, robot_yaml(tmp_path), launch=False)
        try:
            graph.estop.publish(Bool(data=True))
            graph.process = graph.start_node()
            graph.wait_source("estop", 20.0)
            assert "reset" in graph.call("start").message
            assert graph.driver_messages == []
        finally:
            graph.close()


def test_a_press_while_the_node_is_configured_counts(start_process: Starter, tmp_path: Path) -> None:
    with claimed_domain() as domain:
        graph = ControlGraph(start_process, domain, robot_yaml(tmp_path), launch=False)
        try:
            graph.process = graph.launch("-p", "autostart:=false")
            response = ask(graph.estop_client, graph.estop_client.srv_type.Request())
            assert response.success and "noted" in response.message
            client = graph.node.create_client(ChangeState, "control_node/change_state")
            for transition in (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE):
                wait_for(client.service_is_ready, 20.0, "the node")
                future = client.call_async(ChangeState.Request(transition=Transition(id=transition)))
                wait_for(future.done, 30.0, "the transition")
            graph.wait_source("estop", 20.0)
            assert "reset" in graph.call("start").message
        finally:
            graph.close()


def test_the_command_stops_and_says_what_the_arm_did(graph: ControlGraph, start_process: Starter) -> None:
    moving(graph)
    pressed = vla(graph, start_process, "estop")
    graph.wait_source("estop", 30.0)
    assert pressed.wait() == 0, pressed.output
    assert "emergency stop pressed" in pressed.output and "until `vla reset`" in pressed.output
    assert "brought to rest" in pressed.output or "at rest" in pressed.output
    released = vla(graph, start_process, "reset")
    assert released.wait() == 0, released.output
    graph.wait_source("hold")
    graph.start()


def test_a_stop_that_nobody_confirms_is_an_error(start_process: Starter) -> None:
    with claimed_domain() as domain:
        pressed = start_process(
            [sys.executable, "-m", "vla_ros.cli", "estop"],
            "vla",
            ROS_DOMAIN_ID=str(domain),
            ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST",
        )
        assert pressed.wait() == 1
    assert "nothing confirmed the emergency stop" in pressed.output


class Keyboard:
    """`vla estop --keyboard` on a terminal of its own."""

    def __init__(self, graph: ControlGraph) -> None:
        self.master, slave = pty.openpty()
        self.child = subprocess.Popen(
            [sys.executable, "-m", "vla_ros.cli", "estop", "--keyboard"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, **environment(graph)},
            start_new_session=True,
        )
        os.close(slave)
        self.output = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self.master, 1000):
                self.output += data.decode()
        except OSError:
            pass

    def wait(self, text: str) -> None:
        try:
            wait_for(lambda: text in self.output, 30.0, f"{text!r} on the terminal")
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self.output!r}") from None

    def close(self) -> None:
        self.child.kill()
        self.child.wait()


@pytest.fixture
def keyboard(graph: ControlGraph) -> Iterator[Keyboard]:
    keyboard = Keyboard(graph)
    yield keyboard
    keyboard.close()


def test_any_key_stops(graph: ControlGraph, keyboard: Keyboard) -> None:
    keyboard.wait("control_node says")
    moving(graph)
    keyboard.wait("control_node says: policy")
    os.write(keyboard.master, b" ")
    graph.wait_source("estop")
    keyboard.wait("STOPPED (pressed on vla/estop)")
    assert graph.call("reset").success
    keyboard.wait("control_node says: hold")
    graph.start()
    os.write(keyboard.master, b"x")
    graph.wait_source("estop")
    os.kill(keyboard.child.pid, signal.SIGINT)
    assert keyboard.child.wait(10) == 0, keyboard.output


def test_a_terminal_that_goes_away_stops(graph: ControlGraph, keyboard: Keyboard) -> None:
    keyboard.wait("control_node says")
    moving(graph)
    keyboard.wait("control_node says: policy")
    # The reader's own descriptor has to go with it: hang up as the kernel does when the window closes.
    os.kill(keyboard.child.pid, signal.SIGHUP)
    os.close(keyboard.master)
    graph.wait_source("estop", 20.0)
    assert keyboard.child.wait(20) == 0


def test_the_keyboard_needs_a_terminal(graph: ControlGraph, start_process: Starter) -> None:
    started = vla(graph, start_process, "estop", "--keyboard")
    assert started.wait() == 1
    assert "needs a terminal" in started.output
