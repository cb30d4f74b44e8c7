"""The arm controllers a real robot would run, as far as their topics show: what each accepts, and the joint
reference it makes of it.

No clocks: time is an argument in integer nanoseconds. Joint vectors are float64 [J], rad, in the order of
the robot YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.rotations import quaternion_to_matrix
from vla_ros.errors import Refused
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.spline import State, coefficients, position, state
from vla_ros.types import FloatArray

SECOND_NS = 1_000_000_000
NOTHING: FloatArray = np.empty(0)


class TrajectoryPoint(NamedTuple):
    """A point of a trajectory; velocities and accelerations may be left out (empty)."""

    positions: FloatArray
    after_ns: int
    velocities: FloatArray = NOTHING
    accelerations: FloatArray = NOTHING


class ArmControllers:
    """One joint reference, moved by whichever command came last.

    A real arm runs one of these controllers at a time; the twin listens to all three.
    """

    def __init__(self, joints: Sequence[str], start: ArrayLike, kinematics: Kinematics, frame: str) -> None:
        """start: the reference until a command comes. frame: the only `frame_id` a pose may carry."""
        self._joints = tuple(joints)
        self._kinematics = kinematics
        self._frame = frame
        self._polynomial: FloatArray | None = None
        self.reset(start)

    def reset(self, start: ArrayLike) -> None:
        """Forget all commands and hold `start` [J]."""
        self._hold(np.array(start, dtype=np.float64))
        # What was asked for last: inverse kinematics and a new trajectory start from it.
        self._reference: FloatArray = self._states[0][0]
        self._piece: FloatArray | State = self._states[0]
        self._into_s = 0.0

    def reference(self, now_ns: int) -> FloatArray:
        """Joint targets at `now_ns`. Call at the controllers' rate, with times that do not decrease."""
        times, states = self._times_ns, self._states
        while self._segment < len(times) and times[self._segment] <= now_ns:
            self._segment += 1
            self._polynomial = None
        after = self._segment
        if after in (0, len(times)):
            self._piece = states[max(after - 1, 0)]
            self._reference = self._piece[0]
            return self._reference
        if self._polynomial is None:
            span = (times[after] - times[after - 1]) / SECOND_NS
            self._polynomial = coefficients(states[after - 1], states[after], span)
        self._piece, self._into_s = self._polynomial, (now_ns - times[after - 1]) / SECOND_NS
        self._reference = position(self._polynomial, self._into_s)
        return self._reference

    def _present(self) -> State:
        """The state behind what `reference` gave last."""
        if isinstance(self._piece, tuple):
            at, v, a = self._piece
            still = np.zeros_like(at)
            return at, still if v is None else v, still if a is None else a
        return state(self._piece, self._into_s)

    def joint_position(self, values: ArrayLike) -> None:
        """forward_command_controller: jump to these joints and hold them.

        Raises Refused for a wrong number of values ("shape") or one that is not finite ("nan").
        """
        self._hold(self._checked(values))

    def joint_trajectory(
        self, names: Sequence[str], points: Sequence[TrajectoryPoint], start_ns: int, now_ns: int
    ) -> None:
        """joint_trajectory_controller: replace the trajectory, as ros2_controllers does with
        `open_loop_control` (joint_trajectory_controller.cpp and trajectory.cpp, branch humble).

        Up to the first point it goes on from what it commanded last, which it takes for the state of now: one
        sample comes twice. From the first point on, all that counts is the trajectory. At its end it stays.
        Straight lines, cubics or quintics (see `vla_ros.robot.spline`), by what the points say.

        names: every joint, in any order. start_ns: the header's stamp, 0 meaning at once.
        Raises Refused: "joint_names", "empty", "shape", "nan", "time" (not increasing) or "late" (ends in
        the past), as the real controller does.
        """
        if sorted(names) != sorted(self._joints):
            raise Refused("joint_names", f"joint_names {list(names)}, expected all of {list(self._joints)}")
        if not points:
            raise Refused("empty", "a trajectory without points")
        order = [list(names).index(joint) for joint in self._joints]
        states: list[State] = [
            (
                self._checked(point.positions)[order],
                self._checked(point.velocities)[order] if len(point.velocities) else None,
                self._checked(point.accelerations)[order] if len(point.accelerations) else None,
            )
            for point in points
        ]
        times = [(start_ns or now_ns) + point.after_ns for point in points]
        if points[0].after_ns < 0 or any(b <= a for a, b in pairwise(times)):
            raise Refused("time", "time_from_start does not increase from point to point")
        if start_ns and times[-1] < now_ns:
            raise Refused("late", f"the trajectory ended {(now_ns - times[-1]) / 1e6:.1f} ms ago")
        before = self._present()
        if times[0] > now_ns:
            times.insert(0, now_ns)
            states.insert(0, before)
        self._follow(times, states)

    def cartesian_pose(self, pose: ArrayLike, frame: str) -> None:
        """CRISP's target_pose: bring the tool frame to `pose`, 4x4 in the arm's base frame.

        Raises Refused for another frame ("frame"), a pose that is none ("nan") or one that no joints reach
        ("unreachable").
        """
        if frame not in (self._frame, ""):
            raise Refused("frame", f"frame_id '{frame}', expected '{self._frame}'")
        matrix = np.asarray(pose, dtype=np.float64)
        if not np.isfinite(matrix).all():
            raise Refused("nan", "the pose holds a number that is not finite")
        solver = self._kinematics
        solution = solver.inverse(matrix, self._reference, solver.lower, solver.upper)
        if solution.position_error > 0.02 or solution.rotation_error > 0.1:
            raise Refused(
                "unreachable",
                f"no joints bring the tool nearer than {solution.position_error * 1000:.0f} mm and "
                f"{solution.rotation_error:.2f} rad",
            )
        self._hold(solution.q)

    def _hold(self, target: FloatArray) -> None:
        self._follow([0], [(target, None, None)])

    def _follow(self, times_ns: list[int], states: list[State]) -> None:
        self._times_ns, self._states = times_ns, states
        self._segment = 0
        self._polynomial = None

    def _checked(self, values: ArrayLike) -> FloatArray:
        array = np.array(values, dtype=np.float64)
        if array.shape != (len(self._joints),):
            raise Refused("shape", f"{array.size} values for {len(self._joints)} joints")
        if not np.isfinite(array).all():
            raise Refused("nan", f"not finite: {array.tolist()}")
        return array


def pose_matrix(position: ArrayLike, quaternion: ArrayLike) -> FloatArray:
    """4x4 from x y z (m) and an xyzw quaternion of any length but none.

    Raises Refused ("rotation") for a quaternion without length.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = quaternion_to_matrix(quaternion)
    matrix[:3, 3] = position
    return matrix
