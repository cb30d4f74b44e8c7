"""What the commanding thread cannot see: that the policy's process or a driver is gone, or that it itself
stands still. Looked at on the executor's thread; what is lost is handed over and acted on within a tick."""

from __future__ import annotations

import collections
import sys
import threading
import time
import traceback
from collections.abc import Mapping

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String

from vla_ros.nodes.arm_topics import ArmTopics
from vla_ros.nodes.base_topics import BaseTopics
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.pace import Pace
from vla_ros.nodes.qos import (
    STATUS_QOS,
    STATUS_TOPIC,
    QoSLivelinessChangedInfo,
    SubscriptionEventCallbacks,
)

LOOK_S = 0.1
# A commanding thread that has not ticked for this many periods stands still.
STALLED_PERIODS = 20


class Watchdogs:
    """See the module.

    policy_gone: a text for each time that the last publisher of `vla/policy_status` was lost; to be popped by
    the commanding thread. no_driver: which command topics, of arms and base, no driver takes now, for people;
    "" while each has one.
    """

    def __init__(
        self,
        node: Node,
        parts: Mapping[str, ArmTopics | BaseTopics],
        period_ns: int,
        log: HandedLog,
        diagnostics: DiagnosticsPublisher,
    ) -> None:
        self.policy_gone: collections.deque[str] = collections.deque()
        self.no_driver = ""
        self._node = node
        self._parts = parts
        self._stalled_ns = STALLED_PERIODS * period_ns
        self._log = log
        self._diagnostics = diagnostics
        self._watched: tuple[threading.Thread, Pace] | None = None
        self._stalled = False
        diagnostics.count("loop_stalled", 0)
        diagnostics.value("policy_process", "unknown")
        self._policy = node.create_subscription(
            String,
            STATUS_TOPIC,
            lambda _: None,
            STATUS_QOS,
            event_callbacks=SubscriptionEventCallbacks(liveliness=self._on_liveliness),
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(LOOK_S, self._look, clock=steady)

    def watch(self, thread: threading.Thread | None, pace: Pace | None) -> None:
        """Watch this commanding thread from now on, or none any more."""
        self._watched = None if thread is None or pace is None else (thread, pace)

    def destroy(self) -> None:
        """Stop looking."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._policy)

    def look_for_drivers(self) -> None:
        """Bring `no_driver` up to date. For the executor's thread, and for what keeps it from looking."""
        missing = []
        for name, part in self._parts.items():
            unheard = part.unheard()
            if unheard:
                part.driver_gone()
            missing += [f"{name}: {text}" for text in unheard]
        self.no_driver = "; ".join(missing)

    def _on_liveliness(self, change: QoSLivelinessChangedInfo) -> None:
        self._diagnostics.value("policy_process", "alive" if change.alive_count else "gone")
        if change.alive_count == 0 and (change.alive_count_change < 0 or change.not_alive_count_change > 0):
            self.policy_gone.append("the process that publishes vla/policy_status is gone")

    def _look(self) -> None:
        self.look_for_drivers()
        self._look_at_loop()
        self._log.flush()

    def _look_at_loop(self) -> None:
        watched = self._watched
        if watched is None:
            return
        thread, pace = watched
        silent_ns = time.monotonic_ns() - pace.awake_ns
        if not pace.awake_ns or silent_ns < self._stalled_ns:
            self._stalled = False
            return
        if self._stalled:
            return
        self._stalled = True
        self._diagnostics.count("loop_stalled")
        frame = sys._current_frames().get(thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "it has ended\n"
        self._node.get_logger().error(
            f"the commanding thread has not ticked for {silent_ns / 1e6:.0f} ms; it stands at\n{stack}"
        )
