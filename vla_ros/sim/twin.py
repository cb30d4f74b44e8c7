"""The twin of a robot: the simulated world behind the robot YAML's names, controllers and gripper.

No ROS and no clocks in here: the caller passes the time of every step.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vla_ros.errors import ConfigError
from vla_ros.robot.config import Arm, Gripper, GripperActionDriver, Robot
from vla_ros.robot.grippers import reading_at
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim import world as simulated
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.controllers import SECOND_NS, ArmControllers
from vla_ros.sim.task import PickTask, draw_scene
from vla_ros.sim.world import Scene, World
from vla_ros.types import FloatArray

# Fingers slower than this (m/s of width) for this long have arrived, or are stopped by an object.
_STILL_SPEED = 0.005
_STILL_NS = 100_000_000
# A goal counts as reached within this width, m.
_REACHED = 0.003
_TASK_PERIOD_NS = 20_000_000


@dataclass(frozen=True)
class GripperOutcome:
    """How a gripper goal ended. width: m; stalled: stopped by something before it got there."""

    width: float
    reached: bool
    stalled: bool


class Twin:
    """World, controllers, gripper and task of one arm. Single-threaded.

    Raises ConfigError when the robot YAML describes something that this world does not have.
    """

    def __init__(self, robot: Robot, urdf_xml: str, seed: int) -> None:
        self.arm_name, self.arm = only_arm(robot)
        self.gripper, self.gripper_action = _only_gripper(self.arm_name, self.arm)
        _check_cameras(robot)
        self.world = World()
        self._snapshots = SnapshotFormat(self.world)
        # As many steps a second as the driver publishes states, so that every state is a new one.
        rate = max(self.arm.states.rate_hz, 1.0 / self.world.timestep)
        self.step_ns = round(SECOND_NS / rate)
        self.world.model.opt.timestep = self.step_ns / SECOND_NS
        kinematics = Kinematics(urdf_xml, self.arm.joints, self.arm.base_frame, self.arm.tool_frame)
        cartesian = self.arm.drivers.cartesian_pose
        self.controllers = ArmControllers(
            self.arm.joints, self.arm.home, kinematics, cartesian.frame if cartesian else self.arm.base_frame
        )
        self.reset(seed)
        _check_same_arm(kinematics, self.world, self.arm)

    def reset(self, seed: int) -> Scene:
        """Scene of `seed`: blocks, arm at the scene's start joints, gripper open, commands forgotten.

        The task's time starts with the first arm command after this.
        """
        self.scene = draw_scene(seed)
        self.world.reset(self.scene)
        self.controllers.reset(self.scene.start_joints)
        self.task = PickTask(self.scene.target)
        self.task_text = "running"
        self._task_begin_ns: int | None = None
        self._task_due_ns = 0
        self._goal: float | None = None
        self._still_since_ns: int | None = None
        return self.scene

    def note_command(self, now_ns: int) -> None:
        """An arm command was obeyed."""
        if self._task_begin_ns is None:
            self._task_begin_ns = now_ns

    def step(self, now_ns: int) -> None:
        """One physics step, to the state of `now_ns`."""
        self.world.command_joints(self.controllers.reference(now_ns))
        self.world.step()
        if self._task_begin_ns is not None and now_ns >= self._task_due_ns:
            self._task_due_ns = now_ns + _TASK_PERIOD_NS
            self._judge((now_ns - self._task_begin_ns) / SECOND_NS)

    def _judge(self, seconds: float) -> None:
        heights = self.world.block_heights()
        outcome = self.task.update(heights, seconds)
        if outcome == "wrong_block":
            others = np.delete(np.arange(len(heights)), self.scene.target)
            lifted = others[np.argmax(heights[others])]
            self.task_text = f"failure: wrong block {self.scene.blocks[lifted].color}"
        else:
            self.task_text = {"timeout": "failure: time-out"}.get(outcome, outcome)

    def command_gripper(self, width: float, max_effort: float) -> None:
        """Begin a gripper goal (replacing the last); width in m, effort in N.

        Raises ValueError for a width outside the gripper's, or numbers that are not finite.
        """
        low, high = self.gripper.width
        if not (low - 1e-3 <= width <= high + 1e-3):
            raise ValueError(f"width {width} m is outside [{low}, {high}]")
        self.world.command_gripper(width, max_effort)
        self._goal = width
        self._still_since_ns = None
        self._last_width = self.world.gripper_width

    def gripper_outcome(self, now_ns: int, elapsed_ns: int) -> GripperOutcome | None:
        """How the goal ended, None while the fingers move. elapsed_ns: since the last call."""
        if self._goal is None:
            return None
        width = self.world.gripper_width
        speed = abs(width - self._last_width) / max(elapsed_ns, 1) * SECOND_NS
        self._last_width = width
        if speed > _STILL_SPEED:
            self._still_since_ns = None
            return None
        if self._still_since_ns is None:
            self._still_since_ns = now_ns
        if now_ns - self._still_since_ns < _STILL_NS:
            return None
        reached = abs(width - self._goal) <= _REACHED
        self._goal = None
        return GripperOutcome(width, reached, not reached)

    def snapshot(self, stamp_ns: int) -> bytes:
        """What the cameras need of the present state."""
        return self._snapshots.pack(stamp_ns)

    def finger_positions(self) -> FloatArray:
        """Float64, one per gripper joint, in the driver's unit: it publishes equal shares of the width."""
        count = len(self.gripper.joints)
        return np.full(count, reading_at(self.gripper, self.world.gripper_width) / count)


def only_arm(robot: Robot) -> tuple[str, Arm]:
    """The arm of a one-armed robot. Raises ConfigError for more arms."""
    if len(robot.arms) != 1:
        raise ConfigError(f"robot '{robot.name}': the twin has one arm, arms are {sorted(robot.arms)}")
    return next(iter(robot.arms.items()))


def _only_gripper(name: str, arm: Arm) -> tuple[Gripper, GripperActionDriver]:
    if arm.gripper is None:
        raise ConfigError(f"arms.{name}.gripper: not there; the twin's arm has a parallel gripper")
    if arm.gripper.action is None:
        raise ConfigError(
            f"arms.{name}.gripper: no action; the twin's gripper is a GripperCommand action"
        )
    low, high = arm.gripper.width
    if low < -1e-6 or high > simulated.GRIPPER_MAX_WIDTH + 1e-6:
        raise ConfigError(
            f"arms.{name}.gripper.width: [{low}, {high}] m; the twin's opens "
            f"[0, {simulated.GRIPPER_MAX_WIDTH}]"
        )
    return arm.gripper, arm.gripper.action


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
            "there is a twin of the FR3 with Franka Hand only"
        )
