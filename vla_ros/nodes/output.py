"""Log lines that never hold up a robot: not by a full pipe, not by a dead reader, not by a slow disk.

rclpy logs with Python's interpreter lock held: a process whose stderr is a pipe that nobody reads any more
stands still with all its threads, the commanding one included (measured with rclpy 7.1).
"""

from __future__ import annotations

import collections
import contextlib
import fcntl
import os
import stat
import time
from typing import Any

WAITING_LINES = 1000


def never_block_on_output() -> None:
    """Let a line that stdout or stderr cannot take at once be lost instead of waited with.

    Pipes and terminals are opened anew for that: whether writing blocks belongs to what is open, and that is
    shared with the parent (a shell, `vla up`) and the siblings. A file takes a line, or says that the disk is
    full, at once and is left as it is. Where the reader is gone the write fails, and the line is lost too.
    """
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
                own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                os.dup2(own, descriptor)
                os.close(own)
            elif stat.S_ISSOCK(mode):  # systemd's journal; a socket cannot be opened anew
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)


class HandedLog:
    """Log lines handed from a thread that must not wait to one that may: `say` here, `flush` there."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._lines: collections.deque[tuple[str, str]] = collections.deque(maxlen=WAITING_LINES)
        self._said: dict[str, float] = {}

    def say(self, severity: str, text: str, once_per_s: str = "") -> None:
        """Note a line: "info", "warning", "error". Never blocks; the oldest are dropped where too many wait.

        once_per_s: lines of one such name are noted at most once a second.
        """
        if once_per_s:
            now = time.monotonic()
            if now - self._said.get(once_per_s, -1.0) < 1.0:
                return
            self._said[once_per_s] = now
        self._lines.append((severity, text))

    def flush(self) -> None:
        """Log what was noted. From one thread at a time, not the one that says."""
        while self._lines:
            severity, text = self._lines.popleft()
            # rclpy wants one severity per place in the code.
            if severity == "error":
                self._logger.error(text)
            elif severity == "warning":
                self._logger.warning(text)
            else:
                self._logger.info(text)
