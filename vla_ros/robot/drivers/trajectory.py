"""ros2_control's joint_trajectory_controller."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from math import ceil
from typing import Any, ClassVar

import numpy as np

from vla_ros.robot.config import Arm
from vla_ros.robot.drivers.driver import Recovery, StartStep, checked, doubles
from vla_ros.robot.drivers.ros2_control import ros2_control_recovery
from vla_ros.robot.spline import coefficients, state
from vla_ros.types import FloatArray, Motion

NS = 1_000_000_000
# A trajectory's message may be this late, or lost, without the arm noticing; see JointTrajectory.
LATE_NS = 5_000_000
# How long a joint_trajectory_controller is given to bring its own reference to where a stream begins: with
# 20 mrad to go it accelerates at 8 rad/s^2.
SETTLE_NS = 120_000_000
# A stamp may be off by this much before the knots' times follow it.
JITTER_NS = 1_000_000
# Periods: after a longer silence a stream begins anew.
LONGEST_GAP = 1_000
# Rounding apart, a stream that has come to rest goes on from there, rad.
SAME_PLACE = 1e-6
# A tick changes where and how fast the next knot is by less than this, rad and rad/s.
SAME_KNOT, SAME_SPEED = 1e-3, 0.2


class JointTrajectory:
    """trajectory_msgs/JointTrajectory for ros2_control's joint_trajectory_controller (JTC), which
    interpolates it at its own rate, often 1 kHz: at each of those moments the arm has to be as planned.

    What JTC does when a message replaces another in motion decides how it is said (read in
    joint_trajectory_controller.cpp and trajectory.cpp of ros2_controllers, branches humble and jazzy):

    - Before the first point it goes from its own state to that point, and there it slips by one of its
      periods (Humble repeats a sample, Jazzy leaves one out): 1.5 mrad and 1500 rad/s^2 at 1.5 rad/s. So the
      first points are the knots *before* now: it then finds itself inside the message's spline, which is the
      one it was on. (And whether JTC starts from the desired or the measured state no longer matters.)
    - With a stamp of zero everything begins when the message is looked at: a millisecond of jitter shifts the
      whole motion. So times are absolute, and the clocks of both machines have to agree within LATE_NS.
    - A message may come late, or be lost. Until the one after it should have come, all messages say the same:
      each knot is due one period and LATE_NS later than it could be. That delay is constant, and measured
      with the rest of the actuation latency.
      (Beyond that the arm has begun to brake, and JTC steps to where the motion is by then: a machine that
      keeps JTC from reading for longer is not fit to move an arm.)
    - When no message comes any more, the last one's points bring the arm to rest.

    At the start of a stream JTC's own reference may be some milliradians from the joints measured: one
    message gives it SETTLE_NS to go there, smoothly where `open_loop_control` (Humble) or
    `interpolate_from_desired_state` (Jazzy) is true. The arm should not set off before.
    """

    goes_on: ClassVar[bool] = True
    settle_ns: ClassVar[int] = SETTLE_NS
    with_gripper: ClassVar[bool] = False

    def __init__(self, arm: Arm) -> None:
        from trajectory_msgs.msg import JointTrajectory as Message
        from trajectory_msgs.msg import JointTrajectoryPoint

        assert arm.drivers.joint_trajectory is not None
        self.topic = arm.drivers.joint_trajectory.topic
        self._recovery = arm.drivers.joint_trajectory.recovery
        self.message_type: type = Message
        self._point_type: Any = JointTrajectoryPoint
        self._joints = list(arm.joints)
        # The last motion and the knots before it: when they are due, and q, v, a together, [3, J].
        self._due_ns: list[int] = []
        self._rows: list[FloatArray] = []
        self._newest = 0
        self._settled_ns = 0

    def start_steps(self) -> tuple[StartStep, ...]:
        """None."""
        return ()

    def recovery(self) -> Recovery | None:
        """See `ros2_control_recovery`."""
        return ros2_control_recovery(self._recovery)

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message. None while the controller settles at the start of a stream."""
        rows = checked(motion, len(self._joints))
        after_ns = [round(after * NS) for after in motion.after_s.tolist()]
        period = after_ns[1] - after_ns[0]
        due, periods = self._due(stamp_ns + after_ns[0] + period + LATE_NS, period)
        # Enough knots to reach back beyond now, also where the loop woke up a little early.
        count = ceil((2 * period + LATE_NS) / period) + 1
        # Where the joints rest if this motion begins here: the first knot is a sixth of a step away from it.
        still = np.zeros_like(rows[0])
        still[0] = rows[0, 0] - rows[0, 1] * (period / NS / 3.0)
        begins = not self._goes_on(due, periods, still[0])
        if begins and self._in_its_middle(rows[0], period):
            # The clock was set while the arm moves.
            by = due - self._due_ns[self._newest] - period
            self._due_ns = [time + by for time in self._due_ns]
            periods, begins = 1, False
        if not begins and periods == 1 and count == self._newest:
            times, before = self._due_ns[1 : count + 1], self._rows[1 : count + 1]
        else:
            times = [due - ticks * period for ticks in range(count, 0, -1)]
            # Where ticks were missed, the arm has been, or will be, on the way to rest.
            before = [still] * count if begins else [self._at(time) for time in times]
        self._due_ns = times + [due + after - after_ns[0] for after in after_ns]
        self._rows = [*before, *rows]
        self._newest = count
        if not rows[:, 1:].any():
            if begins:
                self._settled_ns = stamp_ns + SETTLE_NS
                return self._say([self._settled_ns], [rows[0]])
            if stamp_ns < self._settled_ns:
                return None
        first = max(bisect_right(times, stamp_ns) - 1, 0)
        return self._say(self._due_ns[first:], self._rows[first:])

    def _due(self, asked: int, period: int) -> tuple[int, int]:
        """When the new knot is due, and how many periods after the last one that is (0 for none of them).

        Stamps jitter, knots do not: they are whole periods apart, but for so small a part that the arm does
        not feel it, by which a clock that runs differently is caught up with.
        """
        if not self._due_ns:
            return asked, 0
        newest = self._due_ns[self._newest]
        periods = round((asked - newest) / period)
        if periods in (-1, 0):
            # Simulated time that runs slower than the loop.
            return newest + period // 2, 1
        if not 0 < periods <= LONGEST_GAP:
            return asked, 0
        error = asked - newest - periods * period
        catching_up = period // 1000 if abs(error) > JITTER_NS else 0
        return newest + periods * period + (catching_up if error > 0 else -catching_up), periods

    def _goes_on(self, due: int, periods: int, rest: FloatArray) -> bool:
        """Whether the knot at `due` comes after those of the last message: not after a long silence, nor
        where those have ended elsewhere than at `rest` [J] (the arm was moved)."""
        if periods == 0:
            return False
        return bool(due <= self._due_ns[-1] or np.abs(rest - self._rows[-1][0]).max() <= SAME_PLACE)

    def _in_its_middle(self, knot: FloatArray, period: int) -> bool:
        """Whether `knot` [3, J] moves, and is one period after the newest one of the last message, but for
        what a tick can change."""
        if not self._due_ns or not knot[1].any():
            return False
        apart = np.abs(knot - self._at(self._due_ns[self._newest] + period)).max(axis=1)
        return bool(apart[0] <= SAME_KNOT and apart[1] <= SAME_SPEED)

    def _at(self, time_ns: int) -> FloatArray:
        times, rows = self._due_ns, self._rows
        after = bisect_left(times, time_ns)
        if after == len(times) or after == 0 or times[after] == time_ns:
            return rows[min(after, len(times) - 1)]
        span = (times[after] - times[after - 1]) / NS
        polynomial = coefficients(tuple(rows[after - 1]), tuple(rows[after]), span)
        return np.stack(state(polynomial, (time_ns - times[after - 1]) / NS))

    def _say(self, times: list[int], rows: list[FloatArray]) -> Any:
        message: Any = self.message_type()
        message.joint_names = self._joints
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(times[0], NS)
        points = []
        for time_ns, (q, v, a) in zip(times, rows, strict=True):
            point = self._point_type()
            point.positions, point.velocities, point.accelerations = doubles(q), doubles(v), doubles(a)
            point.time_from_start.sec, point.time_from_start.nanosec = divmod(time_ns - times[0], NS)
            points.append(point)
        message.points = points
        return message
