"""What can be done to a stream of serialised messages on its way: lost, frozen, late, thinned, corrupted.

Pure: bytes and times in, bytes out. Messages are CDR with its 4 bytes in front, little endian, and begin with
a stamp (a std_msgs/Header, or rosgraph_msgs/Clock).
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_STAMP = struct.Struct("<iI")
_STAMP_AT = 4
NS = 1_000_000_000

Rewrite = Callable[[bytes], bytes]


def stamp_of(message: bytes) -> int:
    """The stamp in front, ns."""
    seconds, nanoseconds = _STAMP.unpack_from(message, _STAMP_AT)
    return int(seconds) * NS + int(nanoseconds)


def with_stamp(message: bytes, stamp_ns: int) -> bytes:
    """The same message at another time."""
    out = bytearray(message)
    _STAMP.pack_into(out, _STAMP_AT, *divmod(stamp_ns, NS))
    return bytes(out)


@dataclass(frozen=True)
class Edit:
    """One way to spoil a stream.

    kind: "pass", "dead" (nothing gets through), "repeat" (the last message again and again), "restamp" (the
    last message's content with the stamps of the new ones), "late" (amount: seconds), "thin" (amount: Hz) or
    "rewrite" (each message changed, `count` of them, all when 0).
    """

    kind: str = "pass"
    amount: float = 0.0
    count: int = 0


class Editor:
    """Applies an Edit to a stream; `offset_ns` is added to every stamp, whatever the edit."""

    def __init__(self) -> None:
        self.offset_ns = 0
        self._edit = Edit()
        self._rewrite: Rewrite = bytes
        self._kept: bytes | None = None
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._next_ns = 0
        self._left = 0

    def set(self, edit: Edit, rewrite: Rewrite = bytes) -> None:
        """Spoil what comes from now on; what an earlier edit kept back is dropped."""
        self._edit, self._rewrite = edit, rewrite
        self._waiting.clear()
        self._next_ns = 0
        self._left = edit.count

    def push(self, message: bytes, now_ns: int) -> list[bytes]:
        """A message arrived at `now_ns`; returns what goes on at once."""
        return [self._shifted(each) for each in self._passed(message, now_ns)]

    def due(self, now_ns: int) -> list[bytes]:
        """What was kept back until now."""
        ready = []
        while self._waiting and self._waiting[0][0] <= now_ns:
            ready.append(self._shifted(self._waiting.popleft()[1]))
        return ready

    def _passed(self, message: bytes, now_ns: int) -> list[bytes]:
        kind = self._edit.kind
        before, self._kept = self._kept, message
        if kind == "pass":
            return [message]
        if kind == "dead":
            return []
        if kind in ("repeat", "restamp"):
            self._kept = before or message
            return [self._kept if kind == "repeat" else with_stamp(self._kept, stamp_of(message))]
        if kind == "late":
            self._waiting.append((now_ns + round(self._edit.amount * NS), message))
            return []
        if kind == "thin":
            if now_ns < self._next_ns:
                return []
            self._next_ns = now_ns + round(NS / self._edit.amount)
            return [message]
        if kind == "rewrite":
            if self._edit.count:
                if not self._left:
                    return [message]
                self._left -= 1
            return [self._rewrite(message)]
        raise ValueError(f"edit '{kind}' is not known")

    def _shifted(self, message: bytes) -> bytes:
        return with_stamp(message, stamp_of(message) + self.offset_ns) if self.offset_ns else message
