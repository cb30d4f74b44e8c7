"""Forward and inverse kinematics of one arm, from its URDF, with pinocchio.

All poses are 4x4 float64 transforms of the tool frame in the arm's base frame (m, rad); joint vectors
are in the order of the robot YAML's `joints` (rad for revolute joints, m for prismatic ones). Joints
that the YAML does not name (fingers, another arm) are held at zero.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

import numpy as np
import pinocchio as pin
from numpy.typing import ArrayLike

from vla_ros.errors import KinematicsError
from vla_ros.robot.inverse import Solution, descend, search
from vla_ros.types import FloatArray

# Pull towards the posture, per call: a share of the distance and never more than so many rad, so that
# at 100 Hz the elbow returns within about a second and never faster than 0.3 rad/s.
_POSTURE_GAIN = 0.02
_POSTURE_STEP = 0.003


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
        others make up for them. Without `posture`, a pose that is already met returns q_start unchanged, and
        one that is missed because of a limit is tried on the next branches (elbow or wrist bent to the other
        side) where that is no jump: see `vla_ros.robot.inverse.search`.

        A control loop calls it once per tick with the previous command as q_start, `home` as posture
        [J] and the position limits as `lower` and `upper`; how far the joints may go in one tick is for a
        limiter that follows. With a posture the motion is calm over ticks: near a singularity (judged at
        q_start) the joints are held to where they were, the more the nearer (Nakamura and Hanafusa, J. Dyn.
        Sys. Meas. Control 108(3), 1986), so that the tool lags a little where the joints would race or fall
        onto another branch, and so are they the further the target is from q_start; elsewhere the target is
        met exactly. And the redundant motion drifts towards the posture a little per call, so that the elbow
        does not wander.

        target: 4x4, tool in base frame. Raises KinematicsError on a wrong shape, a number that is not
        finite, a target that is no rigid transform, or lower > upper. A q_start outside the limits is
        first moved to their edge.
        """
        goal = np.asarray(target, dtype=np.float64)
        low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        self._check_target(goal, low, high)
        start = np.minimum(np.maximum(self._checked(q_start), low), high)
        if posture is None:
            return search(self._pose_and_jacobian, goal, start, low, high)
        pull = self._pull(self._checked(posture), start)
        return descend(self._pose_and_jacobian, goal, start, low, high, pull)[0]

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
