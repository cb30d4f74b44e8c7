"""What policy_node tells of itself: /diagnostics, vla/policy_status, vla/policy_prompt and the log.

vla/policy_status (std_msgs/String) says what it does: `inactive`, `ready` (not started), `running`,
`waiting: <reason>` (input that has not come yet), `refused: <reason>`. Its publisher's liveliness ends with
the process, which tells a subscriber that asks for the same lease of the process's end within that time.

vla/policy_prompt (std_msgs/String) is the prompt in force, whole, whether it came on vla/prompt or as a
parameter. It is a topic of its own: of two latched publishers on vla/prompt whoever subscribes later, a
policy_node that is started anew among them, would get both prompts in any order.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import String

from vla_ros.errors import Refused
from vla_ros.nodes.diagnostics import ERROR, OK, WARN, DiagnosticsPublisher
from vla_ros.nodes.policy_inputs import InputReport
from vla_ros.nodes.qos import LATCHED, STATUS_QOS, STATUS_TOPIC
from vla_ros.policy.trigger import Pace

LOG_PERIOD_S = 1.0
RATE_WINDOW_S = 2.0
# Reasons that say no more than that something has not come yet.
WAITING = ("incomplete", "prompt_empty", "history_short")


class PolicyReport:
    """`diagnostics` is for figures; the methods are called from the inference thread and the executor's."""

    def __init__(self, node: Node, refresh: Callable[[], None]) -> None:
        self._log = node.get_logger()
        self._node = node
        self._status = ""
        self._logged: dict[str, float] = {}
        self._arrivals: deque[tuple[float, dict[str, int]]] = deque()
        self._publisher = node.create_publisher(String, STATUS_TOPIC, STATUS_QOS)
        self._prompts = node.create_publisher(String, "vla/policy_prompt", LATCHED)
        self.diagnostics = DiagnosticsPublisher(node, refresh)

    def status(self, text: str) -> None:
        """Publish what the node does, if it is something else than before."""
        if text != self._status:
            self._status = text
            self._publisher.publish(String(data=text))

    def prompt(self, text: str) -> None:
        """Publish the prompt in force, empty where there is none."""
        self._prompts.publish(String(data=text))

    def published(self) -> None:
        """A chunk went out."""
        self.diagnostics.count("chunks")
        self.diagnostics.state(OK, "ok")
        self.status("running")

    def refused(self, error: Refused, failure: str = "") -> None:
        """Count it, show it, and log each reason at most once a second.

        failure: the traceback, where it is this node's own fault.
        """
        self.diagnostics.count(f"refused.{error.reason}")
        self.diagnostics.state(ERROR if failure else WARN, f"{error.reason}: {error}")
        self.status(f"{'waiting' if error.reason in WAITING else 'refused'}: {error.reason}")
        now = time.monotonic()
        if now - self._logged.get(error.reason, -LOG_PERIOD_S) >= LOG_PERIOD_S:
            self._logged[error.reason] = now
            if failure:
                self._log.error(f"no chunk ({error.reason}): {failure}")
            else:
                self._log.warning(f"no chunk ({error.reason}): {error}")

    def inputs(self, report: InputReport) -> None:
        """What came in; rates are of the last two seconds."""
        now = time.monotonic()
        self._arrivals.append((now, report.received))
        while now - self._arrivals[0][0] > RATE_WINDOW_S and len(self._arrivals) > 2:
            self._arrivals.popleft()
        since, before = self._arrivals[0]
        for name, count in report.received.items():
            rate = (count - before[name]) / (now - since) if now > since else 0.0
            self.diagnostics.value(f"frames.{name}.received", count)
            self.diagnostics.value(f"frames.{name}.rate_hz", rate)
            self.diagnostics.value(f"frames.{name}.missed", report.missed[name])
        for stream, (typical, high) in report.latency.items():
            name = stream.replace("/", ".")
            self.diagnostics.value(f"{name}.latency_ms", typical)
            self.diagnostics.value(f"{name}.latency_high_ms", high)
        for stream, reasons in report.dropped.items():
            for reason, count in reasons.items():
                self.diagnostics.value(f"dropped.{stream}.{reason}", count)

    def wanted(self, running: bool, prompt: str, pace: Pace, rtc: str) -> None:
        """What the node was told. rtc: the kind of real-time chunking that the policy has."""
        instead = " (acts as crossfade: this policy has no real-time chunking)"
        mode = pace.mode + (instead if (pace.mode, rtc) == ("rtc", "none") else "")
        self.diagnostics.value("running", str(running).lower())
        self.diagnostics.value("prompt", shown(prompt))
        self.diagnostics.value("mode", mode)
        self.diagnostics.value("speed", pace.speed)
        self.diagnostics.value("rtc", rtc)

    def destroy(self) -> None:
        """Stop publishing."""
        self.diagnostics.destroy()
        self._node.destroy_publisher(self._publisher)
        self._node.destroy_publisher(self._prompts)


def shown(prompt: str) -> str:
    """A prompt for a line of text."""
    return repr(prompt if len(prompt) <= 100 else f"{prompt[:97]}...")
