"""What several tests share: waiting for a condition, and processes that are surely gone afterwards."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from vla_ros import processes

T = TypeVar("T")

# 0 is everybody's default, and above 101 the ports reach into Linux's ephemeral range.
DOMAINS = range(1, 102)


def wait_for(
    condition: Callable[[], T],
    timeout_s: float = 20.0,
    what: str = "",
    step: Callable[[], object] | None = None,
) -> T:
    """Return the first true value of `condition()`; fail the test after `timeout_s`.

    step: called between looks (for instance `lambda: rclpy.spin_once(node, timeout_sec=0.05)`); without it
    the thread sleeps 20 ms.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {what or condition}")
        if step is None:
            time.sleep(0.02)
        else:
            step()


def ask(client: Any, request: Any, timeout_s: float = 20.0, step: Callable[[], object] | None = None) -> Any:
    """The answer of a service, which must be one that may be called twice.

    Asked again every 3 s: while the two sides are still discovering each other, the server gives up sending
    its answer after 100 ms (rmw_fastrtps, `rmw_send_response`), and it never comes.
    """
    wait_for(client.service_is_ready, timeout_s, client.srv_name, step)
    futures = [client.call_async(request)]
    asked = time.monotonic()

    def answer() -> Any:
        nonlocal asked
        if time.monotonic() - asked > 3.0:
            futures.append(client.call_async(request))
            asked = time.monotonic()
        return next((future for future in futures if future.done()), None)

    return wait_for(answer, timeout_s, f"an answer of {client.srv_name}", step).result()


@contextlib.contextmanager
def claimed_domain() -> Iterator[int]:
    """A ROS_DOMAIN_ID that no other test on this machine uses meanwhile (held by a file lock)."""
    folder = Path(tempfile.gettempdir()) / f"vla_ros_test_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    # Start at different places, so that a domain is not reused right after its last user ended.
    first = (os.getpid() * 7 + time.monotonic_ns() // 1_000_000) % len(DOMAINS)
    for offset in range(len(DOMAINS)):
        domain = DOMAINS[(first + offset) % len(DOMAINS)]
        with open(folder / str(domain), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            remove_stale_ports(domain)
            yield domain
            return
    raise AssertionError("all ROS domains of this machine are in use by tests")


def remove_stale_ports(domain: int) -> None:
    """Remove what Fast DDS left in shared memory for a domain that nobody uses.

    A process that was killed leaves its port behind; the next one on that port may then not be discovered.
    """
    first = 7400 + 250 * domain  # the DDS-RTPS standard's port numbers
    for file in Path("/dev/shm").glob("*fastrtps_port*"):
        port = re.search(r"fastrtps_port(\d+)", file.name)
        if port and first <= int(port[1]) < first + 250:
            file.unlink(missing_ok=True)


class Started:
    """A running process whose output is collected line by line."""

    def __init__(self, name: str, argv: Sequence[str], env: dict[str, str]) -> None:
        self.name = name
        self.lines: list[str] = []
        self.child = processes.start(
            processes.Process(name, tuple(argv), {"PYTHONUNBUFFERED": "1", **env}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def returncode(self) -> int | None:
        return self.child.poll()

    def wait_for_text(self, text: str, timeout_s: float = 30.0) -> None:
        """Wait until the output holds `text`; fails at once, with the output, when the process ends first."""

        def seen() -> bool:
            if text in self.output:
                return True
            if self.returncode is not None:
                self._reader.join(1.0)
                if text not in self.output:
                    raise AssertionError(
                        f"{self.name} ended ({self.returncode}) without {text!r}:\n{self.output}"
                    )
            return text in self.output

        try:
            wait_for(seen, timeout_s, f"{self.name} to print {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\noutput of {self.name}:\n{self.output}") from None

    def wait(self, timeout_s: float = 30.0) -> int:
        """Wait for the end; returns the exit status."""
        code = self.child.wait(timeout_s)
        self._reader.join(2.0)
        return code

    def kill(self) -> None:
        """SIGKILL to the process and its group, as when it crashes."""
        processes.signal_group(self.child, signal.SIGKILL)
        self.child.wait()

    def end(self) -> None:
        processes.end([self.child])


class Starter:
    """Starts processes for one test and ends them, with all their children, when the test is over."""

    def __init__(self) -> None:
        self.started: list[Started] = []

    def __call__(self, argv: Sequence[str], name: str = "process", **env: str) -> Started:
        started = Started(name, argv, env)
        self.started.append(started)
        return started

    def node(self, name: str, *ros_args: str, **env: str) -> Started:
        """Start `python -m vla_ros.nodes.<name> --ros-args <ros_args>`."""
        return self([sys.executable, "-m", f"vla_ros.nodes.{name}", "--ros-args", *ros_args], name, **env)

    def end(self) -> None:
        processes.end([started.child for started in self.started])
