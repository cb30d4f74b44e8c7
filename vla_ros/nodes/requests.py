"""What is asked of control_node's commanding thread by the executor's, which waits for the answer."""

from __future__ import annotations

import collections
import threading
from dataclasses import dataclass, field

from vla_ros.errors import VlaRosError
from vla_ros.safety.supervisor import Supervisor

ANSWER_S = 1.0


@dataclass
class _Request:
    """only_check: nothing is done; whether it would be is the answer. withdrawn: whoever asked has been told
    that it did not happen, and so it must not happen later."""

    what: str
    only_check: bool = False
    withdrawn: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    answer: str = ""
    error: VlaRosError | None = None


class Requests:
    """See the module."""

    def __init__(self) -> None:
        self._queue: collections.deque[_Request] = collections.deque()

    def clear(self) -> None:
        """Forget what has not been answered."""
        self._queue.clear()

    def put(self, what: str, only_check: bool = False) -> _Request:
        """Ask, without waiting."""
        request = _Request(what, only_check)
        self._queue.append(request)
        return request

    def ask(self, what: str, only_check: bool = False) -> str:
        """Ask and wait; returns what is answered. Raises VlaRosError where it is refused, or not answered,
        and then it does not happen later either, but for what brings arms to rest."""
        request = self.put(what, only_check)
        if not request.done.wait(ANSWER_S):
            request.withdrawn = what in ("start", "home")
            raise VlaRosError(f"{what}: the commanding thread did not answer within {ANSWER_S} s")
        if request.error is not None:
            raise request.error
        return request.answer

    def answer(self, supervisor: Supervisor, now_ns: int) -> list[tuple[str, str]]:
        """On the commanding thread: have everything asked done. Returns what was done: (what, the answer)."""
        done = []
        while self._queue:
            request = self._queue.popleft()
            if request.withdrawn:
                continue
            try:
                if request.only_check:
                    supervisor.check(request.what, now_ns)
                else:
                    request.answer = supervisor.request(request.what, now_ns)
                    done.append((request.what, request.answer))
            except VlaRosError as error:
                request.error = error
            request.done.set()
        return done
