"""The arm controllers a real robot would run, as far as their topics show: what each accepts, and the joint
reference it makes of it.

No clocks: time is an argument in integer nanoseconds. Joint vectors are float64 [J], rad, in the order of
the robot YAML.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.action.rotations import quaternion_to_matrix
from vla_ros.errors import Refused
from vla_ros.robot.kinematics import Kinematics
from vla_ros.types import FloatArray

SECOND_NS = 1_000_000_000


class ArmControllers:
    """One joint reference, moved by whichever command came last.

    A real arm runs one of these controllers at a time; the twin listens to all three.
    """

    def __init__(self, joints: Sequence[str], start: ArrayLike, kinematics: Kinematics, frame: str) -> None:
        """start: the reference until a command comes. frame: the only `frame_id` a pose may carry."""
        self._joints = tuple(joints)
        self._kinematics = kinematics
        self._frame = frame
        self.reset(start)

    def reset(self, start: ArrayLike) -> None:
        """Forget all commands and hold `start` [J]."""
        self._times_ns = np.zeros(1, dtype=np.int64)
        self._points = np.array(start, dtype=np.float64)[None]
        # What was asked for last: inverse kinematics starts from it.
        self._reference: FloatArray = self._points[0]

    def reference(self, now_ns: int) -> FloatArray:
        """Joint targets at `now_ns`: linear between trajectory points, the last one held."""
        times, points = self._times_ns, self._points
        after = int(np.searchsorted(times, now_ns, side="right"))
        if after == 0:
            self._reference = points[0]
        elif after == len(times):
            self._reference = points[-1]
        else:
            share = (now_ns - times[after - 1]) / (times[after] - times[after - 1])
            self._reference = points[after - 1] + share * (points[after] - points[after - 1])
        return self._reference

    def joint_position(self, values: ArrayLike) -> None:
        """forward_command_controller: jump to these joints and hold them.

        Raises Refused for a wrong number of values ("shape") or one that is not finite ("nan").
        """
        self._hold(self._checked(values))

    def joint_trajectory(
        self,
        names: Sequence[str],
        points: Sequence[tuple[ArrayLike, int]],
        start_ns: int,
        now_ns: int,
    ) -> None:
        """joint_trajectory_controller: replace the trajectory; go from the present reference to each point
        (positions, time from start in ns) by its time, with positions alone that is in straight lines.

        names: every joint, in any order. start_ns: the header's stamp, 0 meaning at once.
        Raises Refused: "joint_names", "empty", "shape", "nan", "time" (not increasing) or "late" (ends in
        the past), as the real controller does.
        """
        if sorted(names) != sorted(self._joints):
            raise Refused("joint_names", f"joint_names {list(names)}, expected all of {list(self._joints)}")
        if not points:
            raise Refused("empty", "a trajectory without points")
        order = [list(names).index(joint) for joint in self._joints]
        targets = np.stack([self._checked(positions)[order] for positions, _ in points])
        begin = start_ns or now_ns
        times = np.array([begin + offset for _, offset in points], dtype=np.int64)
        if points[0][1] < 0 or (np.diff(times) <= 0).any():
            raise Refused("time", "time_from_start does not increase from point to point")
        if start_ns and times[-1] < now_ns:
            raise Refused("late", f"the trajectory ended {(now_ns - times[-1]) / 1e6:.1f} ms ago")
        present = self.reference(now_ns)
        ahead = times > now_ns
        if not ahead.any():
            self._hold(targets[-1])
            return
        self._times_ns = np.concatenate([[now_ns], times[ahead]])
        self._points = np.vstack([present, targets[ahead]])

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
        self._times_ns = np.zeros(1, dtype=np.int64)
        self._points = target[None]

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
