"""The processes of the graph, and how they are started, watched and ended together.

`table()` is the one list that both `vla up` and the launch files read. `Supervisor` runs such a list: each
process in a group of its own, output prefixed with the process's name, and nothing left behind however this
program ends (Ctrl-C, SIGTERM, or killed hard: the kernel then ends the children).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import IO

from vla_ros.resources import robot_config
from vla_ros.robot.inherit import read_robot

PR_SET_PDEATHSIG = 1
MAX_LINES_WAITING = 10_000
# A process that ends sooner than this refused to start; another try would end the same way.
REFUSED_WITHIN_S = 10.0
# Ctrl-C, being told to end, and the terminal closed.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Process:
    """One process of the graph: what to run and what to add to its environment.

    restart: start it again when it dies, instead of ending the others with it. needed: whether the others end
    where it dies so soon after it was started that it refuses to; without it the next try comes later, and it
    is ended after the others: who only looks on sees the robot come to rest.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    restart: bool = False
    needed: bool = True


def _node(
    name: str, parameters: Mapping[str, str], extra: Sequence[str], called: str | None = None
) -> Process:
    """called: the node's name where it is not its module's."""
    # rcl reads a parameter's value as YAML, and JSON strings are YAML strings: quotes, colons and
    # spaces in a prompt or a path arrive as they were typed. (YAML knows no surrogate pairs.)
    quoted = {key: json.dumps(value, ensure_ascii=False) for key, value in parameters.items()}
    arguments = [item for key, value in quoted.items() for item in ("-p", f"{key}:={value}")]
    renamed = () if called is None else ("-r", f"__node:={called}")
    argv = (sys.executable, "-m", f"vla_ros.nodes.{name}", "--ros-args", *renamed, *arguments, *extra)
    # The nodes' matrices are small: BLAS threads only wake up, and keep one another from a busy core.
    return Process(called or name, argv, {"PYTHONUNBUFFERED": "1", "OPENBLAS_NUM_THREADS": "1"})


def table(
    robot: str,
    policy: str | None = None,
    sim: bool = False,
    extra: Sequence[str] = (),
    prompt: str | None = None,
    mode: str | None = None,
    record: str | None = None,
) -> list[Process]:
    """The processes that together run `policy` on `robot`.

    robot, policy: names or paths as given to the nodes' parameters; without a policy no policy_node.
    sim: add the MuJoCo twin in place of the robot's own driver and cameras.
    extra: ROS arguments for every node, such as `-r __ns:=/left` or `-p use_sim_time:=true`.
    mode: how chunks follow one another, for both ends of them; the nodes' default without it.
    record: the folder that recordings go to, one from each start to the stop; without it nothing is recorded.
    """
    modes = {} if mode is None else {"mode": mode}
    processes = [_node("sim_node", {"robot": robot}, extra)] if sim else _cameras(robot, extra)
    processes.append(_node("control_node", {"robot": robot, **modes}, extra))
    if policy is not None:
        parameters = {"robot": robot, "policy": policy, **modes}
        if prompt is not None:
            parameters["prompt"] = prompt
        # Without it control_node holds the arm, and it comes back stopped: the operator starts it again.
        processes.append(replace(_node("policy_node", parameters, extra), restart=True))
    if record is not None:
        recorder = _node("record_node", {"robot": robot, "folder": record}, extra)
        # A robot that moves is not stopped because nobody writes down what it does.
        processes.append(replace(recorder, restart=True, needed=False))
    return processes


def _cameras(robot: str, extra: Sequence[str]) -> list[Process]:
    """A camera_node for each camera to which the YAML gives a source. Its nodes check the file, not we."""
    fields = read_robot(robot_config(robot)).data
    cameras = fields.get("cameras") if isinstance(fields, dict) else None
    named = cameras.items() if isinstance(cameras, dict) else ()
    return [
        # Without it there is no observation; the others go on.
        replace(_node("camera_node", {"robot": robot, "camera": name}, extra, f"camera_{name}"), restart=True)
        for name, camera in named
        if isinstance(camera, dict) and camera.get("source") is not None
    ]


def die_with_parent() -> None:
    """For `preexec_fn`: have the kernel tell this child to end when the thread that started it is gone.

    SIGTERM and not SIGKILL: control_node still has an arm to bring to a hold.
    """
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def start(process: Process, **popen: object) -> subprocess.Popen[bytes]:
    """Start one process in a group of its own that cannot outlive this one.

    Call it from a thread that lives as long as the process shall: the kernel's rule is about the thread.
    """
    return subprocess.Popen(
        process.argv,
        env={**os.environ, **process.env},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=die_with_parent,
        **popen,  # type: ignore[call-overload,no-any-return]
    )


def signal_group(child: subprocess.Popen[bytes], number: int) -> None:
    """Send a signal to a child and to everything it started; no error when all of it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, number)


def end(children: Sequence[subprocess.Popen[bytes]], grace_s: float = 5.0) -> None:
    """End children: SIGINT as from a terminal, then SIGTERM, then SIGKILL to what is left of each group."""
    for number, patience in ((signal.SIGINT, grace_s), (signal.SIGTERM, 2.0)):
        for child in children:
            if child.poll() is None:
                signal_group(child, number)
        deadline = time.monotonic() + patience
        for child in children:
            try:
                child.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                continue
    for child in children:
        signal_group(child, signal.SIGKILL)
        child.wait()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and a closed terminal raise KeyboardInterrupt like Ctrl-C, so that this program ends what it
    started; once, as the clean-up must not be interrupted by an impatient second one. For the main thread."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in ENDING:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Supervisor:
    """Runs a table of processes until one without `restart` ends, or this program is told to stop."""

    def __init__(self, processes: Sequence[Process], write: Callable[[str, str], None]) -> None:
        """`write(process name, line)` receives the output; it is called from a thread of its own."""
        self.processes = tuple(processes)
        self.write = write
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._started: dict[str, float] = {}
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue(MAX_LINES_WAITING)
        # A number and no threading.Event: a handler that sets an event which this thread waits for may find
        # the event's own lock held by itself, and stand there for ever.
        self._asked = 0

    def run(self) -> str | None:
        """Start all and wait; returns None when told to stop, else a sentence about the process that ended.

        Must be called from the main thread (it takes over SIGINT and SIGTERM meanwhile). Whatever happens,
        all that was started has ended when it returns.
        """
        before = {number: signal.signal(number, self._on_signal) for number in ENDING}
        readers: list[threading.Thread] = []
        threading.Thread(target=self._write, daemon=True).start()
        try:
            for process in self.processes:
                readers.append(self._start(process))
            return self._wait(readers)
        finally:
            needed = {process.name for process in self.processes if process.needed}
            end([child for name, child in self.children.items() if name in needed])
            end([child for name, child in self.children.items() if name not in needed])
            for reader in readers:
                reader.join(1.0)
            deadline = time.monotonic() + 1.0
            while self._lines.unfinished_tasks and time.monotonic() < deadline:
                time.sleep(0.01)
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, process: Process) -> threading.Thread:
        """Start one process; returns the thread that reads its output."""
        child = start(process, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.children[process.name] = child
        self._started[process.name] = time.monotonic()
        assert child.stdout is not None
        reader = threading.Thread(target=self._read, args=(process.name, child.stdout), daemon=True)
        reader.start()
        return reader

    def _wait(self, readers: list[threading.Thread]) -> str | None:
        while not self._asked:
            time.sleep(0.05)
            for process in self.processes:
                code = self.children[process.name].poll()
                if code is None:
                    continue
                ended = f"{process.name} ended {describe_exit(code)}"
                ran_s = time.monotonic() - self._started[process.name]
                if ran_s < REFUSED_WITHIN_S and process.restart and not process.needed:
                    continue
                if not process.restart or ran_s < REFUSED_WITHIN_S:
                    return ended
                signal_group(self.children[process.name], signal.SIGKILL)
                stopped = ": stopped until `vla start`" if process.name == "policy_node" else ""
                with contextlib.suppress(queue.Full):
                    self._lines.put_nowait((process.name, f"{ended}; started again{stopped}"))
                readers.append(self._start(process))
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked > 1:  # an impatient second Ctrl-C
            for child in self.children.values():
                signal_group(child, signal.SIGKILL)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        # Never waits for the terminal: a node whose pipe is full stands still, with the arm in its hands.
        for line in stream:
            with contextlib.suppress(queue.Full):
                self._lines.put_nowait((name, line.decode("utf-8", "replace").rstrip("\n")))

    def _write(self) -> None:
        while True:
            name, line = self._lines.get()
            with contextlib.suppress(OSError):
                self.write(name, line)
            self._lines.task_done()


def describe_exit(code: int) -> str:
    """Words for a return code of `Popen`: negative numbers are signals."""
    if code < 0:
        return f"by signal {signal.Signals(-code).name}"
    return f"with exit status {code}"
