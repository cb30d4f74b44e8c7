"""ALOHA on a mobile base under the control loop's rules, without ROS."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vla_ros.action.schedule import make_scheduler
from vla_ros.robot.channels import BASE_CHANNELS, joint_channels
from vla_ros.robot.config import MobileBase
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety import modes
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.supervisor import BaseMeasured, Event, Measured, Supervisor
from vla_ros.types import ActionChunk, BaseCommand, FloatArray

MS = 1_000_000
FILE = Path(__file__).parents[2] / "robot_configs" / "aloha.yaml"
MOST, HARDEST = (0.5, 0.8), (0.5, 1.0)
BASE = MobileBase.model_validate(
    {
        "odometry": {"topic": "/mobile_base/odom", "rate_hz": 20, "max_age_ms": 200},
        "limits": {"velocity": MOST, "acceleration": HARDEST},
        "twist": {"topic": "/mobile_base/cmd_vel"},
    }
)
ALOHA = load_robot(FILE)
ROBOT = ALOHA.model_copy(update={"base": BASE})
KINEMATICS = {
    name: Kinematics(read_urdf(FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
    for name, arm in ROBOT.arms.items()
}
ARMS = tuple(channel for name in ROBOT.arms for channel in joint_channels(name, 6))


class Bench:
    """ALOHA on a base that does what it is sent with a lag. Arms do at once what they are sent.

    odometry: whether it comes; obeys: whether the base does what it is sent; pushed: what somebody else makes
    it do, m/s and rad/s, while it is sent nothing; share: of the way to what it is sent, that it gets to in a
    tick; sent: per tick what the base was sent, None where nothing.
    """

    def __init__(self) -> None:
        scheduler = make_scheduler("newest", gripper_ranges(ROBOT), interpolation="linear")
        self.supervisor = Supervisor(ROBOT, KINEMATICS, scheduler)
        self.period_ns = round(1e9 / ROBOT.control.rate_hz)
        self.now_ns, self.steady_ns = 1_700_000_000_000 * MS, 5_000 * MS
        self.q = {name: np.array(arm.home) for name, arm in ROBOT.arms.items()}
        self.odometry = self.states = self.obeys = True
        self.share = 0.3
        self.too_late = False
        self.velocity = self.pushed = np.zeros(2)
        self.sent: list[BaseCommand | None] = []
        self.events: list[Event] = []
        self._newest: BaseMeasured | None = None
        self._stamp_ns = self.now_ns

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_ns += self.period_ns
            self.steady_ns += self.period_ns
            if self.odometry:
                self._newest = BaseMeasured(self.velocity, self.now_ns)
            if self.states:
                self._stamp_ns = self.now_ns
            measured = {name: Measured(q, self._stamp_ns, 0.02) for name, q in self.q.items()}
            commands = self.supervisor.tick(self.now_ns, measured, self.steady_ns, self._newest)
            command = self.supervisor.base_command
            assert (command is None) == (not commands), "arms and base together"
            if self.too_late and commands:
                self.supervisor.unsent(self.steady_ns)
                commands, command = {}, self.supervisor.base_command
            for name, each in commands.items():
                self.q[name] = each.sent
            wanted = self.pushed if command is None else command.sent
            if self.obeys:
                self.velocity = self.velocity + self.share * (wanted - self.velocity)
            self.sent.append(command)
            self.events += self.supervisor.take_events()

    def request(self, what: str) -> None:
        self.supervisor.request(what, self.now_ns)

    def add(self, vx: float | None = None, wz: float = 0.0, channels: tuple[str, ...] | None = None) -> None:
        """A second in which the arms stay where they are, and the base goes on at a velocity (None: not
        named)."""
        base = () if vx is None else (vx, wz)
        names = (*ARMS, *(BASE_CHANNELS if base else ())) if channels is None else channels
        row = np.concatenate([*self.q.values(), base])[: len(names)]
        due = self.now_ns + np.arange(1, 11, dtype=np.int64) * 100 * MS
        chunk = ActionChunk(names, np.tile(row, (10, 1)), due, self.now_ns)
        self.supervisor.add_chunk(chunk, self.now_ns)

    def start(self) -> None:
        self.tick(10)
        self.request("start")
        self.tick()

    def drive(self, vx: float = 0.4, wz: float = -0.3, seconds: int = 2) -> None:
        """Start, and go on at a velocity."""
        self.start()
        for _ in range(seconds):
            self.add(vx, wz)
            self.tick(40)
        assert self.supervisor.mode == modes.POLICY

    @property
    def newest(self) -> FloatArray:
        """What was sent in the last tick."""
        assert self.sent[-1] is not None
        return self.sent[-1].sent

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if event.kind != "mode"]

    def assert_limits(self) -> None:
        """Each stream from standing, within the limits."""
        before = np.zeros(2)
        for command in self.sent:
            if command is None:
                before = np.zeros(2)
                continue
            assert (np.abs(command.sent) <= MOST).all()
            change = np.abs(command.sent - before) * ROBOT.control.rate_hz
            assert (change <= np.array(HARDEST) * (1 + 1e-9)).all()
            before = command.sent
