"""Whatever can come in through a supervisor's doors: hostile chunks, requests at random, clocks that jump,
joint states that lie, a loop that misses ticks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.action.schedule import MODES
from vla_ros.benchmarks._invariant_base import Base
from vla_ros.benchmarks._invariant_robot import MS, Robot
from vla_ros.errors import Refused
from vla_ros.robot.channels import BASE_CHANNELS, gripper_channel, joint_channels, tool_channels
from vla_ros.safety.modes import ESTOP, IDLE
from vla_ros.types import ActionChunk, FloatArray

# How often chunks are of each kind: see `_joint_rows` (0 to 3) and `_tool_rows` (4 to 6); in 7 links collide.
KINDS = (0.12, 0.10, 0.03, 0.20, 0.14, 0.03, 0.20, 0.18)
# So many poses in which links collide are looked for, out of so many around home.
COLLISIONS, LOOKED_AT = 8, 1500
NOT_NUMBERS = (np.nan, np.inf, -np.inf, 1e300)
# How often something happens to a base, of all that happens.
TO_THE_BASE = 0.1


class Enemy:
    """Attacks one robot. refused: {reason: how often something was refused}."""

    def __init__(self, robot: Robot, rng: np.random.Generator) -> None:
        self.refused: Counter[str] = Counter()
        self._robot = robot
        self._rng = rng
        self._home = {name: q.copy() for name, q in robot.q.items()}
        self._leader: dict[str, FloatArray] = {}
        self._colliding = _collisions(robot.file)
        self._leads_for = 0
        self._stands_for = 0

    def act(self, tick: int) -> None:
        """What happens before a tick."""
        robot, rng = self._robot, self._rng
        # Small enough that a tick is either late or missed; what lies between is tested at 1 kHz.
        robot.jitter_ns = round(rng.uniform(0.0, 0.05) * robot.period_ns)
        self._stands_for -= 1
        robot.running = self._stands_for <= 0
        if rng.random() < 0.005:
            robot.missed = int(rng.choice([1, 1, 2, 3, 10]))
        try:
            if self._leads_for > 0:
                self._leads_for -= 1
                self._lead()
            elif rng.random() < 0.1:
                self._attack()
            if robot.supervisor.mode in (IDLE, ESTOP) and tick % 40 == 0:
                self._revive()
        except Refused as refused:
            self.refused[refused.reason] += 1

    def _attack(self) -> None:
        robot, rng = self._robot, self._rng
        if robot.base is not None and rng.random() < TO_THE_BASE:
            self._attack_base(robot.base)
            return
        act = rng.integers(0, 1000)
        if act < 850:
            chunk = self._chunk()
            robot.supervisor.add_chunk(chunk, robot.now_ns)
        elif act < 870:
            self._leads_for = int(rng.integers(20, 200))
        elif act < 900:
            what = str(rng.choice(["stop", "reset", "home", "home", "estop", "start"]))
            robot.supervisor.request(what, robot.now_ns)
        elif act < 915:
            robot.states = not robot.states
        elif act < 926:
            robot.obeys = not robot.obeys
        elif act < 940:
            name = str(rng.choice(list(robot.q)))
            robot.shown = {name: self._one_joint(name, rng.choice([0.04, 0.3, 1.0, -1.0, 6.0]))}
        elif act < 955:
            robot.missed = int(rng.choice([50, 700]))
        elif act < 970:
            robot.now_ns += int(rng.choice([10_000, -10_000, 90, -90, 300, -300, 3_600_000])) * MS
        elif act < 975:
            self._stands_for = int(rng.integers(5, 80))
        elif act < 985:
            robot.supervisor.lose(str(rng.choice(["policy_gone", "driver_gone"])), "as told", robot.now_ns)
        else:
            name = str(rng.choice(list(robot.q)))
            robot.q[name] = robot.q[name] + rng.normal(0, 0.002, len(robot.q[name]))

    def _attack_base(self, base: Base) -> None:
        rng = self._rng
        act = rng.choice(4, p=(0.2, 0.5, 0.15, 0.15))
        if act == 0:
            base.blind = int(rng.integers(2, 60))
        elif act == 1:
            base.limp = int(rng.integers(50, 300))
        elif act == 2:
            base.shown = rng.uniform(-50.0, 50.0, 2)
        else:
            base.velocity = base.velocity + rng.normal(0, 0.3, 2)

    def _revive(self) -> None:
        robot = self._robot
        robot.states = robot.obeys = True
        if robot.supervisor.mode == ESTOP:
            robot.supervisor.request("reset", robot.now_ns)
            return
        if robot.silent and self._rng.random() < 0.5:
            self._rearrange()
        robot.supervisor.request("start", robot.now_ns)

    def _limits(self, name: str) -> tuple[FloatArray, FloatArray]:
        low, high = np.array(self._robot.config.arms[name].limits.position).T
        return low, high

    def _rearrange(self) -> None:
        """Put the arms somewhere else, as a person between two episodes does."""
        for _ in range(20):
            q = {name: home + self._rng.normal(0, 0.2, len(home)) for name, home in self._home.items()}
            if self._robot.clear(q, 0.03):
                self._robot.place(q)
                return

    def _one_joint(self, name: str, jump: float) -> FloatArray:
        shown = np.zeros(len(self._robot.q[name]))
        shown[self._rng.integers(0, len(shown))] = jump
        return shown

    def _here(self, name: str) -> FloatArray:
        """Where a chunk has to begin to be taken up."""
        robot = self._robot
        return robot.streams[name][-1].q[-1] if not robot.silent else robot.q[name]

    def _lead(self) -> None:
        """Leader arms: absolute joint targets at every tick, which jump as far as is taken up."""
        robot, rng = self._robot, self._rng
        most = robot.config.safety.first_command_joint
        columns: list[str] = []
        parts = []
        for name, arm in robot.config.arms.items():
            here = self._here(name)
            if rng.random() < 0.1 or name not in self._leader:
                self._leader[name] = rng.uniform(-most, most, len(here))
            columns += joint_channels(name, len(arm.joints))
            parts.append(np.tile(here + self._leader[name], (3, 1)))
        self._add(tuple(columns), np.column_stack(parts), 20)

    def _chunk(self) -> ActionChunk:
        """Begins near enough to be taken up more often than not, then goes anywhere."""
        robot, rng = self._robot, self._rng
        kind = int(rng.choice(8, p=KINDS))
        rows = int(rng.integers(2, 30))
        columns: list[str] = []
        parts: list[FloatArray] = []
        arms = [name for name in robot.q if rng.random() < 0.9] or list(robot.q)
        colliding = self._colliding[rng.integers(0, len(self._colliding))] if self._colliding else None
        for name in arms:
            joints = len(robot.q[name])
            if kind == 7 and colliding is not None:
                share = np.minimum(np.linspace(0, 1.5, rows), 1.0)[:, None]
                columns += joint_channels(name, joints)
                parts.append(self._here(name) + share * (colliding[name] - self._here(name)))
            elif kind < 4:
                columns += joint_channels(name, joints)
                parts.append(self._joint_rows(name, rows, kind))
            else:
                columns += tool_channels(name)
                parts.append(self._tool_rows(name, rows, kind))
            gripper = robot.config.arms[name].gripper
            if gripper is not None and rng.random() < 0.8:
                columns.append(gripper_channel(name))
                parts.append(rng.choice([*gripper.width, -1.0, 0.03, 5.0, np.nan], (rows, 1)))
        if robot.base is not None and rng.random() < 0.8:
            columns += BASE_CHANNELS
            parts.append(self._base_rows(rows))
        if rng.random() < 0.02:
            columns, parts = columns[:-1], [np.column_stack(parts)[:, :-1]]
        dt_ms = int(rng.choice([5, 10, 20, 50, 100, 300]))
        return self._made(tuple(columns), np.column_stack(parts), dt_ms)

    def _joint_rows(self, name: str, rows: int, kind: int) -> FloatArray:
        rng = self._rng
        low, high = self._limits(name)
        here = self._here(name)
        if kind == 0:
            values = rng.uniform(low - 3, high + 3, (rows, len(here)))
        elif kind == 1:
            values = np.where(rng.random((rows, len(here))) < 0.5, low - 9, high + 9)
        elif kind == 2:
            values = np.full((rows, len(here)), rng.choice(NOT_NUMBERS))
        else:
            # A smooth way to anywhere, as a policy would go.
            share = np.linspace(0, 1, rows)[:, None]
            values = here + share * (rng.uniform(low, high) - here)
        if rng.random() < 0.8:
            values[: int(rng.integers(1, 3))] = here
        return values

    def _tool_rows(self, name: str, rows: int, kind: int) -> FloatArray:
        rng = self._rng
        pose = self._robot.kinematics[name].forward(self._here(name))
        values = np.tile(np.append(pose[:3, 3], matrix_to_quaternion(pose[:3, :3])), (rows, 1))
        free = slice(int(rng.integers(1, 3)), None)
        if kind == 4:
            values[free, :3] += rng.choice([-2.0, -0.3, 0.0, 0.3, 2.0], values[free, :3].shape)
            values[free, 3:] = rng.normal(size=4)
        elif kind == 5:
            values[free] = rng.choice(NOT_NUMBERS)
        else:
            share = np.linspace(0, 1, rows)[:, None]
            values[:, :3] += share * rng.uniform([-0.6, -0.9, -0.7], [0.6, 0.9, 0.4])
        return values

    def _base_rows(self, rows: int) -> FloatArray:
        """Velocities: within limits and beyond, going on or jumping about, and now and then no number."""
        rng = self._rng
        values = rng.uniform(-1.0, 1.0, (rows, 2)) * rng.choice([0.3, 1.0, 30.0])
        if rng.random() < 0.7:
            values[:] = values[0]
        if rng.random() < 0.03:
            values[rng.integers(0, rows)] = rng.choice(NOT_NUMBERS)
        return values

    def _made(self, channels: tuple[str, ...], targets: FloatArray, dt_ms: int) -> ActionChunk:
        rng = self._rng
        # Most are as old as a chunk is; some come in the wrong order, from the past or from the future.
        age_ms = int(rng.choice([0, 20, 60, 150, 400, 3000, -2000], p=[0.5, 0.2, 0.1, 0.1, 0.06, 0.02, 0.02]))
        stamp = self._robot.now_ns - age_ms * MS
        due = stamp + np.arange(1, len(targets) + 1, dtype=np.int64) * dt_ms * MS
        return ActionChunk(channels, targets, due, stamp)

    def _add(self, channels: tuple[str, ...], targets: FloatArray, dt_ms: int) -> None:
        now = self._robot.now_ns
        due = now + np.arange(1, len(targets) + 1, dtype=np.int64) * dt_ms * MS
        self._robot.supervisor.add_chunk(ActionChunk(channels, targets, due, now), now)


@cache
def _collisions(file: Path) -> list[dict[str, FloatArray]]:
    """Poses with the tools inside the workspace and links in one another or in a forbidden box."""
    return list(islice(_colliding(Robot(file, "newest"), np.random.default_rng(0)), COLLISIONS))


def _colliding(robot: Robot, rng: np.random.Generator) -> Iterator[dict[str, FloatArray]]:
    box = robot.config.safety.workspace
    # Around home, and, where that is too far from everything, anywhere.
    for look in range(5 * LOOKED_AT if robot.geometry.rules else 0):
        q = {}
        for name, home in robot.q.items():
            low, high = np.array(robot.config.arms[name].limits.position).T
            near = np.clip(home + rng.normal(0, 0.6, len(home)), low, high)
            q[name] = near if look < LOOKED_AT else rng.uniform(low, high)
        tools = [robot.kinematics[name].forward(joints)[:3, 3] for name, joints in q.items()]
        if all(np.all((tool > box.min) & (tool < box.max)) for tool in tools) and any(
            robot.geometry.distance(rule, np.concatenate([q[name] for name in rule.arms])) < 0
            for rule in robot.geometry.rules
        ):
            yield q


def attacked(file: Path, ticks: int, seed: int) -> tuple[Robot, Enemy]:
    """A robot after so many ticks under attack; the scheduler's mode goes with the seed."""
    robot = Robot(file, MODES[seed % len(MODES)])
    enemy = Enemy(robot, np.random.default_rng(seed))
    with np.errstate(invalid="ignore", over="ignore"):
        for tick in range(ticks):
            enemy.act(tick)
            robot.tick()
    return robot, enemy
