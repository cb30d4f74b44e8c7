"""The policy's chunks in hand: which are taken, and what they want at each tick."""

from __future__ import annotations

from collections.abc import Mapping

from vla_ros.action.schedule import Scheduler, Target
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.safety.intake import (
    check_channels,
    check_finite,
    check_near,
    check_times,
    first_target,
    from_rest,
)
from vla_ros.safety.watch import MS
from vla_ros.types import ActionChunk, FloatArray


class Chunks:
    """See the module.

    since_ns: what was seen before is not acted on. target: what is followed, None before anything was and
    after chunks were forgotten; last_due_ns: when the last step of those followed is, or was, due, likewise.
    """

    def __init__(self, robot: Robot, kinematics: Mapping[str, Kinematics], scheduler: Scheduler) -> None:
        self.since_ns = 0
        self.target: Target | None = None
        self.last_due_ns: int | None = None
        self._robot = robot
        self._kinematics = kinematics
        self._scheduler = scheduler
        self._period_ns = round(1e9 / robot.control.rate_hz)
        self._timeout_ns = round(robot.safety.chunk_timeout_ms * MS)
        self._asked_ns = 0
        # The channels of the last chunk that was taken: whole arms.
        self._whole: tuple[str, ...] = ()
        self._ran_out = False
        self._dropped: int | None = None

    @property
    def ran_out(self) -> bool:
        """Whether the chunks followed have come to their end."""
        return self._ran_out

    def forget(self, now_ns: int) -> None:
        """Forget all chunks, and take only those that are computed from what is seen from now on."""
        self._clear()
        self.target = self.last_due_ns = None
        self.since_ns = now_ns
        self._dropped = None

    def add(
        self,
        chunk: ActionChunk,
        now_ns: int,
        acts_ns: int,
        rests: bool,
        references: Mapping[str, FloatArray],
        of_what: str,
    ) -> None:
        """Take a chunk that arrives now. acts_ns: when a command made now acts; rests: whether the robot has
        stood still since the observation; references, of_what: see `check_near`.

        Raises Refused: "old", "future", "late", "channels", "nan" or "far", see `Supervisor.add_chunk`.
        """
        check_times(self._scheduler.timed(chunk, now_ns), self.since_ns, now_ns, acts_ns)
        if chunk.channels != self._whole:
            check_channels(self._robot, chunk.channels)
            self._whole = chunk.channels
        check_finite(chunk)
        if rests:
            chunk = from_rest(chunk, max(self._asked_ns, acts_ns + self._period_ns))
        timed = self._scheduler.timed(chunk, now_ns)
        self.check_near(first_target(timed, acts_ns), references, of_what)
        self._scheduler.add(chunk, now_ns)

    def check_near(self, target: Target, references: Mapping[str, FloatArray], of_what: str) -> None:
        """Raises Refused("far"), see `vla_ros.safety.intake.check_near`."""
        check_near(target, self._robot, self._kinematics, references, of_what)

    def sample(self, acts_ns: int) -> Target | None:
        """What a command that acts at `acts_ns` is to go to, None where no chunk reaches."""
        # One period later than the command acts: see `vla_ros.safety.limits` about knots. Schedulers are not
        # asked for times before those they were asked for.
        self._asked_ns = max(self._asked_ns, acts_ns + self._period_ns)
        return self._scheduler.sample(self._asked_ns)

    def follow(self, target: Target) -> None:
        """Take up a target."""
        self.target = target
        self.last_due_ns = self._scheduler.last_due_ns()
        self._ran_out = False

    def go_on(self, acts_ns: int) -> bool:
        """Follow what is wanted of a command that acts at `acts_ns`. Returns whether the chunks have come to
        their end with it: then the last target stays."""
        target = self.sample(acts_ns)
        if target is not None:
            self.follow(target)
            return False
        first, self._ran_out = not self._ran_out, True
        return first

    def over(self) -> bool:
        """Whether the chunks have been at their end for longer than the timeout."""
        return self.last_due_ns is None or self._asked_ns - self.last_due_ns > self._timeout_ns

    def drop(self, target: Target) -> bool:
        """Forget the chunks, for what they want may not be taken up. Returns whether that is news: chunks of
        one observation may want it again and again."""
        self._clear()
        news, self._dropped = self._dropped != target.stamp_ns, target.stamp_ns
        return news

    def _clear(self) -> None:
        self._scheduler.clear()
        self._asked_ns = 0
