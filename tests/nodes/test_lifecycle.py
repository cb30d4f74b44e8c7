"""The shared lifecycle node and `run`, in a process of their own as every node of ours uses them."""

import os
import signal
import sys

import pytest
import rclpy
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from tests.support import Started, Starter, ask, wait_for

SCRIPT = """
import sys
from vla_ros.errors import VlaRosError
from vla_ros.nodes.lifecycle import ManagedNode, declare, run, trigger_service

class Door(ManagedNode):
    def __init__(self):
        super().__init__("door")
        declare(self, "mode", "good", "How it goes wrong.")
        declare(self, "width", 0.9, "Width in m.", 0.5, 2.0)

    def configure(self):
        mode = self.get_parameter("mode").value
        if mode == "refuse":
            raise VlaRosError("door.yaml: width: found -1; expected > 0; correct it")
        if mode == "bug":
            raise RuntimeError("a mistake in the code")
        trigger_service(self, "knock", self.knock)
        if mode == "crash":
            self.create_timer(0.2, lambda: 1 / 0)
        print("CONFIGURED", flush=True)

    def knock(self):
        if self.get_parameter("mode").value == "shy":
            raise VlaRosError("not today")
        return "come in"

    def activate(self):
        print("ACTIVE", flush=True)

    def deactivate(self):
        print("DEACTIVATED", flush=True)

    def cleanup(self):
        print("CLEANED", flush=True)

sys.exit(run(Door))
"""


def start(starter: Starter, *arguments: str) -> Started:
    argv = [sys.executable, "-c", SCRIPT, "--ros-args"]
    for argument in arguments:
        argv += ["-p", argument]
    return starter(argv, "door")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_deactivates_and_cleans_up(ros_domain: int, start_process: Starter, number: int) -> None:
    door = start(start_process)
    door.wait_for_text("ACTIVE")
    os.kill(door.pid, number)
    assert door.wait() == 0
    assert door.output.index("ACTIVE") < door.output.index("DEACTIVATED") < door.output.index("CLEANED")


@pytest.mark.parametrize(
    ("mode", "text"),
    [("refuse", "door.yaml: width: found -1"), ("bug", "RuntimeError: a mistake in the code")],
)
def test_a_refused_configure_says_why_releases_and_ends(
    ros_domain: int, start_process: Starter, mode: str, text: str
) -> None:
    door = start(start_process, f"mode:={mode}")
    assert door.wait() == 1
    assert text in door.output
    assert "CLEANED" in door.output
    assert "ACTIVE" not in door.output.replace("DEACTIVATED", "")


def test_an_exception_in_a_callback_ends_the_process_in_order(
    ros_domain: int, start_process: Starter
) -> None:
    door = start(start_process, "mode:=crash")
    assert door.wait() == 1
    assert "ZeroDivisionError" in door.output
    assert "DEACTIVATED" in door.output


def test_a_parameter_out_of_its_range_is_refused(ros_domain: int, start_process: Starter) -> None:
    door = start(start_process, "width:=7.0")
    assert door.wait() != 0
    assert "width" in door.output


class Caller:
    def __init__(self, domain: int) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("caller", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def __call__(self, kind, name, request):
        client = self.node.create_client(kind, name)
        wait_for(client.service_is_ready, 20.0, name, lambda: self.executor.spin_once(0.05))
        future = client.call_async(request)
        wait_for(future.done, 20.0, f"an answer of {name}", lambda: self.executor.spin_once(0.05))
        return future.result()

    def state(self) -> str:
        client = self.node.create_client(GetState, "door/get_state")
        answer = ask(client, GetState.Request(), step=lambda: self.executor.spin_once(0.05))
        return answer.current_state.label

    def change(self, transition: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=transition))
        return self(ChangeState, "door/change_state", request).success

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def test_a_lifecycle_manager_may_do_it_instead(ros_domain: int, start_process: Starter) -> None:
    start(start_process, "autostart:=false", "mode:=refuse")
    call = Caller(ros_domain)
    try:
        assert call.state() == "unconfigured"
        assert not call.change(Transition.TRANSITION_CONFIGURE)
        assert call.state() == "unconfigured"
    finally:
        call.close()


def test_transitions_services_and_shutdown(ros_domain: int, start_process: Starter) -> None:
    door = start(start_process, "autostart:=false", "mode:=shy")
    call = Caller(ros_domain)
    try:
        assert call.state() == "unconfigured"
        assert call.change(Transition.TRANSITION_CONFIGURE)
        assert call.change(Transition.TRANSITION_ACTIVATE)
        assert call.state() == "active"
        assert not call.change(Transition.TRANSITION_CONFIGURE), "there is no such way from here"
        assert call.state() == "active", "and the node lives on"
        answer = call(Trigger, "door/knock", Trigger.Request())
        assert (answer.success, answer.message) == (False, "not today")
        assert call.change(Transition.TRANSITION_DEACTIVATE)
        assert call.change(Transition.TRANSITION_CLEANUP)
        assert call.change(Transition.TRANSITION_UNCONFIGURED_SHUTDOWN)
    finally:
        call.close()
    assert door.wait() == 0
