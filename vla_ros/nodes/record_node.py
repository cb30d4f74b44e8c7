"""record_node: one MCAP file for each time that the robot is started, until it is stopped.

It only listens: nothing that it does, or fails to do, holds up the robot. Threads: the recorder's reads the
topics, writes the files and sees when one begins and ends; the executor's serves diagnostics and hears what
policy_node says it follows.
"""

from __future__ import annotations

import ast
import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from vla_ros.errors import VlaRosError
from vla_ros.nodes.diagnostics import ERROR, OK, DiagnosticsPublisher
from vla_ros.nodes.episode_recorder import NICENESS, EpisodeRecorder, take_stamped
from vla_ros.nodes.lifecycle import ManagedNode, declare, run
from vla_ros.nodes.transport import polled_subscription
from vla_ros.recording.folder import GB, GO_ON_BYTES, claim_file, free_bytes, prepare
from vla_ros.recording.takes import Begin, End, Takes, moves
from vla_ros.recording.topics import recorded_topics
from vla_ros.resources import robot_config
from vla_ros.robot.load import load_robot
from vla_ros.robot.show import effective_yaml

LOOK_AROUND_S = 1.0
# Every change of what control_node does counts, also two between two looks.
STATUS_QOS = QoSProfile(depth=20, durability=DurabilityPolicy.TRANSIENT_LOCAL)
COMMAND_QOS = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
# Of policy_node's diagnostics, what is noted in a file. They come each second; where they do not, it is gone.
NOTED = ("policy", "policy_sha256")
POLICY_GONE_S = 3.0


@dataclass
class _File:
    """One that is being written. policy: what is noted of it; prompts: those that it followed, in order."""

    path: Path
    policy: dict[str, str]
    began_s: float = field(default_factory=time.monotonic)
    prompts: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long it has been written to."""
        return time.monotonic() - self.began_s


class RecordNode(ManagedNode):
    """See the module. Records while active."""

    def __init__(self) -> None:
        super().__init__("record_node")
        declare(self, "robot", "", "Robot YAML: a name or a path.")
        declare(self, "folder", "recordings", "Where the files go; made where it is not there.")
        self._recorder: EpisodeRecorder | None = None
        self._diagnostics: DiagnosticsPublisher | None = None
        self._ours: list[Any] = []
        self._takes = Takes()
        self._file: _File | None = None
        self._problem = ""
        self._look_around_s = 0.0
        self._sent: dict[str, float] = {}
        self._policy: dict[str, str] = {}
        self._policy_heard_s = 0.0

    def configure(self) -> None:
        """Read the YAML, and see that the folder takes files."""
        if not self.get_parameter("robot").value:
            raise VlaRosError("record_node: parameter 'robot' is not set; start with -p robot:=...")
        file = robot_config(self.get_parameter("robot").value)
        self._robot = load_robot(file)
        self._robot_yaml = effective_yaml(self._robot, file)
        self._folder = prepare(Path(self.get_parameter("folder").value))
        self._diagnostics = DiagnosticsPublisher(self, self._refresh)
        self._diagnostics.count("recordings", 0)
        heard = self.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 20)
        self._ours = [heard]

    def activate(self) -> None:
        """Listen to the robot; a file begins with the next start, or now where it has been started."""
        self._takes = Takes()
        self._status = polled_subscription(self, String, "vla/control_status", STATUS_QOS)
        self._commands = polled_subscription(self, JointState, "vla/command", COMMAND_QOS)
        topics = recorded_topics(self._robot, self.get_namespace())
        self._recorder = EpisodeRecorder(self, topics, self._robot_yaml, self._look)
        self._recorder.start()
        self.get_logger().info(f"recordings go to {self._folder}, one from each start to the stop")

    def deactivate(self) -> None:
        """Complete the file that is being written, and stop listening."""
        if self._recorder is None:
            return
        self._recorder.stop()
        self._act(self._takes.end("record_node was ended"))
        self._recorder.close()
        self._recorder = None
        for subscription in (self._status, self._commands):
            self.destroy_subscription(subscription)

    def cleanup(self) -> None:
        """Release what `configure` made."""
        for subscription in self._ours:
            self.destroy_subscription(subscription)
        self._ours = []
        if self._diagnostics is not None:
            self._diagnostics.destroy()
            self._diagnostics = None

    # On the recorder's thread ----------------------------------------------------------------------------

    def _look(self) -> None:
        for cdr, received_ns, _, _ in take_stamped(self._status):
            status = deserialize_message(cdr, String).data
            self._act(self._takes.heard(status, received_ns, time.monotonic_ns()))
        self._look_whether_it_moves()
        self._act(self._takes.due(time.monotonic_ns()))
        if self._file is None or time.monotonic() < self._look_around_s:
            return
        self._look_around_s = time.monotonic() + LOOK_AROUND_S
        assert self._recorder is not None
        if self._recorder.error is not None:
            self._act(self._takes.give_up("could not be written"))
        elif obstacle := self._obstacle():
            self._act(self._takes.give_up(obstacle))
            self._say_problem(f"no more is recorded: {obstacle}")
        elif not self.count_publishers("vla/control_status"):
            self._act(self._takes.end("control_node is gone"))

    def _look_whether_it_moves(self) -> None:
        for cdr, *_ in take_stamped(self._commands):
            if self._takes.ending:
                command = deserialize_message(cdr, JointState)
                before, self._sent = self._sent, dict(zip(command.name, command.position, strict=False))
                if moves(before, self._sent):
                    self._takes.moved(time.monotonic_ns())

    def _act(self, changes: list[Begin | End]) -> None:
        for change in changes:
            if isinstance(change, Begin):
                self._begin(change)
            else:
                self._end(change)

    def _begin(self, begin: Begin) -> None:
        assert self._recorder is not None
        if obstacle := self._obstacle():
            self._say_problem(f"not recorded: {obstacle}")
            return
        try:
            path = claim_file(self._folder, datetime.now())
            self._recorder.begin(path, begin.at_ns)
        except OSError as error:
            self._say_problem(f"not recorded: {error}")
            return
        self._problem = ""
        known = time.monotonic() - self._policy_heard_s < POLICY_GONE_S
        self._file = _File(path, self._policy if known else {})
        self.get_logger().info(f"recording {path}")

    def _end(self, end: End) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        assert self._recorder is not None
        notes = {
            "robot": self._robot.name,
            **file.policy,
            "prompt": "\n".join(file.prompts),
            "ended": end.how,
            "policy_acted": str(end.acted).lower(),
        }
        try:
            self._recorder.finish(notes)
        except OSError as error:
            self._say_problem(f"{file.path}.part could not be completed: {error.strerror}")
            return
        except VlaRosError as error:
            self._say_problem(str(error))
        if self._diagnostics is not None:
            self._diagnostics.count("recordings")
        size = file.path.stat().st_size / 1e6
        self.get_logger().info(f"recorded {file.path}: {file.seconds:.1f} s, {size:.1f} MB, {end.how}")

    def _obstacle(self) -> str:
        """Why nothing more should be written, for people; "" where it may."""
        try:
            free = free_bytes(self._folder)
        except OSError as error:
            return str(error)
        if free >= GO_ON_BYTES:
            return ""
        return f"disk full: {free / GB:.1f} GB left where {self._folder} is; make room"

    def _say_problem(self, text: str) -> None:
        self._problem = text
        self.get_logger().error(text)

    # On the executor's thread ----------------------------------------------------------------------------

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        policy_node = f"{self.get_namespace()}/policy_node".lstrip("/")
        for status in message.status:
            if status.name != policy_node:
                continue
            values = {pair.key: pair.value for pair in status.values}
            self._policy = {key: values[key] for key in NOTED if key in values}
            self._policy_heard_s = time.monotonic()
            # As a Python string, see policy_report.shown.
            file, prompt = self._file, str(ast.literal_eval(values.get("prompt", "''")))
            if file is None:
                continue
            file.policy = self._policy
            if prompt and prompt not in file.prompts[-1:]:
                file.prompts.append(prompt)

    def _refresh(self) -> None:
        assert self._diagnostics is not None
        file, recorder = self._file, self._recorder
        state = f"recording {file.path.name}" if file is not None else "waits for a start"
        self._diagnostics.state(ERROR if self._problem else OK, self._problem or state)
        self._diagnostics.value("file", file.path if file is not None else "")
        self._diagnostics.value("seconds", file.seconds if file is not None else 0.0)
        self._diagnostics.value("messages_lost", recorder.lost if recorder is not None else 0)
        not_counted = recorder.not_counted if recorder is not None else ()
        self._diagnostics.value("messages_not_counted", ", ".join(not_counted))
        with contextlib.suppress(OSError):  # a folder that was taken away is told by what is written next
            self._diagnostics.value("disk_left_gb", free_bytes(self._folder) / GB)
        if recorder is not None and not recorder.alive:
            self.failure = "executor"
            self.ended.set()


def main() -> int:
    """The process's entry point."""
    # All of its threads, DDS's too: whatever else the machine has to do comes first.
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    return run(RecordNode, images="received")


if __name__ == "__main__":
    sys.exit(main())
