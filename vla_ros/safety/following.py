"""Does an arm move with its commands at all? Seen long before the two are far apart.

A driver may take commands that have no effect, and go on saying where the arm is: motors without torque, a
robot in its error state, a controller that is not active.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vla_ros.safety.joints import Measured
from vla_ros.safety.watch import MS
from vla_ros.types import FloatArray

# A joint has to be sent so far, rad, while no joint of the arm moves by MOVED. An arm may stick as far as
# their difference before it moves, and press on a table.
TRAVEL, MOVED = 0.1, 0.02
# Commands count as far as they stay somewhere for this long: an arm that smooths what it is sent answers to
# that, and not to every turn.
SPAN_NS = 250 * MS
# A dead time that is let pass once a joint was sent that far.
PATIENCE_NS = 500 * MS
# Looks that are closer together say the same again.
SPACING_NS = 5 * MS


class FollowWatch:
    """Tells whether one arm stands still though its commands move on.

    Looked at from when a joint last moved by MOVED. Time is cut into spans of SPAN_NS; a joint's travel is
    the distance between all that it was sent in one span and all that it was sent in another, in either
    order and whatever it was sent since. Where a joint's is TRAVEL, and joint states of PATIENCE_NS later
    still show that no joint of the arm moved by MOVED, the arm does not follow. (One joint alone may stand
    before an obstacle.)

    Who answers is not accused. Say a joint stays within MOVED of its place, up to an offset (it sags). Of two
    spans TRAVEL apart, one lies at least (TRAVEL - MOVED) / 2 outside of that, which is 0.06 rad from the far
    edge. An arm with a dead time up to PATIENCE_NS and then a first-order lag of T gets to at least
    0.06 rad (1 - exp(-SPAN_NS / T)) from that edge within the span: more than MOVED for T < 0.6 s. An arm
    that sticks by up to TRAVEL - MOVED moves too, and so does one that is pushed.
    """

    def __init__(self, joints: Sequence[str]) -> None:
        """joints: their names, for people."""
        self._joints = joints
        count = len(joints)
        # Least and most: of what was measured, and of this span's commands. Of all spans: the least of what
        # was most, and the most of what was least.
        self._did = np.zeros((2, count))
        self._sent = np.zeros((2, count))
        self._spans = np.zeros((2, count))
        self.forget()

    def forget(self) -> None:
        """Begin anew: the clock or the world was set, or what is sent and what is measured broke off."""
        self._stamp_ns: int | None = None
        self._looked_ns = 0
        self._span_ns = 0
        self._due_ns: int | None = None

    def look(self, now_ns: int, sent: FloatArray, measured: Measured) -> None:
        """Take what is sent at this time, [J] rad, and the newest joint states. For every tick."""
        silent_ns = 0 if self._stamp_ns is None else measured.stamp_ns - self._stamp_ns
        if self._stamp_ns is None or not 0 <= silent_ns <= SPAN_NS:
            # While nothing was measured it may have moved, and come back.
            self._begin(now_ns, sent, measured)
            return
        if now_ns - self._looked_ns < SPACING_NS:
            return
        self._looked_ns = now_ns
        if silent_ns:
            self._stamp_ns = measured.stamp_ns
            _widen(self._did, measured.q)
            if (self._did[1] - self._did[0]).max() >= MOVED:
                self._begin(now_ns, sent, measured)
                return
        _widen(self._sent, sent)
        if now_ns - self._span_ns >= SPAN_NS:
            np.minimum(self._spans[0], self._sent[1], out=self._spans[0])
            np.maximum(self._spans[1], self._sent[0], out=self._spans[1])
            self._span_ns, self._sent[:] = now_ns, sent
            if self._due_ns is None and (self._spans[1] - self._spans[0]).max() >= TRAVEL:
                self._due_ns = now_ns + PATIENCE_NS

    @property
    def still(self) -> str:
        """That the arm does not move with its commands, for people; "" while it does, or was not sent far."""
        if self._due_ns is None or self._stamp_ns is None or self._stamp_ns < self._due_ns:
            return ""
        travel = self._spans[1] - self._spans[0]
        most = int(travel.argmax())
        return f"{self._joints[most]} was sent {travel[most]:.3f} rad further, and no joint of the arm moved"

    def _begin(self, now_ns: int, sent: FloatArray, measured: Measured) -> None:
        # What was sent before may be what the arm has just done.
        self._stamp_ns, self._did[:] = measured.stamp_ns, measured.q
        self._looked_ns = self._span_ns = now_ns
        self._sent[:] = sent
        self._spans[0], self._spans[1] = np.inf, -np.inf
        self._due_ns = None


def _widen(span: FloatArray, value: FloatArray) -> None:
    np.minimum(span[0], value, out=span[0])
    np.maximum(span[1], value, out=span[1])
