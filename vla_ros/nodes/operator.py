"""The operator's hands on a running graph: services, prompt, task verdict and diagnostics."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.client import Client
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vla_ros.errors import VlaRosError
from vla_ros.evaluation.summary import read_report
from vla_ros.nodes.lifecycle import SEEN_S
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.start_steps import DISCOVERED_S

CALL_TIMEOUT_S = 10.0
# Longer than anything takes that a Trigger does: a control_node's start has each driver take its first steps,
# of which each may take seconds.
TRIGGER_TIMEOUT_S = 120.0
ASK_AGAIN_S = 3.0
WATCH_PERIOD_S = 0.05
# How long to look for a first other node.
ALONE_S = 5.0


class GraphError(VlaRosError):
    """A node of the graph is gone, refuses, or does not answer."""


class Operator:
    """Calls the nodes of one graph by their names, waiting for each answer.

    `watch` is called while waiting and raises when waiting is pointless (a process has ended).
    The node is spun by a thread of its own; all methods are for one other thread.
    """

    def __init__(self, node: Node, watch: Callable[[], None]) -> None:
        self.node = node
        self._watch = watch
        self._clients: dict[str, Client] = {}
        # Written by the executor's thread, read by the caller's: guarded by this.
        self._changed = threading.Condition()
        self._reports: dict[str, dict[str, str]] = {}
        self._reports_seen: dict[str, int] = {}
        self._task: list[str] = []
        self._prompts = node.create_publisher(String, "vla/prompt", LATCHED)
        node.create_subscription(String, "sim_node/task", self._on_task, LATCHED)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._spinner = threading.Thread(target=self._spin, name="operator", daemon=True)
        self._spinner.start()

    def close(self) -> None:
        """Stop spinning; the node may then be destroyed."""
        self._executor.shutdown(timeout_sec=2.0)
        self._spinner.join(timeout=2.0)

    def trigger(self, service: str) -> str:
        """Call std_srvs/Trigger `service`; returns its message. Raises GraphError on refusal or silence."""
        response = self._call(Trigger, service, Trigger.Request(), answer_s=TRIGGER_TIMEOUT_S)
        if not response.success:
            raise GraphError(f"{service} refused: {response.message}")
        return str(response.message)

    def runs(self, node: str) -> bool:
        """Whether `node` is in the graph; waits for it while the graph is being discovered."""
        deadline = time.monotonic() + ALONE_S
        company = False
        while True:
            nodes = self.node.get_node_names_and_namespaces()
            if (node, self.node.get_namespace()) in nodes or time.monotonic() > deadline:
                return (node, self.node.get_namespace()) in nodes
            if len(nodes) > 1 and not company:
                company, deadline = True, time.monotonic() + SEEN_S
            self.sleep(WATCH_PERIOD_S)

    def set_integer(self, node: str, name: str, value: int) -> None:
        """Set an integer parameter of `node`."""
        parameter = Parameter(
            name=name, value=ParameterValue(type=ParameterType.PARAMETER_INTEGER, integer_value=value)
        )
        request = SetParameters.Request(parameters=[parameter])
        (result,) = self._call(SetParameters, f"{node}/set_parameters", request).results
        if not result.successful:
            raise GraphError(f"{node}: parameter {name} = {value} refused: {result.reason}")

    def wait_active(self, node: str, timeout_s: float) -> None:
        """Wait until lifecycle node `node` is active."""
        deadline = time.monotonic() + timeout_s
        client = self._client(GetState, f"{node}/get_state")
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise GraphError(f"{node} was not active within {timeout_s:.0f} s")
            self._wait(client.service_is_ready, left, f"{node} to appear")
            response = self._call(GetState, f"{node}/get_state", GetState.Request(), left, again=True)
            if response.current_state.id == State.PRIMARY_STATE_ACTIVE:
                return
            time.sleep(WATCH_PERIOD_S)

    def set_active(self, node: str, active: bool) -> None:
        """Activate or deactivate lifecycle node `node`."""
        identity = Transition.TRANSITION_ACTIVATE if active else Transition.TRANSITION_DEACTIVATE
        request = ChangeState.Request(transition=Transition(id=identity))
        if not self._call(ChangeState, f"{node}/change_state", request).success:
            raise GraphError(f"{node} refused to be {'activated' if active else 'deactivated'}")

    def prompt(self, text: str) -> None:
        """Publish the instruction."""
        self._prompts.publish(String(data=text))

    def forget_task(self) -> None:
        """From now on only verdicts that follow a new "running" count."""
        with self._changed:
            self._task.clear()

    def wait_verdict(self, timeout_s: float) -> str | None:
        """Wait for what the task says after "running": "success" or "failure: ..."; None if nothing."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._watch()
            with self._changed:
                if len(self._task) > 1:
                    return self._task[1]
                self._changed.wait(WATCH_PERIOD_S)
        return None

    def wait_running(self, timeout_s: float) -> None:
        """Wait until the task says "running" after :meth:`forget_task`."""
        self._wait(lambda: bool(self._task), timeout_s, "the task to run")

    def fresh_report(self, node: str, timeout_s: float = 10.0) -> dict[str, str]:
        """Diagnostics of `node` that were published after this call, {key: value}.

        Two reports are waited for: the first may have been on its way already.
        """
        count = self._reports_seen.get(node, 0)
        self._wait(lambda: self._reports_seen.get(node, 0) >= count + 2, timeout_s, f"diagnostics of {node}")
        with self._changed:
            return self._reports[node]

    def sleep(self, duration_s: float) -> None:
        """Sleep, watching the processes."""
        deadline = time.monotonic() + duration_s
        while (left := deadline - time.monotonic()) > 0:
            self._watch()
            time.sleep(min(left, WATCH_PERIOD_S))

    def _call(
        self,
        kind: Any,
        service: str,
        request: Any,
        answer_s: float = CALL_TIMEOUT_S,
        again: bool = False,
    ) -> Any:
        """The answer to `request`. again: it only asks, and is asked again where no answer comes. What acts
        is asked once: a server that is slow would act on the second after it had said no to the first."""
        known = service in self._clients
        client = self._client(kind, service)
        self._wait(client.service_is_ready, min(answer_s, CALL_TIMEOUT_S), f"service {service}")
        if not known:
            # While the two sides are still discovering each other the server gives up sending its answer
            # after 100 ms (rmw_fastrtps, `rmw_send_response`).
            self.sleep(DISCOVERED_S)
        futures = [client.call_async(request)]
        asked = time.monotonic()

        def answered() -> bool:
            nonlocal asked
            if any(future.done() for future in futures):
                return True
            if not client.service_is_ready():
                raise GraphError(f"{service} is gone and has not answered")
            if again and time.monotonic() - asked > ASK_AGAIN_S:
                futures.append(client.call_async(request))
                asked = time.monotonic()
            return False

        self._wait(answered, answer_s, f"an answer of {service}")
        return next(future for future in futures if future.done()).result()

    def _client(self, kind: Any, service: str) -> Client:
        if service not in self._clients:
            self._clients[service] = self.node.create_client(kind, service)
        return self._clients[service]

    def _wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._watch()
            if time.monotonic() > deadline:
                raise GraphError(f"waited {timeout_s:.0f} s in vain for {what}")
            with self._changed:
                self._changed.wait(0.01)

    def _on_task(self, message: String) -> None:
        with self._changed:
            # Verdicts of the scene before are still on their way when a new one is set.
            if self._task or message.data == "running":
                self._task.append(message.data)
            self._changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        with self._changed:
            for node in ("sim_node", "control_node", "policy_node"):
                report = read_report(message, node)
                if report is not None:
                    self._reports[node] = report
                    self._reports_seen[node] = self._reports_seen.get(node, 0) + 1
            self._changed.notify_all()

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):
            self._executor.spin()
