"""What a robot tells, as far as it can be believed: where its arms are, how late they act, how its base
moves."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

import numpy as np

from vla_ros.action.latency import ActuationLatency
from vla_ros.robot.config import Robot
from vla_ros.safety.base import BaseWatch
from vla_ros.safety.following import FollowWatch
from vla_ros.safety.joints import JointWatch, Measured
from vla_ros.safety.watch import MS, age_text, fresh
from vla_ros.types import FloatArray


class Senses:
    """The joint states of all arms and, measured with them, the delay from command to motion; the odometry.

    measured: {arm: the newest joint states that are believed}, without arms that have none. base: what the
    odometry says, None where the robot has no base.
    """

    def __init__(self, robot: Robot) -> None:
        self.measured: dict[str, Measured] = {}
        self._robot = robot
        self._joints = {name: JointWatch(arm) for name, arm in robot.arms.items()}
        self._following = {name: FollowWatch(arm.joints) for name, arm in robot.arms.items()}
        self._latency = {
            name: ActuationLatency(round(arm.actuation_latency_ms * MS)) for name, arm in robot.arms.items()
        }
        self._turns = cycle(self._latency)
        self.base = None if robot.base is None else BaseWatch(robot.base)

    @property
    def latencies_ns(self) -> Mapping[str, int]:
        """{arm: from a command's stamp to the joints doing it}."""
        return {name: latency.estimate_ns for name, latency in self._latency.items()}

    @property
    def ahead_ns(self) -> int:
        """How far ahead targets are to be looked up. Arms act at the same moment only where their latencies
        agree; the slowest one decides."""
        return max(latency.estimate_ns for latency in self._latency.values())

    @property
    def settled(self) -> bool:
        """Whether a motion may begin from where the arms say they are."""
        return all(joints.settled and not joints.jumping for joints in self._joints.values())

    def take(self, measured: Mapping[str, Measured], live: bool) -> list[str]:
        """Take this tick's {arm: newest joint states}; returns what is wrong with them, for people. live:
        whether the arms are being commanded."""
        wrong = []
        for name, joints in self._joints.items():
            before = joints.newest
            text = joints.take(measured.get(name), live)
            if text:
                wrong.append(f"{name}: {text}")
            if joints.newest is not None and joints.newest is not before:
                self.measured[name] = joints.newest
        # One arm in turn at each tick: it costs too much to be done for all at once, and changes slowly.
        name = next(self._turns)
        if live and name in self.measured:
            self._latency[name].measured(self.measured[name].stamp_ns, self.measured[name].q)
        return wrong

    def sent(self, name: str, stamp_ns: int, q: FloatArray) -> None:
        """Joints [J] sent to arm `name` with a command's stamp."""
        self._latency[name].sent(stamp_ns, q)
        if name in self.measured:
            self._following[name].look(stamp_ns, q, self.measured[name])

    def unsent(self) -> None:
        """A tick's commands were not sent. They tell nothing of latencies; but who does not follow is not
        excused by single ticks in which he was not sent on."""
        for latency in self._latency.values():
            latency.clear_history()

    def interrupt(self) -> None:
        """The stream of commands broke off: what was sent no longer tells what is measured."""
        self.unsent()
        for following in self._following.values():
            following.forget()
        if self.base is not None:
            self.base.forget()

    def forget(self) -> None:
        """Believe the next joint states whatever they are: the clock or the world was set."""
        self.interrupt()
        for joints in self._joints.values():
            joints.forget()

    def newer_than(self, time_ns: int) -> bool:
        """Whether every arm has said where it is since `time_ns`, and the base how it moves. (While simulated
        time stands still, nothing else is old: they may have been moved meanwhile.)"""
        stamps = [measured.stamp_ns for measured in self.measured.values()]
        if self.base is not None and self.base.stamp_ns is not None:
            stamps.append(self.base.stamp_ns)
        return all(stamp > time_ns for stamp in stamps)

    def stale(self, now_ns: int) -> tuple[str, str]:
        """What of all that is measured cannot be acted on: (the word for it, why, for people), of the first;
        ("", "") if all can."""
        text = self.arms_stale(now_ns)
        if text:
            return "joint_states", text
        text = "" if self.base is None else self.base.stale(now_ns)
        return ("odometry", text) if text else ("", "")

    def arms_stale(self, now_ns: int) -> str:
        """The first arm whose joint states cannot be acted on, and why, for people; "" if all can."""
        for name in self._joints:
            newest = self.measured.get(name)
            stamp = None if newest is None else newest.stamp_ns
            if not fresh(stamp, now_ns, self._robot.safety.joint_states_timeout_ms):
                topic = self._robot.arms[name].states.topic
                return f"{name}: {age_text('joint states', stamp, now_ns)}; is {topic} being published?"
        return ""

    def arm_apart(self, sent: Mapping[str, FloatArray]) -> tuple[str, str]:
        """The arm with the joint that is measured furthest from what is sent, {arm: [J] rad}, and how far,
        for people; ("", "") where none is too far to be following."""
        furthest, arm, joint = -1.0, "", ""
        for name, q in sent.items():
            apart = np.abs(self.measured[name].q - q)
            worst = int(np.argmax(apart))
            if not apart[worst] <= furthest:
                furthest, arm, joint = float(apart[worst]), name, self._robot.arms[name].joints[worst]
        if furthest <= self._robot.safety.first_command_joint:
            return "", ""
        return arm, f"{arm}: {joint} is {furthest:.3f} rad from its command"

    def arm_astray(self, sent: Mapping[str, FloatArray]) -> tuple[str, str]:
        """The first arm that does not follow: that of `arm_apart`, or one that does not move with its
        commands, and how it is seen, for people; ("", "") where all do."""
        arm, text = self.arm_apart(sent)
        if arm:
            return arm, text
        for name, following in self._following.items():
            if following.still:
                return name, f"{name}: {following.still}"
        return "", ""

    def base_moves(self, now_ns: int) -> str:
        """How the base moves, for people; "" where it stands, and where there is none."""
        return "" if self.base is None else self.base.moves(now_ns)
