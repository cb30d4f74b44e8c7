"""Binary grippers vote where chunks overlap, with hysteresis."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.types import FloatArray

# A vote around one half would chatter: the gripper opens above 0.5 + BAND and closes below 0.5 - BAND.
BAND = 0.1


class GripperVote:
    """Open against closed, by weight; a gripper switches only with a clear majority (60 %), else it stays.

    gripper_range: {gripper channel: narrowest and widest opening, m}; wider than the middle counts as open.
    """

    def __init__(self, gripper_range: Mapping[str, tuple[float, float]]) -> None:
        self._middle = {name: (low + high) / 2 for name, (low, high) in gripper_range.items()}
        self._open: dict[str, bool] = {}

    def __call__(self, channel: str, widths: FloatArray, weights: FloatArray) -> float:
        """The width that wins, m: the last prediction's among those on the winning side of the middle.

        widths, weights: float64 [N], oldest observation first, weights summing to 1.
        """
        if channel not in self._middle:
            raise ValueError(f"no range is known for gripper '{channel}'; known are {sorted(self._middle)}")
        opens = widths > self._middle[channel]
        share = float(weights[opens].sum())
        is_open = self._open.get(channel, share > 0.5)
        if abs(share - 0.5) > BAND:
            is_open = share > 0.5
        self._open[channel] = is_open
        # Some are on the winning side: a state without any vote would have lost by the rule above.
        return float(widths[opens == is_open][-1])

    def clear(self) -> None:
        """Forget which way each gripper was last decided."""
        self._open = {}
