"""What a robot's arms tell, as far as it can be believed: where they are, and how late they act."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle

from vla_ros.action.latency import ActuationLatency
from vla_ros.robot.config import Robot
from vla_ros.safety.joints import JointWatch, Measured
from vla_ros.safety.watch import MS, age_text, joint_states_fresh
from vla_ros.types import FloatArray


class Senses:
    """The joint states of all arms and, measured with them, the delay from command to motion.

    measured: {arm: the newest joint states that are believed}, without arms that have none.
    """

    def __init__(self, robot: Robot) -> None:
        self.measured: dict[str, Measured] = {}
        self._robot = robot
        self._joints = {name: JointWatch(arm) for name, arm in robot.arms.items()}
        self._latency = {
            name: ActuationLatency(round(arm.actuation_latency_ms * MS)) for name, arm in robot.arms.items()
        }
        self._turns = cycle(self._latency)

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

    def interrupt(self) -> None:
        """The stream of commands broke off: what was sent no longer tells what is measured."""
        for latency in self._latency.values():
            latency.clear_history()

    def forget(self) -> None:
        """Believe the next joint states whatever they are: the clock or the world was set."""
        self.interrupt()
        for joints in self._joints.values():
            joints.forget()

    def newer_than(self, time_ns: int) -> bool:
        """Whether every arm has said where it is since `time_ns`. (While simulated time stands still, nothing
        else is old: an arm may have been moved meanwhile.)"""
        return all(measured.stamp_ns > time_ns for measured in self.measured.values())

    def stale(self, now_ns: int) -> str:
        """The first arm whose joint states cannot be acted on, and why, for people; "" if all can."""
        for name in self._joints:
            newest = self.measured.get(name)
            stamp = None if newest is None else newest.stamp_ns
            if not joint_states_fresh(stamp, now_ns, self._robot.safety):
                topic = self._robot.arms[name].states.topic
                return f"{name}: {age_text(stamp, now_ns)}; is {topic} being published?"
        return ""
