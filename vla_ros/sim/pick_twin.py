"""The twin of the FR3 at its tabletop: blocks, and the task of picking the one that is named."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.errors import ConfigError
from vla_ros.robot.config import Arm, Gripper, Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim import world as simulated
from vla_ros.sim.arm import SimArm, make_controllers
from vla_ros.sim.base import SimBase
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.sim.gripper import SimGripper
from vla_ros.sim.task import PickTask, draw_scene
from vla_ros.sim.twin import step_ns
from vla_ros.sim.world import Scene, World
from vla_ros.types import FloatArray

# The robot that the tabletop is made for.
EMBODIMENT = "franka_fr3"
_TASK_PERIOD_NS = 20_000_000


class PickTwin:
    """World, controllers, gripper and task of one FR3; see `vla_ros.sim.twin.Twin`.

    Raises ConfigError when the robot YAML describes something that this world does not have.
    """

    def __init__(self, robot: Robot, urdfs: Mapping[str, str], seed: int) -> None:
        ((name, config),) = robot.arms.items()
        _check_cameras(robot)
        self.world = World()
        self._snapshots = SnapshotFormat(self.world)
        self.step_ns = step_ns(robot)
        self.world.model.opt.timestep = self.step_ns / SECOND_NS
        kinematics = Kinematics(urdfs[name], config.joints, config.base_frame, config.tool_frame)
        gripper = SimGripper(
            _checked_gripper(name, config), lambda: self.world.gripper_width, self.world.command_gripper
        )
        controllers = make_controllers(config, kinematics)
        self.arm = SimArm(name, config, kinematics, _ArmOfWorld(self.world), controllers, gripper)
        self.gripper = gripper
        self.arms: tuple[SimArm, ...] = (self.arm,)
        self.base: SimBase | None = None
        self.reset(seed)
        _check_same_arm(kinematics, self.world, config)

    def reset(self, seed: int) -> str:
        """Scene of `seed`: blocks, arm at the scene's start joints, gripper open, commands forgotten.

        The task's time starts with the first arm command after this. Returns the instruction.
        """
        self.scene: Scene = draw_scene(seed)
        self.world.reset(self.scene)
        self.arm.controllers.reset(self.scene.start_joints)
        self.gripper.forget()
        self.task = PickTask(self.scene.target)
        self.task_text = "running"
        self._task_begin_ns: int | None = None
        self._task_due_ns = 0
        return f"seed {seed}: {self.scene.instruction}"

    def note_command(self, now_ns: int) -> None:
        """An arm command was obeyed."""
        if self._task_begin_ns is None:
            self._task_begin_ns = now_ns

    def step(self, now_ns: int) -> None:
        """One physics step, to the state of `now_ns`."""
        self.world.command_joints(self.arm.controllers.reference(now_ns))
        self.world.step()
        if self._task_begin_ns is not None and now_ns >= self._task_due_ns:
            self._task_due_ns = now_ns + _TASK_PERIOD_NS
            self._judge((now_ns - self._task_begin_ns) / SECOND_NS)

    def snapshot(self, stamp_ns: int) -> bytes:
        """What the cameras need of the present state."""
        return self._snapshots.pack(stamp_ns)

    def _judge(self, seconds: float) -> None:
        heights = self.world.block_heights()
        outcome = self.task.update(heights, seconds)
        if outcome == "wrong_block":
            others = np.delete(np.arange(len(heights)), self.scene.target)
            lifted = others[np.argmax(heights[others])]
            self.task_text = f"failure: wrong block {self.scene.blocks[lifted].color}"
        else:
            self.task_text = {"timeout": "failure: time-out"}.get(outcome, outcome)


class _ArmOfWorld:
    """See `vla_ros.sim.arm.Body`."""

    def __init__(self, world: World) -> None:
        self._world = world

    def positions(self) -> FloatArray:
        return self._world.joint_positions

    def velocities(self) -> FloatArray:
        return self._world.joint_velocities

    def efforts(self) -> FloatArray:
        return self._world.joint_efforts

    def command(self, positions: ArrayLike) -> None:
        self._world.command_joints(np.asarray(positions, dtype=np.float64))


def _checked_gripper(name: str, arm: Arm) -> Gripper:
    if arm.gripper is None:
        raise ConfigError(f"arms.{name}.gripper: not there; the twin's arm has a parallel gripper")
    low, high = arm.gripper.width
    if low < -1e-6 or high > simulated.GRIPPER_MAX_WIDTH + 1e-6:
        raise ConfigError(
            f"arms.{name}.gripper.width: [{low}, {high}] m; the twin's opens "
            f"[0, {simulated.GRIPPER_MAX_WIDTH}]"
        )
    return arm.gripper


def _check_cameras(robot: Robot) -> None:
    for name, camera in robot.cameras.items():
        if name not in simulated.CAMERAS:
            raise ConfigError(
                f"cameras.{name}: the twin has no such camera, only {', '.join(simulated.CAMERAS)}"
            )
        size = (simulated.IMAGE_WIDTH, simulated.IMAGE_HEIGHT)
        if (camera.width, camera.height) != size:
            raise ConfigError(
                f"cameras.{name}: {camera.width}x{camera.height}; the twin renders {size[0]}x{size[1]}"
            )


def _check_same_arm(kinematics: Kinematics, world: World, arm: Arm) -> None:
    """The world's arm must be the one that the URDF describes: same tool pose at the same joints."""
    joints = world.joint_positions
    if len(joints) != len(arm.joints):
        raise ConfigError(f"joints: {len(arm.joints)} of them; the twin's arm has {len(joints)}")
    apart = np.abs(kinematics.forward(joints) - world.tcp_pose).max()
    if apart > 1e-3:
        raise ConfigError(
            f"{arm.urdf}: at the same joints its {arm.tool_frame} and the twin's are {apart:.3f} apart; "
            f"embodiment {EMBODIMENT} stands for the FR3 with Franka Hand"
        )
