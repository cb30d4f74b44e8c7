"""Grippers that are sent widths in a stream, on the vendors' robots and with their drivers' messages: what is
sent begins where the gripper is and keeps its speed, and no arm is left without braking for its gripper."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest

from tests.safety.plant import FILE, MS
from vla_ros.action.schedule import make_scheduler
from vla_ros.errors import Refused
from vla_ros.robot.channels import gripper_channel, joint_channels
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety import modes
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.supervisor import Measured, Supervisor
from vla_ros.types import ActionChunk, FloatArray

ROBOTS = ("agilex_piper", "agilex_cobot", "widowx")


class Bench:
    """Ticks a supervisor and hands its commands to the drivers as control_node does; the arms and grippers do
    at once what they are sent.

    sent: per tick the arms' joints [arms * J] that were sent, None where nothing was; widths: likewise the
    first arm's width, wanted: what it is on the way to. known: whether grippers are measured; too_late:
    whether what is made is not sent.
    """

    def __init__(self, name: str) -> None:
        file = FILE.with_name(f"{name}.yaml")
        self.robot = load_robot(file)
        self.kinematics = {
            name: Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
            for name, arm in self.robot.arms.items()
        }
        scheduler = make_scheduler("newest", gripper_ranges(self.robot), interpolation="linear")
        self.supervisor = Supervisor(self.robot, self.kinematics, scheduler)
        self.drivers = {name: driver_for(arm) for name, arm in self.robot.arms.items()}
        self.period_ns = round(1e9 / self.robot.control.rate_hz)
        self.now_ns, self.steady_ns = 1_700_000_000_000 * MS, 5_000 * MS
        self.q = {name: np.array(arm.home) for name, arm in self.robot.arms.items()}
        self.width = dict.fromkeys(self.q, 0.02)
        self.known = self.states = True
        self.too_late = False
        self.refused = 0
        self.sent: list[FloatArray | None] = []
        self.widths: list[float | None] = []
        self.wanted: list[float | None] = []
        self._measured: dict[str, Measured] = {}

    @property
    def step(self) -> float:
        """How far a width may go in a tick, m."""
        gripper = next(iter(self.robot.arms.values())).gripper
        assert gripper is not None
        return gripper.speed * self.period_ns / 1e9 + 1e-12

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.now_ns += self.period_ns
            self.steady_ns += self.period_ns
            if self.states:
                self._measured = {
                    name: Measured(q, self.now_ns, self.width[name] if self.known else None)
                    for name, q in self.q.items()
                }
            commands = self.supervisor.tick(self.now_ns, self._measured, self.steady_ns)
            drivers = {name: copy(self.drivers[name]) for name in commands}
            try:
                for name, command in commands.items():
                    pose = self.kinematics[name].forward(command.sent)
                    drivers[name].message(command.motion, pose, command.gripper, command.stamp_ns)
            except Refused as refused:
                self.refused += 1
                self.supervisor.unsent(self.steady_ns)
                if not self.supervisor.at_rest:
                    self.supervisor.lose(refused.reason, str(refused), self.now_ns)
                commands = {}
            if self.too_late:
                self.supervisor.unsent(self.steady_ns)
                commands = {}
            self.drivers |= {name: drivers[name] for name in commands}
            for name, command in commands.items():
                self.q[name] = command.sent
                if command.gripper is not None:
                    self.width[name] = command.gripper
            self.sent.append(np.concatenate([each.sent for each in commands.values()]) if commands else None)
            self.widths.append(next((each.gripper for each in commands.values()), None))
            self.wanted.append(next((each.gripper_wanted for each in commands.values()), None))

    def request(self, what: str) -> None:
        self.supervisor.request(what, self.now_ns)

    def wants(self, swing: float = 0.0, width: float = 0.04) -> None:
        """A chunk: each arm's first joint turns by `swing` rad within 1 s, its gripper goes to `width`."""
        columns: list[str] = []
        targets = []
        for name, q in self.q.items():
            columns += [*joint_channels(name, len(q)), gripper_channel(name)]
            turned = q + np.linspace(0.1, 1.0, 10)[:, None] * swing * np.eye(len(q))[0]
            targets.append(np.column_stack([turned, np.full(10, width)]))
        due = self.now_ns + np.arange(1, 11, dtype=np.int64) * 100 * MS
        chunk = ActionChunk(tuple(columns), np.column_stack(targets), due, self.now_ns)
        self.supervisor.add_chunk(chunk, self.now_ns)

    def follow(self, swing: float = 0.0, width: float = 0.04, ticks: int = 30) -> None:
        self.tick(10)
        self.request("start")
        self.wants(swing, width)
        self.tick(ticks)
        assert self.supervisor.mode == modes.POLICY


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize("requests", [["reset"], ["estop", "reset"]])
def test_a_reset_in_motion_lets_the_arms_brake(name: str, requests: list[str]) -> None:
    braking = {}
    for asked in (["stop"], requests):
        bench = Bench(name)
        bench.follow(0.8)
        before = bench.sent[-1]
        assert before is not None and bench.sent[-2] is not None
        assert np.abs(before - bench.sent[-2]).max() * bench.robot.control.rate_hz > 0.4
        for what in asked:
            bench.request(what)
            bench.tick(3)
        bench.tick(100)
        assert bench.refused == 0
        assert bench.supervisor.mode == modes.IDLE
        braking[asked[-1]] = [sent for sent in bench.sent[10 + 30 :] if sent is not None]
    # The same way to rest, whatever was asked for, message for message.
    ways = [way[: min(map(len, braking.values()))] for way in braking.values()]
    assert len(ways[0]) > 20
    assert np.array_equal(*ways)
    assert np.array_equal(ways[0][-1], ways[0][-2])


@pytest.mark.parametrize("name", ROBOTS)
def test_widths_that_were_not_sent_are_not_skipped(name: str) -> None:
    bench = Bench(name)
    bench.follow(width=0.044, ticks=5)
    before = bench.widths[-1]
    assert before is not None and 0.02 < before < 0.044
    # Grippers lag behind.
    bench.width = {name: width - 0.005 for name, width in bench.width.items()}
    bench.too_late = True
    bench.tick(5)
    assert bench.widths[-5:] == [None] * 5
    bench.too_late = False
    bench.tick()
    after = bench.widths[-1]
    assert after is not None
    assert 0.0 < after - before <= bench.step


@pytest.mark.parametrize("name", ROBOTS)
def test_after_a_hold_what_was_not_sent_takes_no_width_back(name: str) -> None:
    bench = Bench(name)
    bench.follow(width=0.044, ticks=5)
    before = bench.widths[-1]
    bench.request("stop")
    bench.tick()
    bench.too_late = True
    bench.tick()
    bench.too_late = False
    bench.tick()
    assert bench.widths[-1] == before


@pytest.mark.parametrize("name", ROBOTS)
def test_going_home_begins_where_the_gripper_is_by_then(name: str) -> None:
    bench = Bench(name)
    bench.follow(0.1)
    assert bench.widths[-1] == pytest.approx(0.04)
    bench.request("stop")
    bench.tick(100)
    assert bench.supervisor.mode == modes.IDLE
    # As enabling a Piper does.
    bench.width = dict.fromkeys(bench.width, 0.01)
    bench.tick(10)
    silent = len(bench.widths)
    bench.request("home")
    bench.tick(20)
    assert bench.widths[silent:] == [0.01] * 20
    assert bench.wanted[silent:] == [None] * 20, "nobody wants it elsewhere any more"


@pytest.mark.parametrize("name", ROBOTS)
def test_a_driver_that_comes_back_is_sent_the_width_its_gripper_has_by_then(name: str) -> None:
    bench = Bench(name)
    bench.follow(0.8)
    bench.states = False
    bench.tick(100 * MS // bench.period_ns - 1)
    assert bench.supervisor.mode == modes.POLICY, "the joint states are just not too old yet"
    for tick in range(150):
        bench.supervisor.lose("driver_gone", "as told", bench.now_ns)
        bench.tick()
        if not bench.supervisor.at_rest:
            assert bench.refused == 0, "an arm that moves brakes, whether its driver listens or not"
        if tick == 140:
            bench.width = dict.fromkeys(bench.width, 0.01)
    assert bench.supervisor.at_rest
    gone = len(bench.widths)
    bench.tick(5)
    assert {
        width for width, sent in zip(bench.widths[gone:], bench.sent[gone:], strict=True) if sent is not None
    } <= {None}
    bench.states = True
    bench.tick(30)
    assert bench.widths[-1] == 0.01
    bench.wants()
    bench.tick(30)
    assert bench.supervisor.mode == modes.POLICY
    widths = [width for width in bench.widths[gone:] if width is not None]
    assert widths[0] == 0.01
    assert np.abs(np.diff(widths)).max() <= bench.step
    assert widths[-1] > 0.02


@pytest.mark.parametrize("name", ROBOTS)
def test_a_gripper_that_is_found_late_is_begun_with_when_it_is_found(name: str) -> None:
    bench = Bench(name)
    bench.known = False
    bench.tick(10)
    bench.request("start")
    bench.wants()
    bench.tick(10)
    assert bench.widths == [None] * 20
    bench.known = True
    bench.tick(10)
    bench.wants()
    bench.tick(30)
    assert bench.supervisor.mode == modes.POLICY
    widths = [width for width in bench.widths if width is not None]
    assert abs(widths[0] - 0.02) <= bench.step
    assert widths[-1] == pytest.approx(0.04)
    assert np.abs(np.diff(widths)).max() <= bench.step
