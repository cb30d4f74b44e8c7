"""A robot for the invariant: a Supervisor as control_node runs it, and arms, drivers and clocks around it
that may all misbehave. Virtual time; every number comes from one seed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.interpolate import BPoly

from vla_ros.action.schedule import make_scheduler
from vla_ros.benchmarks._invariant_base import Base
from vla_ros.robot.geometry import Geometry
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.modes import ESTOP, IDLE
from vla_ros.safety.supervisor import Measured, Supervisor
from vla_ros.types import Command, FloatArray, Motion

MS = 1_000_000
START_NS = 1_700_000_000_000 * MS
# Share of its distance from the command that an arm covers in one tick.
LAG = 0.25


@dataclass
class Stream:
    """What one arm's motors were asked for from one opening of the command stream to its end, or to a period
    that the loop missed where the driver knows only one position: there the arm stops at once, which nothing
    that is sent could change, and what follows has to begin from rest.

    start: where the arm and the command sent before it were, both candidates; q: one per period (in one that
    the loop missed the driver goes on as it was told before); gripper: width per command, NaN where none was
    sent.
    """

    start: list[FloatArray]
    q: list[FloatArray] = field(default_factory=list)
    gripper: list[float] = field(default_factory=list)


class Robot:
    """See the module. The enemy sets `states`, `obeys`, `shown` and the clocks, and calls `tick`.

    q: {arm: where it is}; states: whether joint states come; obeys: whether the arm follows; shown: {arm:
    what is added to one tick's joint states}; missed: ticks that the loop is about to miss; jitter_ns: how
    late it wakes up; running: whether the ROS clock goes on. base: None where it has none.
    """

    def __init__(self, file: Path, mode: str) -> None:
        self.file = file
        self.config = load_robot(file)
        self.kinematics = {
            name: Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
            for name, arm in self.config.arms.items()
        }
        self.geometry = Geometry(self.config, self.kinematics)
        scheduler = make_scheduler(mode, gripper_ranges(self.config))
        self.supervisor = Supervisor(self.config, self.kinematics, scheduler)
        self.period_ns = round(1e9 / self.config.control.rate_hz)
        self.period_s = self.period_ns / 1e9
        self.now_ns = START_NS
        self.steady_ns = 5_000 * MS
        self._row_ns = self.steady_ns
        base = self.config.base
        self.base = None if base is None else Base(base, self.period_s)
        self.q = {name: np.array(arm.home) for name, arm in self.config.arms.items()}
        self._widths: dict[str, float | None] = {
            name: None if arm.gripper is None else arm.gripper.width[0]
            for name, arm in self.config.arms.items()
        }
        self.states = self.obeys = self.running = True
        self.shown: dict[str, FloatArray] = {}
        self.missed = 0
        self.jitter_ns = 0
        self.streams: dict[str, list[Stream]] = {name: [] for name in self.q}
        self.events: Counter[str] = Counter()
        self.words: Counter[str] = Counter()
        self.sources: Counter[str] = Counter()
        self.complaints: list[str] = []
        self._stamp_ns = self.now_ns
        self._last: dict[str, Command] = {}
        self._desired: dict[str, FloatArray] = {}

    @property
    def silent(self) -> bool:
        """Whether nothing is being sent, so that somebody may move the arms."""
        return not self._last

    def place(self, q: dict[str, FloatArray]) -> None:
        """Put the arms elsewhere, while nothing is being sent."""
        self.q = q

    def clear(self, q: dict[str, FloatArray], margin: float) -> bool:
        """Whether joints keep the tool in the workspace and every distance with `margin` m to spare."""
        box = self.config.safety.workspace
        for name, joints in q.items():
            tool = self.kinematics[name].forward(joints)[:3, 3]
            if np.any(tool < np.array(box.min) + margin) or np.any(tool > np.array(box.max) - margin):
                return False
        return all(
            self.geometry.distance(rule, np.concatenate([q[name] for name in rule.arms]))
            >= rule.distance + margin
            for rule in self.geometry.rules
        )

    def tick(self) -> dict[str, Command]:
        """One tick of the loop, after those that it misses."""
        for index in range(self.missed):
            self._pass_time()
            self._go_on(index + 1)
        self.missed = 0
        self._pass_time()
        if self.states:
            self._stamp_ns = self.now_ns
        measured = {
            name: Measured(q + self.shown.get(name, np.zeros(len(q))), self._stamp_ns, self._widths[name])
            for name, q in self.q.items()
        }
        self.shown = {}
        before, live = self.supervisor.mode, self.supervisor.live
        steady_ns = self._row_ns + self.jitter_ns
        odometry = None if self.base is None else self.base.measure(self.now_ns)
        commands = self.supervisor.tick(self.now_ns, measured, steady_ns, odometry)
        if before == self.supervisor.mode == ESTOP and live and not commands:
            self.complaints.append("an emergency stop that falls silent")
        self._check_silence(before, commands)
        for name, command in commands.items():
            self._take(name, command)
        self._drive(commands)
        self._last = commands
        if not commands:
            self._desired = {}
        self._follow()
        for event in self.supervisor.take_events():
            self.events[event.reason] += 1
        return commands

    def _pass_time(self) -> None:
        self._row_ns += self.period_ns
        self.steady_ns = self._row_ns
        if self.running:
            self.now_ns += self.period_ns
        if self.base is not None:
            self.base.pass_time()

    def _go_on(self, periods: int) -> None:
        """What the drivers do in the n-th period without a new command."""
        for name, command in self._last.items():
            if self.config.arms[name].driver == "joint_trajectory":
                self._desired[name] = at(command.motion, command.motion.after_s[0] + periods * self.period_s)
                self.streams[name][-1].q.append(self._desired[name])
            elif periods == 1:
                self.streams[name].append(Stream([command.sent], [command.sent]))
        self._follow()

    def _take(self, name: str, command: Command) -> None:
        self.words.update(command.interventions)
        self.sources[command.source] += 1
        if name not in self._last:
            streams = self.streams[name]
            ended = [stream.q[-1] for stream in streams[-1:]]
            streams.append(Stream([self.q[name], *ended]))
        stream = self.streams[name][-1]
        stream.q.append(command.sent)
        stream.gripper.append(np.nan if command.gripper is None else command.gripper)
        self._desired[name] = command.sent
        if command.gripper is not None:
            self._widths[name] = command.gripper
        motion = command.motion
        if not all(np.isfinite(part).all() for part in (motion.q, motion.v, motion.a, motion.after_s)):
            self.complaints.append(f"{name}: a number in a command is not finite")
        low, high = np.array(self.config.arms[name].limits.position).T
        low, high = np.minimum(low, stream.q[0]), np.maximum(high, stream.q[0])
        if np.any(motion.q < low - 1e-9) or np.any(motion.q > high + 1e-9):
            self.complaints.append(f"{name}: a way to rest leaves the position limits")
        if np.any(motion.v[-1] != 0) or np.any(motion.a[-1] != 0):
            self.complaints.append(f"{name}: a way to rest does not end at rest")

    def _drive(self, commands: dict[str, Command]) -> None:
        command = self.supervisor.base_command
        if (command is None) != (self.base is None or not commands):
            self.complaints.append("a base's command without the arms', or the other way round")
        if self.base is not None:
            self.base.take(command)
        if command is not None:
            self.words.update(f"base/{word}" for word in command.interventions)

    def _follow(self) -> None:
        if self.obeys:
            for name, desired in self._desired.items():
                self.q[name] = self.q[name] + LAG * (desired - self.q[name])

    def _check_silence(self, before: str, commands: dict[str, Command]) -> None:
        mode = self.supervisor.mode
        if commands and before == IDLE and mode == IDLE:
            self.complaints.append("a command while idle")
        for name, command in commands.items():
            last = self._last.get(name)
            if command.source in ("hold", "estop") and last is not None and last.source in ("hold", "estop"):
                rested = not last.motion.v.any() and not last.motion.a.any()
                if rested and np.any(command.sent != last.sent):
                    self.complaints.append(f"{name}: motion after a hold")


def at(motion: Motion, time_s: float) -> FloatArray:
    """Where quintic interpolation of a motion is, [J]; it rests at its last row."""
    if len(motion.after_s) == 1 or time_s >= motion.after_s[-1]:
        return motion.q[-1]
    row = int(np.searchsorted(motion.after_s, time_s, side="right")) - 1
    ends = [[motion.q[k], motion.v[k], motion.a[k]] for k in (row, row + 1)]
    return np.asarray(BPoly.from_derivatives(motion.after_s[row : row + 2], ends)(time_s))
