"""When a message was made, where its driver's clock is not ours."""

from __future__ import annotations

from vla_ros.robot.config_fields import Stream


class Stamps:
    """The stamps of one stream's messages on the ROS clock, as its YAML's `stamps` says.

    With `arrival`, messages count from when they arrive. Their own stamps still tell whether the driver has
    anything new: one whose hardware went silent may go on and on with what it heard last (Piper_ros stamps
    with the time of the last CAN frame), and such a message keeps the stamp of the first one like it.
    """

    def __init__(self, stream: Stream) -> None:
        self._arrival = stream.stamps == "arrival"
        self._header_ns = 0
        self._stamp_ns = 0

    def of(self, header_ns: int, now_ns: int) -> int:
        """Stamp (ns) of a message that arrives now and was stamped `header_ns` by its driver (0: not)."""
        if not self._arrival:
            return header_ns
        # A clock that was set back must not leave a stream with a stamp from the future.
        again = header_ns != 0 and header_ns == self._header_ns and self._stamp_ns <= now_ns
        if not again:
            self._header_ns, self._stamp_ns = header_ns, now_ns
        return self._stamp_ns
