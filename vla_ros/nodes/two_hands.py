"""`map` with a helping thread, for a few calls of a fraction of a millisecond that release the GIL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class TwoHands:
    """Works through items from both ends: the helper from the second item on, the caller from the first
    and then from the last backwards. What the helper has not begun, because the machine is busy, the caller
    does itself, so that it never waits for more than one item.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="helper")

    def __call__(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """As `list(map(work, items))`; the first exception met is raised."""
        first, *rest = items
        futures: list[Future[Result]] = [self._pool.submit(work, item) for item in rest]
        results = [work(first)]
        tail: list[Result] = []
        for item, future in zip(reversed(rest), reversed(futures), strict=True):
            tail.append(work(item) if future.cancel() else future.result())
        return results + tail[::-1]

    def close(self) -> None:
        """End the helper."""
        self._pool.shutdown(wait=True, cancel_futures=True)
