"""The simulated tabletop: physics, actuators and cameras of one FR3 arm, without ROS.

One model serves every episode; a :class:`Scene` says what differs (blocks, colours, start joints).
Physics needs no OpenGL; only :meth:`World.render` does. Nothing here reads a clock: time advances
with :meth:`World.step` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.sim import franka_mjcf as mjcf
from vla_ros.sim.offscreen import Offscreen

FloatArray = NDArray[np.float64]

IMAGE_WIDTH = 640
IMAGE_HEIGHT = 480
CAMERAS: tuple[str, ...] = ("front", "wrist")
GRIPPER_MAX_WIDTH = 2 * mjcf.FINGER_TRAVEL
# Franka hand: libfranka's examples move it at 0.1 m/s (change of width).
GRIPPER_SPEED = 0.1

# RGB in [0, 1] of every colour a block may have.
PALETTE: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.07, 0.07),
    "green": (0.08, 0.62, 0.14),
    "blue": (0.08, 0.22, 0.88),
    "yellow": (0.95, 0.86, 0.08),
    "purple": (0.50, 0.10, 0.68),
    "orange": (0.97, 0.45, 0.02),
}


@dataclass(frozen=True)
class Block:
    """One cube: colour name (key of :data:`PALETTE`), centre ``x, y`` [m] and ``yaw`` [rad]."""

    color: str
    x: float
    y: float
    yaw: float


@dataclass(frozen=True)
class Scene:
    """Everything that differs between episodes.

    ``start_joints``: 7 joint positions [rad]. ``target``: index into ``blocks`` of the block that
    ``instruction`` names.
    """

    seed: int
    blocks: tuple[Block, ...]
    target: int
    instruction: str
    start_joints: tuple[float, ...]


@dataclass(frozen=True)
class CameraInfo:
    """Pinhole intrinsics in pixels, no distortion; ``frame`` names the optical frame."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    frame: str


class World:
    """MuJoCo model and state of the scene.

    Single-threaded: call every method, rendering included, from one thread (an OpenGL context
    belongs to the thread that made it).
    """

    def __init__(self) -> None:
        self.model = mujoco.MjModel.from_xml_string(mjcf.build_mjcf())
        self.data = mujoco.MjData(self.model)
        self._renderer: Offscreen | None = None
        joint = self.model.joint
        self._q = np.array([joint(n).qposadr[0] for n in mjcf.JOINT_NAMES])
        self._v = np.array([joint(n).dofadr[0] for n in mjcf.JOINT_NAMES])
        self._fingers = np.array([joint(n).qposadr[0] for n in mjcf.FINGER_NAMES])
        self._blocks = [joint(f"block{i}").qposadr[0] for i in range(mjcf.BLOCK_COUNT)]
        self._block_dofs = [joint(f"block{i}").dofadr[0] for i in range(mjcf.BLOCK_COUNT)]
        self._block_geoms = [self.model.geom(f"block{i}").id for i in range(mjcf.BLOCK_COUNT)]
        self._tcp = self.model.site("fr3_hand_tcp").id
        self._grip = self.model.actuator("gripper").id
        self._grip_limit = float(self.model.actuator_forcerange[self._grip, 1])
        self._grip_target = mjcf.FINGER_TRAVEL
        self._limits = np.array(mjcf.JOINT_LIMITS)

    @property
    def time(self) -> float:
        """Seconds of simulated time since the last :meth:`reset`."""
        return float(self.data.time)

    @property
    def timestep(self) -> float:
        """Seconds that one :meth:`step` advances."""
        return float(self.model.opt.timestep)

    def reset(self, scene: Scene) -> None:
        """Put blocks and arm where ``scene`` says, gripper open, everything at rest, time 0.

        Raises:
            ValueError: wrong number of blocks or joints, an unknown colour, or a joint position
                outside its limits.
        """
        if len(scene.blocks) != mjcf.BLOCK_COUNT:
            raise ValueError(f"scene.blocks has {len(scene.blocks)} blocks, the world has {mjcf.BLOCK_COUNT}")
        start = self._checked_joints(np.asarray(scene.start_joints, dtype=np.float64))
        outside = (start < self._limits[:, 0]) | (start > self._limits[:, 1])
        if outside.any():
            i = int(np.argmax(outside))
            raise ValueError(
                f"scene.start_joints[{i}] = {start[i]:.4f} rad is outside "
                f"[{self._limits[i, 0]}, {self._limits[i, 1]}] of {mjcf.JOINT_NAMES[i]}"
            )
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[self._q] = start
        self.data.qpos[self._fingers] = mjcf.FINGER_TRAVEL
        for i, block in enumerate(scene.blocks):
            if block.color not in PALETTE:
                raise ValueError(f"scene.blocks[{i}].color is '{block.color}'; known: {', '.join(PALETTE)}")
            half = block.yaw / 2
            self.place_block(
                i, (block.x, block.y, mjcf.BLOCK_HALF_SIZE), (np.cos(half), 0.0, 0.0, np.sin(half))
            )
            self.model.geom_rgba[self._block_geoms[i]] = (*PALETTE[block.color], 1.0)
        self.command_joints(start)
        self._grip_target = mjcf.FINGER_TRAVEL
        self.data.ctrl[self._grip] = mjcf.FINGER_TRAVEL
        self.model.actuator_forcerange[self._grip] = (-self._grip_limit, self._grip_limit)
        mujoco.mj_forward(self.model, self.data)

    def place_arm(self, joints: FloatArray, width: float) -> None:
        """Teleport the arm (set-up only): joints [7] in rad and gripper width [m], at rest."""
        q = self._checked_joints(joints)
        self.data.qpos[self._q] = q
        self.data.qvel[self._v] = 0.0
        finger = float(np.clip(width, 0.0, GRIPPER_MAX_WIDTH)) / 2
        self.data.qpos[self._fingers] = finger
        self.data.ctrl[self._grip] = finger
        self._grip_target = finger
        self.command_joints(q)
        mujoco.mj_forward(self.model, self.data)

    def place_block(self, index: int, xyz: Sequence[float], wxyz: Sequence[float]) -> None:
        """Teleport a block (set-up only): centre [m] and MuJoCo-order quaternion, at rest."""
        adr = self._blocks[index]
        self.data.qpos[adr : adr + 3] = xyz
        self.data.qpos[adr + 3 : adr + 7] = wxyz
        dof = self._block_dofs[index]
        self.data.qvel[dof : dof + 6] = 0.0

    def command_joints(self, positions: FloatArray) -> None:
        """Set the servo targets: float64 [7] in rad, clamped to the joint limits."""
        q = self._checked_joints(positions)
        self.data.ctrl[: len(q)] = np.clip(q, self._limits[:, 0], self._limits[:, 1])

    def command_gripper(self, width: float, max_effort: float) -> None:
        """Move the fingers towards ``width`` [m, between the pads] at 0.1 m/s.

        ``max_effort`` [N] bounds the grip force; it is capped at the hand's 70 N.
        """
        if not (np.isfinite(width) and np.isfinite(max_effort) and max_effort > 0):
            raise ValueError(
                f"gripper command width={width} m, max_effort={max_effort} N: both must be finite "
                "and the effort positive"
            )
        self._grip_target = float(np.clip(width, 0.0, GRIPPER_MAX_WIDTH)) / 2
        effort = min(float(max_effort), self._grip_limit)
        self.model.actuator_forcerange[self._grip] = (-effort, effort)

    def step(self, count: int = 1) -> None:
        """Advance physics by ``count`` timesteps."""
        ramp = GRIPPER_SPEED / 2 * self.timestep
        ctrl = self.data.ctrl
        for _ in range(count):
            ctrl[self._grip] += min(max(self._grip_target - ctrl[self._grip], -ramp), ramp)
            mujoco.mj_step(self.model, self.data)

    @property
    def joint_positions(self) -> FloatArray:
        """Float64 [7], rad."""
        return self.data.qpos[self._q].copy()

    @property
    def joint_velocities(self) -> FloatArray:
        """Float64 [7], rad/s."""
        return self.data.qvel[self._v].copy()

    @property
    def joint_efforts(self) -> FloatArray:
        """Servo torques, float64 [7], N m (gravity compensation not included)."""
        return self.data.actuator_force[: len(self._q)].copy()

    @property
    def gripper_width(self) -> float:
        """Distance between the finger pads, m."""
        return float(self.data.qpos[self._fingers].sum())

    @property
    def tcp_pose(self) -> FloatArray:
        """Pose of ``fr3_hand_tcp`` in the arm's base frame at the current joints, float64 [4, 4]."""
        mujoco.mj_kinematics(self.model, self.data)
        pose = np.eye(4)
        pose[:3, :3] = self.data.site_xmat[self._tcp].reshape(3, 3)
        pose[:3, 3] = self.data.site_xpos[self._tcp]
        return pose

    def block_pose(self, index: int) -> FloatArray:
        """Pose of a block's centre in the arm's base frame, float64 [4, 4]."""
        adr = self._blocks[index]
        rotation = np.zeros(9)
        mujoco.mju_quat2Mat(rotation, self.data.qpos[adr + 3 : adr + 7])
        pose = np.eye(4)
        pose[:3, :3] = rotation.reshape(3, 3)
        pose[:3, 3] = self.data.qpos[adr : adr + 3]
        return pose

    def block_heights(self) -> FloatArray:
        """Height of every block's centre above the table top, float64 [3], m."""
        return np.array([self.data.qpos[adr + 2] for adr in self._blocks])

    def render(self, camera: str) -> NDArray[np.uint8]:
        """Render ``camera`` ("front" or "wrist"): RGB uint8 [480, 640, 3].

        Raises:
            RenderingUnavailableError: no EGL or OSMesa library, with the packages to install.
            ValueError: unknown camera.
        """
        self._check_camera(camera)
        if self._renderer is None:
            self._renderer = Offscreen(self.model, IMAGE_WIDTH, IMAGE_HEIGHT)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        return self._renderer.render(self.data, self.model.camera(camera).id)

    def camera_info(self, camera: str) -> CameraInfo:
        """Intrinsics of ``camera``: square pixels, principal point at the image centre."""
        self._check_camera(camera)
        fovy = np.deg2rad(self.model.camera(camera).fovy[0])
        focal = IMAGE_HEIGHT / 2 / np.tan(fovy / 2)
        return CameraInfo(
            width=IMAGE_WIDTH,
            height=IMAGE_HEIGHT,
            fx=float(focal),
            fy=float(focal),
            cx=(IMAGE_WIDTH - 1) / 2,
            cy=(IMAGE_HEIGHT - 1) / 2,
            frame=f"{camera}_camera_optical_frame",
        )

    def camera_pose(self, camera: str) -> FloatArray:
        """Pose of the optical frame (x right, y down, z forward) in the base frame, [4, 4]."""
        self._check_camera(camera)
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_comPos(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        index = self.model.camera(camera).id
        pose = np.eye(4)
        # MuJoCo cameras look along -z with y up.
        pose[:3, :3] = self.data.cam_xmat[index].reshape(3, 3) @ np.diag([1.0, -1.0, -1.0])
        pose[:3, 3] = self.data.cam_xpos[index]
        return pose

    def close(self) -> None:
        """Release the OpenGL context, if one was made."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _checked_joints(self, positions: FloatArray) -> FloatArray:
        q = np.asarray(positions, dtype=np.float64)
        if q.shape != (len(mjcf.JOINT_NAMES),) or not np.isfinite(q).all():
            raise ValueError(f"joint positions must be {len(mjcf.JOINT_NAMES)} finite values in rad, got {q}")
        return q

    def _check_camera(self, camera: str) -> None:
        if camera not in CAMERAS:
            raise ValueError(f"unknown camera '{camera}'; the world has {', '.join(CAMERAS)}")
