"""What control_node tells about its commands: `vla/command`, `vla/intervention`, `vla/control_source`,
`vla/control_status`, and what the supervisor noticed, in the log and the diagnostics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.errors import Refused
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.qos import LATCHED
from vla_ros.robot.channels import BASE_CHANNELS, WANTED, gripper_channel, joint_channels
from vla_ros.safety.supervisor import Event, Supervisor
from vla_ros.types import BaseCommand, Command

NS = 1_000_000_000
# How an event of the supervisor is logged: severity, words, and whether at most once a second.
EVENTS = {
    "mode": ("info", "", False),
    "lost": ("warning", "holding", False),
    "fault": ("warning", "gave up", False),
    "estop": ("error", "emergency stop", False),
    "counted": ("warning", "noticed", True),
}


class CommandReport:
    """See the module. For the commanding thread.

    vla/command: per channel what was sent, and under `<channel>/wanted` what was wanted before safety.
    vla/control_status: the mode (`vla_ros.safety.modes`), or `<mode>: <what brought it there>`, published
    when the mode changes: unlike the source, it tells a robot that was stopped from one that waits.
    vla/intervention: `<arm>/<word>` or `base/<word>` for each limit that changes the commands now, in order,
    separated by commas; published when that changes, empty when nothing is changed any more.
    """

    def __init__(self, node: Node, diagnostics: DiagnosticsPublisher, log: HandedLog) -> None:
        self._node = node
        self._diagnostics = diagnostics
        self._log = log
        diagnostics.count("starved_ticks", 0)
        self._command = node.create_publisher(JointState, "vla/command", 10)
        self._intervention = node.create_publisher(String, "vla/intervention", LATCHED)
        self._source = node.create_publisher(String, "vla/control_source", LATCHED)
        self._last_words: tuple[str, ...] = ()
        self._status = node.create_publisher(String, "vla/control_status", LATCHED)
        self._last_source = ""
        self._last_mode = ""

    def destroy(self) -> None:
        """Release the topics."""
        for publisher in (self._command, self._intervention, self._source, self._status):
            self._node.destroy_publisher(publisher)

    def commands(self, commands: Mapping[str, Command], drive: BaseCommand | None = None) -> None:
        """Tell one tick's commands, {arm: command} and the base's; none where nothing was sent."""
        words = []
        changed = [(name, command.interventions) for name, command in commands.items()]
        if drive is not None:
            changed.append(("base", drive.interventions))
        for name, interventions in changed:
            for word in interventions:
                words.append(f"{name}/{word}")
                self._diagnostics.count(f"interventions.{word}")
        if commands:
            self._command.publish(message(commands, drive))
        told = tuple(sorted(words))
        if told != self._last_words:
            self._last_words = told
            self._intervention.publish(String(data=", ".join(told)))

    def changes(self, supervisor: Supervisor, events: Iterable[Event], now_ns: int) -> None:
        """Tell what a tick changed, and its events."""
        for event in events:
            if event.kind == "refused_chunk":
                self.refused_chunk(Refused(event.reason, event.text))
                continue
            severity, words, sparsely = EVENTS[event.kind]
            if event.kind == "mode":
                self._log.say(severity, event.text)
                continue
            self._diagnostics.count(f"interventions.{event.reason}")
            text = f"{words} ({event.reason}): {event.text}"
            self._log.say(severity, text, once_per_s=event.reason if sparsely else "")
        stamp, last_due = supervisor.chunk_stamp_ns, supervisor.last_due_ns
        if stamp is not None and last_due is not None:
            self._diagnostics.sample("chunk_age_ms", (now_ns - stamp) / 1e6)
            self._diagnostics.sample("horizon_left_ms", (last_due - now_ns) / 1e6)
            if last_due < now_ns:
                self._diagnostics.count("starved_ticks")
        if supervisor.source != self._last_source:
            self._last_source = supervisor.source
            self._source.publish(String(data=self._last_source))
        if supervisor.mode != self._last_mode:
            self._last_mode = supervisor.mode
            reason = supervisor.estop_reason or supervisor.hold_reason
            self._status.publish(String(data=f"{self._last_mode}: {reason}" if reason else self._last_mode))

    def refused_chunk(self, refused: Refused) -> None:
        """Tell of a chunk that was not taken. From any thread."""
        self._diagnostics.count(f"refused_chunks.{refused.reason}")
        self._log.say("warning", f"chunk refused ({refused.reason}): {refused}", once_per_s=refused.reason)


def message(commands: Mapping[str, Command], drive: BaseCommand | None = None) -> JointState:
    """`vla/command` for {arm: command} and the base's, stamped with the commands' stamp."""
    names: list[str] = []
    sent: list[float] = []
    wanted: list[float] = []
    stamp_ns = 0
    for name, command in commands.items():
        stamp_ns = command.stamp_ns
        names += joint_channels(name, len(command.sent))
        sent += command.sent.tolist()
        wanted += command.wanted.tolist()
        if command.gripper is not None and command.gripper_wanted is not None:
            names.append(gripper_channel(name))
            sent.append(command.gripper)
            wanted.append(command.gripper_wanted)
    if drive is not None:
        names += BASE_CHANNELS
        sent += drive.sent.tolist()
        wanted += drive.wanted.tolist()
    result = JointState(name=names + [name + WANTED for name in names], position=np.array(sent + wanted))
    result.header.stamp.sec, result.header.stamp.nanosec = divmod(stamp_ns, NS)
    return result
