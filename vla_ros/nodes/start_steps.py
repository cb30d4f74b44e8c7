"""What a driver needs before its first command, or after a fault: services called, messages sent and goals
reached, one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.duration import Duration
from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.transport import never_executed
from vla_ros.robot.drivers import Call, Goal, Send, StartStep

# How long a service, or who listens to a message, may take to appear.
PRESENT_S = 2.0
# Piper's node itself tries for 5 s to enable the arm before it answers.
ANSWER_S = 8.0
# How long a goal may take.
GOAL_S = 20.0
# A server that has not discovered the client in turn gives its answer up after 0.1 s (rmw_fastrtps).
DISCOVERED_S = 0.5
_LOOK_S = 0.01


def take_steps(node: Node, steps: Iterable[StartStep | Goal], look: Callable[[], None]) -> None:
    """Take a driver's steps; waits for each, on any thread (where there are goals, while another spins the
    node). Raises VlaRosError, which says which one failed and why: the service is not there, does not answer
    or says no; nobody listens to the message; the goal is not reached.

    look: called before each step and all the while, every 10 ms; where it raises nothing more is asked. What
    has been asked is not taken back: the driver still does it.
    """
    for step in steps:
        look()
        node.get_logger().info(step.what)
        if isinstance(step, Call):
            take_steps(node, step.then(_call(node, step, look)), look)
        elif isinstance(step, Goal):
            _reach(node, step, look)
        else:
            _send(node, step, look)


def _call(node: Node, step: Call, look: Callable[[], None]) -> Any:
    # Read here and not by the executor, which waits for us where this is part of a service it serves.
    client: Any = node.create_client(step.service_type, step.service, callback_group=never_executed())
    try:
        if not _becomes_true(client.service_is_ready, PRESENT_S, look):
            raise VlaRosError(
                f"cannot {step.what}: no service {step.service}. Is the robot's driver running?"
            )
        _becomes_true(_never, DISCOVERED_S, look)
        with client.handle:
            number = client.handle.send_request(step.request)
            response = _answer(client, step.service_type, number, look)
        if response is None:
            raise VlaRosError(f"cannot {step.what}: {step.service} did not answer within {ANSWER_S:.0f} s")
        wrong = step.wrong(response)
        if wrong:
            raise VlaRosError(f"cannot {step.what}: {step.service} answers that {wrong}")
        return response
    finally:
        node.destroy_client(client)


def _answer(client: Any, service_type: Any, number: int, look: Callable[[], None]) -> Any:
    deadline = time.monotonic() + ANSWER_S
    while time.monotonic() < deadline:
        look()
        header, response = client.handle.take_response(service_type.Response)
        if header is not None and response is not None and header.request_id.sequence_number == number:
            return response
        time.sleep(_LOOK_S)
    return None


def _reach(node: Node, step: Goal, look: Callable[[], None]) -> None:
    client: Any = ActionClient(node, step.action_type, step.action)
    try:
        if not _becomes_true(client.server_is_ready, PRESENT_S, look):
            raise VlaRosError(f"cannot {step.what}: no action {step.action}. Is the robot's driver running?")
        _becomes_true(_never, DISCOVERED_S, look)
        accepted = client.send_goal_async(step.goal)
        if not _becomes_true(accepted.done, ANSWER_S, look):
            raise VlaRosError(f"cannot {step.what}: {step.action} did not answer within {ANSWER_S:.0f} s")
        if not accepted.result().accepted:
            raise VlaRosError(f"cannot {step.what}: {step.action} refuses the goal")
        reached = accepted.result().get_result_async()
        if not _becomes_true(reached.done, GOAL_S, look):
            raise VlaRosError(f"cannot {step.what}: {step.action} was not done within {GOAL_S:.0f} s")
        if reached.result().status != GoalStatus.STATUS_SUCCEEDED:
            raise VlaRosError(f"cannot {step.what}: {step.action} gave it up; the driver's log says why")
    finally:
        client.destroy()


def _send(node: Node, step: Send, look: Callable[[], None]) -> None:
    publisher = node.create_publisher(type(step.message), step.topic, 1)
    try:
        if not _becomes_true(lambda: publisher.get_subscription_count() > 0, PRESENT_S, look):
            raise VlaRosError(
                f"cannot {step.what}: nobody subscribes to {step.topic}. Is the robot's driver running?"
            )
        publisher.publish(step.message)
        # It goes with the publisher where it has not been taken yet.
        publisher.wait_for_all_acked(Duration(seconds=PRESENT_S))
    finally:
        node.destroy_publisher(publisher)


def _never() -> bool:
    return False


def _becomes_true(condition: Callable[[], bool], seconds: float, look: Callable[[], None]) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        look()
        if time.monotonic() > deadline:
            return False
        time.sleep(_LOOK_S)
    return True
