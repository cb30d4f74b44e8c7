"""The twin of a robot: simulated arms, and the base they stand on, behind the robot YAML's names, controllers
and grippers.

No ROS and no clocks in here: the caller passes the time of every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

from numpy.typing import ArrayLike

from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.sim.arm import SimArm, make_controllers
from vla_ros.sim.arms_world import ArmsWorld
from vla_ros.sim.base import SimBase
from vla_ros.sim.camera_process import SnapshotFormat
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.sim.gripper import SimGripper
from vla_ros.types import FloatArray

# At least as many steps a second, however seldom the drivers publish.
LEAST_RATE_HZ = 500.0


class Twin(Protocol):
    """What sim_node steps. Single-threaded.

    arms: in the order of the robot YAML; base: what they stand on, if it drives. step_ns: the time that one
    step takes. task_text: the task's state, as it is published.
    """

    arms: tuple[SimArm, ...]
    base: SimBase | None
    step_ns: int
    task_text: str

    def reset(self, seed: int) -> str:
        """Begin anew with the scene of `seed`, commands forgotten; returns what the scene is, in words."""
        ...

    def note_command(self, now_ns: int) -> None:
        """A command was obeyed."""
        ...

    def step(self, now_ns: int) -> None:
        """One physics step, to the state of `now_ns`."""
        ...

    def snapshot(self, stamp_ns: int) -> bytes:
        """What the cameras need of the present state."""
        ...


def step_ns(robot: Robot) -> int:
    """As many steps a second as the fastest driver publishes states, so that each state is a new one."""
    rates = [arm.states.rate_hz for arm in robot.arms.values()]
    return round(SECOND_NS / max(*rates, LEAST_RATE_HZ))


class ArmsTwin:
    """The arms of any robot YAML, over an empty table or on a base that drives; see Twin. urdfs: {arm: text}.

    Raises ConfigError where MuJoCo cannot use a URDF.
    """

    def __init__(self, robot: Robot, urdfs: Mapping[str, str]) -> None:
        self.step_ns = step_ns(robot)
        self.world = ArmsWorld(robot, urdfs, self.step_ns / SECOND_NS)
        self.base = self.world.base
        self._snapshots = SnapshotFormat(self.world)
        self.task_text = "none"
        arms = []
        for name, arm in robot.arms.items():
            kinematics = Kinematics(urdfs[name], arm.joints, arm.base_frame, arm.tool_frame)
            gripper = None
            if arm.gripper is not None:
                width = partial(self.world.gripper_width, name)
                gripper = SimGripper(arm.gripper, width, partial(self._move_gripper, name))
            body = _ArmOfWorld(self.world, name)
            arms.append(SimArm(name, arm, kinematics, body, make_controllers(arm, kinematics), gripper))
        self.arms = tuple(arms)

    def reset(self, seed: int) -> str:
        """See Twin. There is one scene only."""
        self.world.reset()
        for arm in self.arms:
            arm.controllers.reset(arm.config.home)
            if arm.gripper is not None:
                arm.gripper.forget()
        return "arms at home" if self.base is None else "arms at home, base where it started"

    def note_command(self, now_ns: int) -> None:
        """See Twin: nothing begins."""

    def step(self, now_ns: int) -> None:
        """See Twin."""
        for arm in self.arms:
            arm.body.command(arm.controllers.reference(now_ns))
        self.world.step()

    def snapshot(self, stamp_ns: int) -> bytes:
        """See Twin."""
        return self._snapshots.pack(stamp_ns)

    def _move_gripper(self, name: str, width: float, effort: float) -> None:
        self.world.command_gripper(name, width)


class _ArmOfWorld:
    """See `vla_ros.sim.arm.Body`."""

    def __init__(self, world: ArmsWorld, name: str) -> None:
        self._world, self._name = world, name

    def positions(self) -> FloatArray:
        return self._world.joint_positions(self._name)

    def velocities(self) -> FloatArray:
        return self._world.joint_velocities(self._name)

    def efforts(self) -> FloatArray:
        return self._world.joint_efforts(self._name)

    def command(self, positions: ArrayLike) -> None:
        self._world.command_joints(self._name, positions)
