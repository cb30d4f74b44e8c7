"""Forward and inverse kinematics of one arm, from its URDF, with pinocchio.

All poses are 4x4 float64 transforms of the tool frame in the arm's base frame (m, rad); joint vectors
are in the order of the robot YAML's `joints` (rad for revolute joints, m for prismatic ones). Joints
that the YAML does not name (fingers, another arm) are held at zero.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import KinematicsError
from vla_ros.types import FloatArray

# A solution within these is good enough to command; the solver itself aims a hundred times lower.
POSITION_TOLERANCE = 1e-4
ROTATION_TOLERANCE = 1e-3
_POSITION_GOAL = 1e-6
_ROTATION_GOAL = 1e-5

# 1 mm of position weighs as much as 10 mrad of rotation.
_POSITION_WEIGHT = 10.0
# Floor of the Levenberg-Marquardt damping: bounds the step near a singularity, and is small enough
# (against squared singular values of 0.05 and more elsewhere) not to slow convergence.
_DAMPING = 1e-4
# Largest joint step of one iteration, rad: the linearisation holds no further.
_STEP = 0.3
_ITERATIONS = 60
# Where singularities begin (smallest singular value of the weighted Jacobian; 0.7 at the FR3's home),
# and how firmly the joints are held at one. Six joints work near a singularity most of the time (0.06 at
# ALOHA's home, its wrist nearly in line): thirty times as firm and they lag 8 mrad behind a slow turn there,
# and rest 50 mrad off in line; less firm and nothing is calmer.
_SINGULAR = 0.3
_HOLD = 0.003
# Pull towards the posture, per call: a share of the distance and never more than so many rad, so that
# at 100 Hz the elbow returns within about a second and never faster than 0.3 rad/s.
_POSTURE_GAIN = 0.02
_POSTURE_STEP = 0.003


@dataclass(frozen=True)
class Solution:
    """Joints that bring the tool to a target, or as near as was found.

    q: float64 [J]; position_error: m; rotation_error: rad, both of `forward(q)` against the target.
    """

    q: FloatArray
    position_error: float
    rotation_error: float

    @property
    def reached(self) -> bool:
        """Whether the target is met within 0.1 mm and 1 mrad."""
        return self.position_error <= POSITION_TOLERANCE and self.rotation_error <= ROTATION_TOLERANCE


class Kinematics:
    """The chain from `base_frame` to `tool_frame` over `joints`.

    lower, upper, velocity: float64 [J], the URDF's limits (rad, rad/s); a `continuous` joint counts as
    limited to +-2 pi. reach: float64 [J], m that the tool moves at most per rad (or m) of each joint.
    Not thread-safe: one object per thread.

    Raises KinematicsError when the URDF does not hold the joints or frames, when a named joint is
    neither revolute nor prismatic, when the joints are not exactly those that move between the two
    frames, or when the base frame itself moves with them.
    """

    def __init__(self, urdf_xml: str, joints: Sequence[str], base_frame: str, tool_frame: str) -> None:
        self.joints = tuple(joints)
        self.base_frame = base_frame
        self.tool_frame = tool_frame
        try:
            full = pin.buildModelFromXML(_bounded_continuous_joints(urdf_xml))
        except (ElementTree.ParseError, ValueError, RuntimeError) as error:
            raise KinematicsError(f"the URDF cannot be read: {error}") from error
        for name in self.joints:
            if not full.existJointName(name):
                known = [known for known in full.names if known != "universe"]
                raise KinematicsError(f"the URDF has no movable joint '{name}'; it has {known}")
        for frame in (base_frame, tool_frame):
            if not full.existFrame(frame):
                raise KinematicsError(
                    f"the URDF has no frame '{frame}'; it has {[known.name for known in full.frames]}"
                )
        unlisted = [
            full.names[index]
            for index in full.supports[full.frames[full.getFrameId(tool_frame)].parentJoint]
            if index not in full.supports[full.frames[full.getFrameId(base_frame)].parentJoint]
            and full.names[index] not in self.joints
        ]
        if unlisted:
            raise KinematicsError(
                f"{unlisted} move between '{base_frame}' and '{tool_frame}' but are not among the joints"
            )
        held = [index for index in range(1, full.njoints) if full.names[index] not in self.joints]
        self._model = pin.buildReducedModel(full, held, pin.neutral(full))
        model = self._model
        if model.nq != len(self.joints) or model.nv != len(self.joints):
            raise KinematicsError(f"one of {list(self.joints)} is not a revolute or prismatic joint")
        # pinocchio orders joints by the tree; the YAML orders them as it likes.
        self._order = np.array([model.joints[model.getJointId(name)].idx_q for name in self.joints])
        self.lower: FloatArray = np.array(model.lowerPositionLimit)[self._order]
        self.upper: FloatArray = np.array(model.upperPositionLimit)[self._order]
        self.velocity: FloatArray = np.array(model.velocityLimit)[self._order]

        self._data = model.createData()
        self._tool = model.getFrameId(tool_frame)
        self._base = base = model.getFrameId(base_frame)
        if model.frames[base].parentJoint != 0:
            raise KinematicsError(f"base_frame '{base_frame}' moves with the joints {list(self.joints)}")
        if not set(model.supports[model.frames[self._tool].parentJoint]) >= set(range(1, model.njoints)):
            raise KinematicsError(
                f"not all of {list(self.joints)} lie between '{base_frame}' and tool_frame '{tool_frame}'"
            )
        self.reach: FloatArray = self.reach_of(self._tool)
        base_to_world = model.frames[base].placement
        self._rotation: FloatArray = np.array(base_to_world.rotation.T)
        self._origin: FloatArray = np.array(base_to_world.translation)
        # Most arms: the base frame is the root and the YAML's order the tree's. Nothing is to be converted.
        self._same_base = bool(np.all(base_to_world.homogeneous == np.eye(4)))
        self._same_order = bool(np.all(self._order == np.arange(len(self.joints))))
        self._q_model: FloatArray = np.zeros(len(self.joints))

    @property
    def model(self) -> pin.Model:
        """The chain as pinocchio's model: only `joints`, in the tree's order."""
        return self._model

    @property
    def tool(self) -> int:
        """Index of the tool's frame in `model`."""
        return int(self._tool)

    @property
    def base(self) -> int:
        """Index of the base's frame in `model`."""
        return int(self._base)

    def reach_of(self, frame: int) -> FloatArray:
        """As `reach`, float64 [J], for the frame of this index in `model`, fixed to the last joint."""
        return _reach(self._model, self._model.frames[frame].placement.translation)[self._order]

    def forward(self, q: ArrayLike) -> FloatArray:
        """Pose of the tool in the base frame, 4x4, for joints q [J].

        Raises KinematicsError on a wrong length or a number that is not finite.
        """
        self._q_model[self._order] = self._checked(q)
        pin.framesForwardKinematics(self._model, self._data, self._q_model)
        return self._tool_pose()

    def forward_all(self, q: FloatArray) -> FloatArray:
        """Poses [K, 4, 4] of the tool for joints [K, J], see `forward`. Not checked: called for what was
        computed, many times per tick."""
        poses = np.empty((len(q), 4, 4))
        for row, pose in zip(q, poses, strict=True):
            self._q_model[self._order] = row
            pin.framesForwardKinematics(self._model, self._data, self._q_model)
            pose[:] = self._tool_pose()
        return poses

    def jacobian(self, q: ArrayLike) -> FloatArray:
        """6xJ: tool velocity (linear m/s, then angular rad/s, along the base frame's axes) per joint rate.

        Raises KinematicsError on a wrong length or a number that is not finite.
        """
        return self._pose_and_jacobian(self._checked(q))[1]

    def inverse(
        self,
        target: ArrayLike,
        q_start: ArrayLike,
        lower: ArrayLike,
        upper: ArrayLike,
        posture: ArrayLike | None = None,
    ) -> Solution:
        """Joints within [lower, upper] that bring the tool to `target`, starting from q_start.

        Levenberg-Marquardt with the damping of Sugihara (IEEE T-RO 27(5), 2011: proportional to the
        squared error, plus a floor): it settles also for a target out of reach, with the nearest pose
        found and its errors. Check `Solution.reached`. Joints that meet a limit stay there while the
        others make up for them. Without `posture`, a pose that is already met returns q_start unchanged.

        A control loop calls it once per tick with the previous command as q_start, `home` as posture
        [J] and, as `lower` and `upper`, the position limits cut down to what the velocity limits allow
        in one tick: the result is then the best pose that can be had in time. With a posture the motion
        is calm over ticks: near a singularity (judged at q_start) the joints are held to where they
        were, the more the nearer (Nakamura and Hanafusa, J. Dyn. Sys. Meas. Control 108(3), 1986), so
        that the tool lags a little where the joints would race or fall onto another branch; elsewhere
        the target is met exactly. And the redundant motion drifts towards the posture a little per
        call, so that the elbow does not wander.

        target: 4x4, tool in base frame. Raises KinematicsError on a wrong shape, a number that is not
        finite, a target that is no rigid transform, or lower > upper. A q_start outside the limits is
        first moved to their edge.
        """
        goal = np.asarray(target, dtype=np.float64)
        low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        self._check_target(goal, low, high)
        start = np.minimum(np.maximum(self._checked(q_start), low), high)
        pull = None if posture is None else self._pull(self._checked(posture), start)
        hold = 0.0

        q = best = start
        best_cost = np.inf
        best_errors = (np.inf, np.inf)
        damping_scale = 0.5
        for iteration in range(_ITERATIONS):
            pose, jacobian = self._pose_and_jacobian(q)
            error = np.empty(6)
            error[:3] = goal[:3, 3] - pose[:3, 3]
            error[3:] = pin.log3(goal[:3, :3] @ pose[:3, :3].T)
            errors = (float(np.sqrt(error[:3] @ error[:3])), float(np.sqrt(error[3:] @ error[3:])))
            error[:3] *= _POSITION_WEIGHT
            jacobian[:3] *= _POSITION_WEIGHT
            if iteration == 0 and posture is not None:
                hold = _hold_near_singularity(jacobian)
            cost = float(error @ error)
            back = start - q
            total = cost + hold * float(back @ back)
            if total < best_cost:
                stalled = total > 0.9999 * best_cost
                best, best_cost, best_errors = q, total, errors
                damping_scale = max(damping_scale * 0.5, 1e-3)
            else:
                # Further away than before: step more carefully.
                stalled = damping_scale > 1e3
                damping_scale *= 10.0
            if pull is None and (stalled or (errors[0] <= _POSITION_GOAL and errors[1] <= _ROTATION_GOAL)):
                break
            damping = damping_scale * cost + _DAMPING
            anchor = hold * back if pull is None else hold * back + damping * pull
            step = _step(jacobian, error, damping + hold, anchor, low - q, high - q)
            if pull is not None:
                # The pull belongs to this call's first step only; the ones after it correct for it, so
                # the pose before it does not compete for being the best.
                pull, best_cost = None, np.inf
            elif not step.any():
                break
            q = np.minimum(np.maximum(q + step, low), high)
        return Solution(np.array(best), *best_errors)

    def _checked(self, q: ArrayLike) -> FloatArray:
        values = np.asarray(q, dtype=np.float64)
        if values.shape != (len(self.joints),):
            raise KinematicsError(f"expected {len(self.joints)} joint positions, found shape {values.shape}")
        if not np.isfinite(values).all():
            raise KinematicsError(f"joint positions are not finite: {values.tolist()}")
        return values

    def _check_target(self, goal: FloatArray, low: FloatArray, high: FloatArray) -> None:
        if goal.shape != (4, 4) or not np.isfinite(goal).all():
            raise KinematicsError(f"target is not a finite 4x4 pose: {goal.tolist()}")
        if not _rigid(goal):
            raise KinematicsError(f"target is not a rigid transform: {goal.tolist()}")
        shape = (len(self.joints),)
        # `not (<=)` also catches NaN.
        if low.shape != shape or high.shape != shape or not (low <= high).all():
            raise KinematicsError(f"limits are not {shape[0]} ordered pairs: {low.tolist()}, {high.tolist()}")

    @staticmethod
    def _pull(posture: FloatArray, q: FloatArray) -> FloatArray:
        pull = _POSTURE_GAIN * (posture - q)
        largest = np.abs(pull).max()
        return pull * (_POSTURE_STEP / largest) if largest > _POSTURE_STEP else pull

    def _pose_and_jacobian(self, q: FloatArray) -> tuple[FloatArray, FloatArray]:
        self._q_model[self._order] = q
        raw = pin.computeFrameJacobian(
            self._model, self._data, self._q_model, self._tool, pin.LOCAL_WORLD_ALIGNED
        )
        if self._same_base and self._same_order:
            return self._tool_pose(), np.array(raw)
        jacobian = np.empty((6, len(self.joints)))
        jacobian[:3] = self._rotation @ raw[:3, self._order]
        jacobian[3:] = self._rotation @ raw[3:, self._order]
        return self._tool_pose(), jacobian

    def _tool_pose(self) -> FloatArray:
        placement = self._data.oMf[self._tool]
        if self._same_base:
            return np.array(placement.homogeneous)
        pose = np.zeros((4, 4))
        pose[:3, :3] = self._rotation @ placement.rotation
        pose[:3, 3] = self._rotation @ (placement.translation - self._origin)
        pose[3, 3] = 1.0
        return pose


def _reach(model: pin.Model, point: FloatArray) -> FloatArray:
    """[J], in the order of a model's one chain: a point's greatest distance from each joint's axis, point [3]
    being its place in the last joint's frame; 1 for a joint that slides."""
    ends = [*(model.jointPlacements[index].translation for index in range(2, model.njoints)), point]
    slides = np.array(["JointModelP" in model.joints[i].shortname() for i in range(1, model.njoints)])
    furthest = np.maximum(np.abs(model.lowerPositionLimit), np.abs(model.upperPositionLimit))
    lengths = np.linalg.norm(ends, axis=1) + np.where(slides, furthest, 0.0)
    return np.where(slides, 1.0, np.cumsum(lengths[::-1])[::-1])


def _rigid(pose: FloatArray) -> bool:
    """Whether a 4x4 matrix is a rotation and a translation, in plain numbers: checked at every tick."""
    (a, b, c, _), (d, e, f, _), (g, h, i, _), last = pose.tolist()
    lengths = (a * a + b * b + c * c, d * d + e * e + f * f, g * g + h * h + i * i)
    products = (a * d + b * e + c * f, a * g + b * h + c * i, d * g + e * h + f * i)
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    return (
        determinant > 0.0
        and last == [0.0, 0.0, 0.0, 1.0]
        and all(abs(length - 1.0) <= 1e-6 for length in lengths)
        and all(abs(product) <= 1e-6 for product in products)
    )


def _hold_near_singularity(jacobian: FloatArray) -> float:
    """Weight that holds the joints where they are: 0 away from singularities, _HOLD at one.

    jacobian: 6xJ, weighted; its smallest singular value is the measure.
    """
    smallest = math.sqrt(max(np.linalg.eigvalsh(jacobian @ jacobian.T)[0], 0.0))
    nearness = max(0.0, 1.0 - smallest / _SINGULAR)
    return _HOLD * nearness * nearness


def _step(
    jacobian: FloatArray,
    error: FloatArray,
    damping: float,
    anchor: FloatArray,
    low: FloatArray,
    high: FloatArray,
) -> FloatArray:
    """Solve (J^T J + damping) d = J^T e + anchor for d [J] within [low, high], at most _STEP per joint.

    With anchor = damping * p this is the d that minimises |J d - e|^2 + damping |d - p|^2, which in the
    null space of J is p itself. Joints whose free solution leaves the box are put on its edge, one set
    after the other, and the rest is solved again.
    """
    hessian = jacobian.T @ jacobian
    hessian.flat[:: len(hessian) + 1] += damping
    gradient = jacobian.T @ error + anchor
    step = np.asarray(np.linalg.solve(hessian, gradient), dtype=np.float64)
    outside = (step < low) | (step > high)
    if outside.any():
        fixed: NDArray[np.bool_] = np.zeros(len(step), dtype=bool)
        while outside.any() and not fixed.all():
            fixed |= outside
            step = np.minimum(np.maximum(step, low), high)
            free = ~fixed
            if free.any():
                rest = gradient[free] - hessian[np.ix_(free, fixed)] @ step[fixed]
                step[free] = np.linalg.solve(hessian[np.ix_(free, free)], rest)
            outside = free & ((step < low) | (step > high))
    largest = np.abs(step).max()
    return step * (_STEP / largest) if largest > _STEP else step


def _bounded_continuous_joints(urdf_xml: str) -> str:
    """The URDF with each `continuous` joint made revolute within +-2 pi.

    pinocchio holds a continuous joint as (cos, sin); the drivers, the YAML and the policies count its
    angle as one number.
    """
    root = ElementTree.fromstring(urdf_xml)
    changed = False
    for joint in root.iter("joint"):
        if joint.get("type") == "continuous":
            limit = joint.find("limit")
            if limit is None:
                limit = ElementTree.SubElement(joint, "limit", effort="0", velocity="0")
            limit.set("lower", repr(-2 * np.pi))
            limit.set("upper", repr(2 * np.pi))
            joint.set("type", "revolute")
            changed = True
    return ElementTree.tostring(root, encoding="unicode") if changed else urdf_xml
