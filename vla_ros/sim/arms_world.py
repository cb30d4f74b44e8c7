"""The simulated arms of any robot YAML: its URDFs at their base poses, servos and cameras, without ROS.

Kinematics and limits are the URDF's; shapes are whatever primitives it draws. Nothing can be picked up here
(the tabletop with blocks, :mod:`vla_ros.sim.world`, is the FR3's). Nothing reads a clock: time advances with
:meth:`ArmsWorld.step` alone.

Frames: `base_pose` places each arm in the robot's common frame, which is where a table's top is the plane
z = 0. Where the robot has a base that drives, the common frame is that of the body `base`, which carries arms
and cameras over a floor and past a table; it begins in the middle of the room.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import mujoco
import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import ConfigError
from vla_ros.robot.config import Arm, Gripper, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.sim.base import SimBase
from vla_ros.sim.offscreen import Offscreen
from vla_ros.sim.room import BASE, BASE_JOINTS, add_room_and_base, add_table
from vla_ros.sim.world import CameraInfo
from vla_ros.types import FloatArray

# Position servo: stiffness (N m/rad) and damping (N m s/rad). Their ratio makes a first-order lag of 40 ms,
# like an arm under impedance control; the armature keeps light wrists stable.
STIFFNESS, DAMPING, ARMATURE = 4500.0, 180.0, 0.1
# For links whose URDF states no mass.
LEAST_MASS, LEAST_INERTIA = 0.05, 1e-4
# Vertical field of view, degrees; a RealSense D435's colour camera has 42, wide-angle wrists 60 and more.
FIELD_OF_VIEW = 55.0
# A camera without `mount` looks at the middle of the workspace from this far ahead of it, and above, m.
AHEAD, ABOVE = 0.7, 0.6
_URDF_OPTIONS = (
    '<mujoco><compiler discardvisual="false" fusestatic="false" strippath="false" '
    f'boundmass="{LEAST_MASS}" boundinertia="{LEAST_INERTIA}"/></mujoco>'
)


class ArmsWorld:
    """MuJoCo model and state of every arm of a robot.

    Single-threaded: call every method, rendering included, from one thread (an OpenGL context belongs to the
    thread that made it). urdfs: {arm: text}. Raises ConfigError where MuJoCo cannot use a URDF.
    """

    def __init__(self, robot: Robot, urdfs: Mapping[str, str], timestep: float) -> None:
        self._robot = robot
        spec = mujoco.MjSpec()
        spec.option.timestep = timestep
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        # The servos of a real arm hold its weight.
        spec.option.gravity = (0.0, 0.0, 0.0)
        spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONTACT
        spec.visual.global_.offwidth = max(camera.width for camera in robot.cameras.values())
        spec.visual.global_.offheight = max(camera.height for camera in robot.cameras.values())
        self.base = None if robot.base is None else SimBase(robot.base)
        carrier = add_table(spec) if self.base is None else add_room_and_base(spec)
        for name, arm in robot.arms.items():
            _add_arm(spec, carrier, name, arm, urdfs[name])
        middle = (np.array(robot.safety.workspace.min) + np.array(robot.safety.workspace.max)) / 2
        for name, camera in robot.cameras.items():
            _add_camera(spec, carrier, name, camera, robot, middle)
        self.model = spec.compile()
        self.data = mujoco.MjData(self.model)
        self._renderers: dict[tuple[int, int], Offscreen] = {}
        self._widths: dict[str, float] = {}
        self._wanted: dict[str, float] = {}
        joint = self.model.joint
        driven = [] if self.base is None else [joint(name) for name in BASE_JOINTS]
        self._base_q = np.array([each.qposadr[0] for each in driven], dtype=int)
        self._q, self._v, self._servos, self._fingers = {}, {}, {}, {}
        for name, arm in robot.arms.items():
            joints = [joint(f"{name}/{each}") for each in arm.joints]
            self._q[name] = np.array([each.qposadr[0] for each in joints])
            self._v[name] = np.array([each.dofadr[0] for each in joints])
            self._servos[name] = np.array([self.model.actuator(f"{name}/{each}").id for each in arm.joints])
            self._fingers[name] = _finger_addresses(self.model, name, arm)
        self.reset()

    @property
    def time(self) -> float:
        """Seconds of simulated time since the last :meth:`reset`."""
        return float(self.data.time)

    @property
    def timestep(self) -> float:
        """Seconds that one :meth:`step` advances."""
        return float(self.model.opt.timestep)

    def reset(self) -> None:
        """Every arm at its home, at rest, its gripper open, the base where it began, time 0."""
        mujoco.mj_resetData(self.model, self.data)
        if self.base is not None:
            self.base.reset()
        for name, arm in self._robot.arms.items():
            if arm.gripper is not None:
                self._widths[name] = self._wanted[name] = arm.gripper.width[1]
            self.place_arm(name, arm.home)

    def place_arm(self, name: str, joints: ArrayLike) -> None:
        """Teleport an arm (set-up only) to joints [J] in rad, at rest."""
        self.data.qpos[self._q[name]] = joints
        self.data.qvel[self._v[name]] = 0.0
        self.command_joints(name, joints)
        mujoco.mj_forward(self.model, self.data)

    def command_joints(self, name: str, positions: ArrayLike) -> None:
        """Set an arm's servo targets: float64 [J], rad, which the joints' limits bound.

        Raises ValueError for a wrong number of values or one that is not finite.
        """
        q = np.asarray(positions, dtype=np.float64)
        if q.shape != self._q[name].shape or not np.isfinite(q).all():
            raise ValueError(f"{name}: joint positions must be {len(self._q[name])} finite values, got {q}")
        self.data.ctrl[self._servos[name]] = q

    def command_gripper(self, name: str, width: float) -> None:
        """Have a gripper go to `width`, m, within its range and at its own speed. Nothing stops it."""
        low, high = self._gripper(name).width
        self._wanted[name] = min(max(width, low), high)

    def gripper_width(self, name: str) -> float:
        """Opening width, m."""
        return self._widths[name]

    def step(self) -> None:
        """Advance by one timestep."""
        for name, wanted in self._wanted.items():
            gripper, width = self._gripper(name), self._widths[name]
            most = gripper.speed * self.timestep
            self._widths[name] = width = width + min(max(wanted - width, -most), most)
            low, high = gripper.width
            for address, closed, opened in self._fingers[name]:
                self.data.qpos[address] = closed + (width - low) / (high - low) * (opened - closed)
        mujoco.mj_step(self.model, self.data)
        if self.base is not None:
            self.base.step(self.timestep)
            self.data.qpos[self._base_q] = self.base.pose

    def _gripper(self, name: str) -> Gripper:
        gripper = self._robot.arms[name].gripper
        assert gripper is not None
        return gripper

    def joint_positions(self, name: str) -> FloatArray:
        """Float64 [J], rad."""
        return np.array(self.data.qpos[self._q[name]])

    def joint_velocities(self, name: str) -> FloatArray:
        """Float64 [J], rad/s."""
        return np.array(self.data.qvel[self._v[name]])

    def joint_efforts(self, name: str) -> FloatArray:
        """Servo torques, float64 [J], N m."""
        return np.array(self.data.actuator_force[self._servos[name]])

    def tool_pose(self, name: str) -> FloatArray:
        """Pose of the arm's tool frame in its base frame at the current joints, float64 [4, 4]."""
        mujoco.mj_kinematics(self.model, self.data)
        arm = self._robot.arms[name]
        base, tool = (self._frame(f"{name}/{frame}") for frame in (arm.base_frame, arm.tool_frame))
        return np.asarray(np.linalg.inv(base) @ tool)

    def base_pose(self, name: str) -> FloatArray:
        """Pose of the arm's base frame in the common frame, float64 [4, 4]."""
        mujoco.mj_kinematics(self.model, self.data)
        frame = self._frame(f"{name}/{self._robot.arms[name].base_frame}")
        return frame if self.base is None else np.asarray(np.linalg.inv(self._frame(BASE)) @ frame)

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Image of a camera of the robot YAML: RGB uint8 [height, width, 3] of its size.

        Raises RenderingUnavailableError: no EGL or OSMesa library, with the packages to install.
        """
        size = (self._robot.cameras[camera].width, self._robot.cameras[camera].height)
        if size not in self._renderers:
            self._renderers[size] = Offscreen(self.model, *size)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self._renderers[size].render(self.data, self.model.camera(camera).id)

    def camera_info(self, camera: str) -> CameraInfo:
        """Intrinsics of a camera: square pixels, principal point at the image centre."""
        width, height = self._robot.cameras[camera].width, self._robot.cameras[camera].height
        focal = height / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
        return CameraInfo(
            width=width,
            height=height,
            fx=focal,
            fy=focal,
            cx=(width - 1) / 2,
            cy=(height - 1) / 2,
            frame=f"{camera}_optical_frame",
        )

    def close(self) -> None:
        """Release the OpenGL contexts."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _frame(self, body: str) -> FloatArray:
        index = self.model.body(body).id
        pose = np.eye(4)
        pose[:3, :3] = self.data.xmat[index].reshape(3, 3)
        pose[:3, 3] = self.data.xpos[index]
        return pose


def _add_arm(spec: mujoco.MjSpec, carrier: mujoco.MjsBody, name: str, arm: Arm, urdf: str) -> None:
    """The arm's URDF under the names `<arm>/...`, its base frame at its base pose, with a servo per joint."""
    try:
        child = _parsed(urdf)
        pose = _pose(arm.base_pose.position, arm.base_pose.rpy) @ np.linalg.inv(
            _base_in_root(_parsed(urdf), arm.base_frame)
        )
        bounded = set()
        for joint in child.joints:
            joint.armature = ARMATURE
            if joint.name not in arm.joints:
                # Fingers are put where the gripper says: nothing of theirs may push the arm.
                joint.limited = mujoco.mjtLimited.mjLIMITED_FALSE
            if joint.range[0] < joint.range[1]:
                bounded.add(joint.name)
        for coupling in list(child.equalities):
            child.delete(coupling)
        frame = carrier.add_frame(pos=pose[:3, 3], quat=_quaternion(pose[:3, :3]))
        frame.attach_body(child.worldbody.first_body(), f"{name}/", "")
    except (ValueError, KeyError) as error:
        raise ConfigError(f"arms.{name}.urdf: {arm.urdf}: MuJoCo cannot use it ({error})") from None
    for each in arm.joints:
        servo = spec.add_actuator(
            name=f"{name}/{each}", target=f"{name}/{each}", trntype=mujoco.mjtTrn.mjTRN_JOINT
        )
        servo.set_to_position(kp=STIFFNESS, kv=DAMPING, inheritrange=1.0 if each in bounded else 0.0)


def _parsed(urdf: str) -> mujoco.MjSpec:
    head, tag, rest = urdf.partition("<robot")
    attributes, close, body = rest.partition(">")
    return mujoco.MjSpec.from_string(head + tag + attributes + close + _URDF_OPTIONS + body)


def _base_in_root(spec: mujoco.MjSpec, base_frame: str) -> FloatArray:
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    index = model.body(base_frame).id
    pose = np.eye(4)
    pose[:3, :3] = data.xmat[index].reshape(3, 3)
    pose[:3, 3] = data.xpos[index]
    return pose


def _add_camera(
    spec: mujoco.MjSpec,
    carrier: mujoco.MjsBody,
    name: str,
    camera: Camera,
    robot: Robot,
    middle: FloatArray,
) -> None:
    if camera.mount is None:
        eye = middle + np.array([AHEAD, 0.0, ABOVE])
        pose, body = _looking_at(eye, middle), carrier
    else:
        pose = _pose(camera.mount.position, camera.mount.rpy)
        arm = camera.mount.arm
        body = carrier if arm is None else spec.body(f"{arm}/{robot.arms[arm].tool_frame}")
    # Optical frames look along z with y down, MuJoCo's cameras along -z with y up.
    turned = pose[:3, :3] @ np.diag([1.0, -1.0, -1.0])
    body.add_camera(name=name, pos=pose[:3, 3], quat=_quaternion(turned), fovy=FIELD_OF_VIEW)


def _looking_at(eye: FloatArray, target: FloatArray) -> FloatArray:
    """Optical frame (x right, y down, z forward) at `eye`, world z up in the image, 4x4."""
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.column_stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = eye
    return pose


def _finger_addresses(model: mujoco.MjModel, name: str, arm: Arm) -> list[tuple[int, float, float]]:
    """(qpos address, closed, open) of the movable joints beyond the arm's own that the gripper names."""
    if arm.gripper is None:
        return []
    names = {model.joint(index).name for index in range(model.njnt)}
    wanted = [f"{name}/{joint}" for joint in arm.gripper.joints if joint not in arm.joints]
    joints = [model.joint(each) for each in wanted if each in names]
    return [(int(joint.qposadr[0]), float(joint.range[0]), float(joint.range[1])) for joint in joints]


def _pose(position: ArrayLike, rpy: ArrayLike) -> FloatArray:
    """4x4 from m and roll, pitch, yaw about fixed axes, rad."""
    from scipy.spatial.transform import Rotation

    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_euler("xyz", rpy).as_matrix()
    pose[:3, 3] = position
    return pose


def _quaternion(matrix: FloatArray) -> FloatArray:
    """MuJoCo's wxyz."""
    quaternion = np.zeros(4)
    mujoco.mju_mat2Quat(quaternion, np.ascontiguousarray(matrix).ravel())
    return quaternion
