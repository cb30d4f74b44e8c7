"""`map` with a helping thread, for calls of a fraction of a millisecond that release the GIL.

concurrent.futures would take about as long as the calls themselves.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class TwoHands:
    """Works through items from both ends: the caller from the first on, the helper from the last back.

    The caller waits for nothing but the one item that the helper has in hand. What the helper has not begun,
    because the machine is busy, the caller does itself. To be called from one thread at a time.
    """

    def __init__(self) -> None:
        self._items: deque[tuple[int, Any]] = deque()
        self._work: Callable[[Any], Any] | None = None
        self._results: dict[int, Any] = {}
        self._error: BaseException | None = None
        # Plain locks as signals: `_go` is free when there is work, `_done` when the helper has ended its.
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._thread = threading.Thread(target=self._help, name="helper", daemon=True)
        self._thread.start()

    def __call__(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """As `list(map(work, items))`; an exception of either hand is raised when both have ended."""
        self._items = deque(enumerate(items))
        count = len(self._items)
        self._work, self._results, self._error = work, {}, None
        self._go.release()
        try:
            while self._items:
                self._take(self._items.popleft)
        finally:
            self._items.clear()
            # Where the signal can be taken back, the helper never woke.
            if not self._go.acquire(blocking=False):
                self._done.acquire()
        if self._error is not None:
            raise self._error
        return [self._results[index] for index in range(count)]

    def close(self) -> None:
        """End the helper."""
        self._work = None
        self._go.release()
        self._thread.join()

    def _take(self, pop: Callable[[], tuple[int, Any]]) -> None:
        """Do one item, unless the other hand has taken the last."""
        try:
            index, item = pop()
        except IndexError:
            return
        assert self._work is not None
        self._results[index] = self._work(item)

    def _help(self) -> None:
        while True:
            self._go.acquire()
            if self._work is None:
                return
            try:
                while self._items:
                    self._take(self._items.pop)
            except BaseException as error:
                self._error = error
            self._done.release()
