"""Does a camera still look, or does its driver send one picture again and again with new stamps?

A still scene gives the same picture too where a camera has no noise (a rendered one, a strong codec). So a
picture only counts as frozen when an arm or the base has moved meanwhile.
"""

from __future__ import annotations

import numpy as np

# A camera that sees an arm move this far, rad, or the base, m or rad, does not give the very same bytes.
MOVED = 0.02
# Drivers that stamp pictures when they arrive are late by this at most: what moved in the last moments
# need not be seen yet.
STAMPED_LATE_NS = 50_000_000
# CDR encapsulation and the header's stamp, which differ or not whatever the picture is.
_BEFORE_PICTURE = 12
_SAMPLE_EVERY = 4099


class FrozenPicture:
    """One camera's messages, compared byte by byte with those before. Not thread-safe.

    since_ns: stamp of the first message that had the picture of the newest one.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget the picture."""
        self.since_ns = 0
        self._message = b""

    def add(self, message: bytes, stamp_ns: int) -> bool:
        """A serialised image with its stamp; returns whether the picture is a new one."""
        new = not _same(self._message, message)
        self._message = message
        if new:
            self.since_ns = stamp_ns
        return new


def _same(one: bytes, other: bytes) -> bool:
    if len(one) != len(other) or len(one) <= _BEFORE_PICTURE:
        return False
    # Without copying; a few bytes tell nearly always.
    a, b = (np.frombuffer(each, np.uint8, offset=_BEFORE_PICTURE) for each in (one, other))
    return np.array_equal(a[::_SAMPLE_EVERY], b[::_SAMPLE_EVERY]) and np.array_equal(a, b)
