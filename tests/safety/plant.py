"""A robot for tests of the control rules: real YAML, real kinematics, a first-order arm, and a clock."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.action.schedule import Scheduler, make_scheduler
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.supervisor import Event, Measured, Supervisor
from vla_ros.types import ActionChunk, Command

MS = 1_000_000
FILE = Path(__file__).parents[2] / "robot_configs" / "franka.yaml"
TOOL = (*tool_channels("arm"), gripper_channel("arm"))
JOINTS = (*joint_channels("arm", 7), gripper_channel("arm"))


class Bench:
    """Ticks a Supervisor against a plant that follows its commands with a 40 ms lag. `shown` is added to
    the joint states, rad [J]."""

    def __init__(self, mode: str = "newest", follows: bool = True, **safety: object) -> None:
        """safety: keys of the YAML's safety block to be replaced."""
        robot = load_robot(FILE)
        self.robot: Robot = robot.model_copy(update={"safety": robot.safety.model_copy(update=safety)})
        arm = self.robot.arms["arm"]
        self.kinematics = Kinematics(read_urdf(FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
        self._mode = mode
        self.rebuild(self.robot)
        self.period_ns = round(1e9 / self.robot.control.rate_hz)
        self.now_ns = 1_700_000_000_000_000_000
        self.steady_ns = 5_000_000_000
        self.q = np.array(arm.home)
        self.shown = np.zeros(len(self.q))
        self.follows = follows
        self.states = True
        self.states_stamp_ns = self.now_ns
        self.sent: list[np.ndarray] = []
        self.streams: list[tuple[list[np.ndarray], list[np.ndarray]]] = []
        self.commands: list[Command | None] = []
        self.events: list[Event] = []

    def rebuild(self, robot: Robot) -> None:
        """A new supervisor, for a changed configuration."""
        self.robot = robot
        scheduler: Scheduler = make_scheduler(self._mode, gripper_ranges(robot), interpolation="linear")
        self.supervisor = Supervisor(robot, {"arm": self.kinematics}, scheduler)

    def tick(self, count: int = 1) -> Command | None:
        """`count` periods; returns the last command."""
        command = None
        for _ in range(count):
            self.now_ns += self.period_ns
            self.steady_ns += self.period_ns
            if self.states:
                self.states_stamp_ns = self.now_ns
            measured = {"arm": Measured(self.q + self.shown, self.states_stamp_ns)}
            # Between two streams the driver holds; they may follow each other without a tick of silence.
            begins = not self.supervisor.live
            command = self.supervisor.tick(self.now_ns, measured, self.steady_ns).get("arm")
            self.commands.append(command)
            self.events += self.supervisor.take_events()
            if command is not None:
                if begins:
                    # The driver rests where the arm is, or at what was sent last.
                    self.streams.append(([self.q, *self.sent[-1:]], []))
                self.sent.append(command.sent)
                self.streams[-1][1].append(command.sent)
                if self.follows:
                    self.q = self.q + 0.25 * (command.sent - self.q)
        return command

    def request(self, what: str) -> str:
        return self.supervisor.request(what, self.now_ns)

    def start(self) -> None:
        self.tick()
        self.request("start")

    def pose(self) -> np.ndarray:
        """The tool pose [7] at the measured joints."""
        T = self.kinematics.forward(self.q)
        return np.concatenate([T[:3, 3], matrix_to_quaternion(T[:3, :3])])

    def tool_chunk(self, shift=(0.0, 0.0, 0.0), rows: int = 8, dt_ms: int = 100, width=0.08) -> ActionChunk:
        """From the measured pose to `shift` (m) away, reached at the last row."""
        start = self.pose()
        targets = np.tile(np.append(start, width), (rows, 1))
        targets[:, :3] += np.linspace(0, 1, rows + 1)[1:, None] * np.asarray(shift)
        return self.chunk(TOOL, targets, dt_ms)

    def joint_chunk(self, targets: np.ndarray, dt_ms: int = 100) -> ActionChunk:
        return self.chunk(JOINTS, np.column_stack([targets, np.full(len(targets), 0.08)]), dt_ms)

    def chunk(self, channels, targets: np.ndarray, dt_ms: int = 100) -> ActionChunk:
        due = self.now_ns + np.arange(1, len(targets) + 1) * dt_ms * MS
        return ActionChunk(channels, targets, due.astype(np.int64), self.now_ns)

    def add(self, chunk: ActionChunk) -> None:
        self.supervisor.add_chunk(chunk, self.now_ns)

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events]

    def assert_limits(self) -> None:
        """No stream of commands so far breaks a joint limit, by the finite differences of what was sent and
        from one of the places where the driver may have rested before."""
        for rests, sent in self.streams:
            broken = [self._broken(np.array([rest, rest, *sent])) for rest in rests]
            assert "" in broken, broken

    def _broken(self, sent: np.ndarray) -> str:
        limits = self.robot.arms["arm"].limits
        dt = self.period_ns / 1e9
        low, high = np.array(limits.position).T
        v = np.diff(sent, axis=0) / dt
        a = np.diff(v, axis=0) / dt
        excess = {
            "position": np.max(np.maximum(low - sent, sent - high)),
            "velocity": np.max(np.abs(v) - limits.velocity) - 1e-9,
            "acceleration": np.max(np.abs(a) - limits.acceleration) - 1e-6,
        }
        return ", ".join(f"{name} by {value}" for name, value in excess.items() if value > 0)
