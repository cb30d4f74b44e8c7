"""What policy_node is told to do, by services, parameters and topics, for its inference thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from vla_ros.policy.trigger import Pace


@dataclass(frozen=True)
class Wish:
    """running: between start and stop. epoch: grows with whatever makes a chunk useless that is being
    computed. followed: whether the policy's chunks are what moves the robot."""

    prompt: str
    pace: Pace
    running: bool = False
    epoch: int = 0
    followed: bool = True


class Wanted:
    """The wish in force; from any thread. woken: set when there is something new to do."""

    def __init__(self, prompt: str, pace: Pace) -> None:
        self._lock = threading.Lock()
        self._wish = Wish(prompt, pace)
        self.woken = threading.Event()

    @property
    def now(self) -> Wish:
        """The wish in force."""
        with self._lock:
            return self._wish

    def start(self) -> None:
        """Infer from now on."""
        with self._lock:
            self._wish = replace(self._wish, running=True)
        self.woken.set()

    def stop(self) -> None:
        """Infer no more; a chunk that is being computed is not published."""
        with self._lock:
            self._wish = replace(self._wish, running=False, epoch=self._wish.epoch + 1)

    def anew(self) -> None:
        """Begin anew; a chunk that is being computed is not published."""
        with self._lock:
            self._wish = replace(self._wish, epoch=self._wish.epoch + 1)

    def prompt(self, prompt: str) -> None:
        """Follow this prompt; a chunk that is being computed for the old one is not published."""
        with self._lock:
            self._wish = replace(self._wish, prompt=prompt, epoch=self._wish.epoch + 1)

    def pace(self, pace: Pace) -> None:
        """Keep this pace."""
        with self._lock:
            self._wish = replace(self._wish, pace=pace)
        self.woken.set()

    def source(self, source: str) -> None:
        """Who commands the robot (vla/control_source)."""
        with self._lock:
            self._wish = replace(self._wish, followed=source == "policy")

    def if_still(self, epoch: int, act: Callable[[], None]) -> bool:
        """Do `act` if what was wanted at `epoch` still is, so that nothing changes meanwhile."""
        with self._lock:
            still = self._wish.running and self._wish.epoch == epoch
            if still:
                act()
            return still
