"""control_node: chunks in, driver commands out, at a steady rate; holds the robot when chunks stop.

Threads. The commanding thread alone owns the supervisor: it wakes at absolute deadlines, reads joint states
and the emergency stop itself, and publishes. The executor's thread serves services, chunks, the gripper and
diagnostics, watches over the commanding thread, and hands requests and chunks over through a queue; it never
touches the supervisor's state. What the commanding thread has to say is logged by the executor's: writing to
a pipe or a disk may wait, commanding may not. For the same reason this process logs to stderr and /rosout
only, not to ~/.ros/log.
"""

from __future__ import annotations

import collections
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rclpy.serialization import deserialize_message
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.chunk_cdr import from_cdr
from vla_ros.action.interpolate import INTERPOLATIONS
from vla_ros.action.schedule import MODES, Scheduler, make_scheduler
from vla_ros.errors import Refused, VlaRosError
from vla_ros.nodes.arm_topics import ArmTopics
from vla_ros.nodes.base_topics import BaseTopics
from vla_ros.nodes.command_report import CommandReport
from vla_ros.nodes.diagnostics import ERROR, OK, WARN, DiagnosticsPublisher
from vla_ros.nodes.estop import EmergencyStop
from vla_ros.nodes.lifecycle import (
    ManagedNode,
    declare,
    run,
    trigger_service,
    wait_until_alone,
)
from vla_ros.nodes.output import HandedLog
from vla_ros.nodes.pace import Pace, SimPace, WallPace
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.realtime import (
    collect_young,
    real_time_process,
    real_time_thread,
    steady_process,
)
from vla_ros.nodes.requests import Requests
from vla_ros.nodes.start_checks import REST_S, make_ready, rivals
from vla_ros.nodes.transport import polled_subscription, take_latest, timed_subscription
from vla_ros.nodes.watchdogs import Watchdogs
from vla_ros.resources import robot_config
from vla_ros.robot.config import Robot
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.load import check_description, load_robot, read_urdf
from vla_ros.robot.topics import command_topics
from vla_ros.safety.intake import gripper_ranges
from vla_ros.safety.modes import ESTOP, STOPPING
from vla_ros.safety.supervisor import Supervisor
from vla_ros.types import ActionChunk, Command

NS = 1_000_000_000
# How long to look for others that command this robot, see `wait_until_alone`.
SETTLE_S, PATIENCE_S = 1.5, 5.0
# A description whose publisher is known already arrives within this.
DESCRIPTION_S = 3.0


class ControlNode(ManagedNode):
    """See the module."""

    def __init__(self) -> None:
        super().__init__("control_node")
        declare(self, "robot", "franka", "Robot YAML: a name or a path.")
        declare(self, "mode", "ensemble", f"How chunks follow one another: {', '.join(MODES)}.")
        declare(self, "ensembling_m", 0.01, "Mode ensemble: weight exp(-m i), i = 0 the oldest.", -10.0, 10.0)
        declare(self, "interpolation", "cubic", f"Between steps: {', '.join(INTERPOLATIONS)}.")
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._requests = Requests()
        self._chunks: collections.deque[ActionChunk] = collections.deque()
        self._arms: dict[str, ArmTopics] = {}
        self._base: BaseTopics | None = None
        self._parts: dict[str, ArmTopics | BaseTopics] = {}  # all of these
        self._diagnostics: DiagnosticsPublisher | None = None
        self._release: list[Callable[[], object]] = []
        self._log = HandedLog(self.get_logger())
        self._estopped = ""
        # From now on: a press that comes while the node is being configured counts as soon as it commands.
        self._estop = EmergencyStop(self)

    def configure(self) -> None:
        """Load the robot, see that nobody else commands it, wire topics and services."""
        file = robot_config(self.get_parameter("robot").value)
        robot = load_robot(file)
        scheduler = self._make_scheduler(robot)
        self._period_ns = round(NS / robot.control.rate_hz)
        descriptions = {
            name: polled_subscription(self, String, arm.robot_description, LATCHED)
            for name, arm in robot.arms.items()
            if arm.robot_description is not None
        }
        drivers = {name: driver_for(arm) for name, arm in robot.arms.items()}
        commanded = [self.resolve_topic_name(topic) for topic in command_topics(robot)]
        self._rivals = partial(rivals, self, commanded)
        wait_until_alone(self, self._rivals, SETTLE_S, PATIENCE_S)
        self._diagnostics = DiagnosticsPublisher(self, self._refresh)
        for name, arm in robot.arms.items():
            xml = self._description(descriptions.get(name))
            if xml is None:
                xml = read_urdf(file, arm)
                self.get_logger().info(f"{name}: kinematics from {arm.urdf}")
            else:
                check_description(robot, name, xml)
                self.get_logger().info(f"{name}: kinematics from {arm.robot_description}")
            topics = ArmTopics(self, name, arm, drivers[name], xml, self._diagnostics, self._log)
            self._arms[name] = self._parts[name] = topics
            self._release.append(topics.destroy)
        if robot.base is not None:
            self._base = self._parts["base"] = BaseTopics(self, robot.base, self._diagnostics, self._log)
            self._release.append(self._base.destroy)
        for subscription in descriptions.values():
            self.destroy_subscription(subscription)
        kinematics = {name: arm_topics.kinematics for name, arm_topics in self._arms.items()}
        self._supervisor = Supervisor(robot, kinematics, scheduler)
        if self._estopped:
            # Only a reset releases it, and configuring anew is none.
            self._estop.press(self._estopped)
        self._report = CommandReport(self, self._diagnostics, self._log)
        self._watchdogs = Watchdogs(self, self._parts, self._period_ns, self._log, self._diagnostics)
        chunks = timed_subscription(self, JointTrajectory, "vla/action_chunk", 10, self._on_chunk)
        self._release += [
            self._report.destroy,
            self._watchdogs.destroy,
            partial(self.destroy_subscription, chunks),
        ]
        for what in ("start", "stop", "reset", "home"):
            service = trigger_service(self, what, partial(self._serve, what))
            self._release.append(partial(self.destroy_service, service))

    def activate(self) -> None:
        """Start the commanding thread. Nothing is sent to the driver before `~/start` or `~/home`."""
        self._stop.clear()
        self._requests.clear()
        self._chunks.clear()
        self._thread = threading.Thread(target=self._guarded_loop, name="command", daemon=True)
        self._thread.start()

    def deactivate(self) -> None:
        """Bring the arms to a hold and end the commanding thread."""
        if self._thread is None:
            return
        if self._thread.is_alive():
            self._requests.put("stop")
            deadline = time.monotonic() + REST_S
            while self._busy() and time.monotonic() < deadline and self._thread.is_alive():
                time.sleep(0.01)
        self._stop.set()
        self._thread.join(2.0)
        if self._thread.is_alive():
            self._abandon_base()
        self._thread = None
        self._log.flush()

    def cleanup(self) -> None:
        """Release topics, services and the gripper."""
        while self._release:
            self._release.pop()()
        self._arms, self._base, self._parts = {}, None, {}
        if self._diagnostics is not None:
            self._diagnostics.destroy()
            self._diagnostics = None

    def destroy_node(self) -> None:
        """Release everything, the emergency stop last."""
        self._estop.destroy()
        super().destroy_node()

    def _busy(self) -> bool:
        """Whether an arm moves, or its resting place is still being sent."""
        return self._supervisor.mode == STOPPING or not self._supervisor.at_rest

    # Configuring -----------------------------------------------------------------------------------------

    def _make_scheduler(self, robot: Robot) -> Scheduler:
        mode, m, interpolation = (
            self.get_parameter(name).value for name in ("mode", "ensembling_m", "interpolation")
        )
        try:
            return make_scheduler(mode, gripper_ranges(robot), m, interpolation)
        except ValueError as error:
            raise VlaRosError(f"parameter {error}") from error

    def _description(self, subscription: Any) -> str | None:
        """The URDF on the arm's robot_description topic, None where nobody publishes it."""
        if subscription is None:
            return None
        deadline = time.monotonic() + DESCRIPTION_S
        data = take_latest(subscription)
        while data is None and self.count_publishers(subscription.topic_name) and time.monotonic() < deadline:
            time.sleep(0.02)
            data = take_latest(subscription)
        return None if data is None else str(deserialize_message(data, String).data)

    # On the executor's thread ----------------------------------------------------------------------------

    def _serve(self, what: str) -> str:
        if self._thread is None or not self._thread.is_alive():
            raise VlaRosError(f"control_node is not active: activate it before ~/{what}")
        if what in ("start", "home"):
            others = self._rivals()
            if others:
                raise VlaRosError(f"cannot {what}: {'; '.join(others)}. Stop it first")
            make_ready(what, self._parts.values(), self._watchdogs, self._supervisor, self._requests)
        answer = self._requests.ask(what)
        if what in ("stop", "reset"):
            # Answer when the robot rests, so that whoever asked may rearrange the scene.
            deadline = time.monotonic() + REST_S
            while self._supervisor.mode == STOPPING and time.monotonic() < deadline:
                self._watchdogs.look_for_drivers()
                time.sleep(0.005)
            if self._supervisor.mode == STOPPING:
                why = self._supervisor.moves or "its resting place is still being sent"
                raise VlaRosError(f"{what}: not at rest after {REST_S:g} s: {why}")
        return answer

    def _on_chunk(self, cdr: bytes, sent_ns: int | None) -> None:
        if sent_ns is not None:
            # Both on the system clock, whatever ROS time is; across machines as good as their clocks agree.
            self._record("chunk_transport_ms", (time.time_ns() - sent_ns) / 1e6)
        begin = time.perf_counter_ns()
        try:
            chunk = from_cdr(cdr, self._supervisor.channels)
        except Refused as refused:
            self._report.refused_chunk(refused)
            return
        self._chunks.append(chunk)
        self._record("chunk_intake_ms", (time.perf_counter_ns() - begin) / 1e6)

    def _refresh(self) -> None:
        assert self._diagnostics is not None
        mode = self._supervisor.mode
        hold_reason, estop_reason = self._supervisor.hold_reason, self._supervisor.estop_reason
        level = {ESTOP: ERROR}.get(mode, WARN if hold_reason else OK)
        text = ": ".join(each for each in (mode, estop_reason or hold_reason) if each)
        others = self._rivals()
        if others:
            level, text = ERROR, f"{mode}; {'; '.join(others)}"
            self.get_logger().error(f"{'; '.join(others)}: stop it", throttle_duration_sec=10.0)
        self._diagnostics.state(level, text)
        self._diagnostics.value("source", self._supervisor.source)
        self._diagnostics.value("hold_reason", hold_reason)
        self._diagnostics.value("estop_reason", estop_reason)
        for name, latency_ns in self._supervisor.latencies_ns.items():
            self._diagnostics.value(f"actuation_latency_ms.{name}", latency_ns / 1e6)
        if self._thread is not None:
            collect_young()

    def _record(self, name: str, value: float) -> None:
        assert self._diagnostics is not None
        self._diagnostics.sample(name, value)

    # On the commanding thread ----------------------------------------------------------------------------

    def _guarded_loop(self) -> None:
        try:
            self._loop()
        except Exception:
            # The driver brings the arms to rest along the way that its last command holds.
            self.failure = "executor"
            try:
                self._abandon_base()
            finally:
                self.get_logger().fatal(traceback.format_exc())
                self.ended.set()

    def _abandon_base(self) -> None:
        """The commanding thread commands no more: have the base stand, where it was being driven by it."""
        if self._base is not None and self._supervisor.live:
            self._base.stand()

    def _loop(self) -> None:
        assert self._diagnostics is not None
        real_time_process()
        scheduling = real_time_thread()
        locked = steady_process()
        self._diagnostics.value("scheduling", scheduling)
        self._diagnostics.value("memory_locked", locked)
        self._diagnostics.count("overruns", 0)
        self._log.say(
            "info",
            f"commanding at {NS / self._period_ns:.0f} Hz, {scheduling}, memory "
            f"{'locked' if locked else 'not locked'}",
        )
        pace = self._make_pace()
        self._watchdogs.watch(threading.current_thread(), pace)
        while not self._stop.is_set():
            tick = pace.wait()
            if tick.late_ns is not None:
                self._record("control_period_error_ms", tick.late_ns / 1e6)
            if tick.missed:
                self._diagnostics.count("overruns", tick.missed)
            self._tick(tick.now_ns, tick.steady_ns)
            self._record("tick_ms", (time.monotonic_ns() - tick.begin_ns) / 1e6)
        self._watchdogs.watch(None, None)

    def _make_pace(self) -> Pace:
        kind = SimPace if self.get_parameter("use_sim_time").value else WallPace
        return kind(self._period_ns, lambda: int(self.get_clock().now().nanoseconds))

    def _tick(self, now_ns: int, steady_ns: int) -> None:
        assert self._diagnostics is not None
        supervisor = self._supervisor
        pressed = self._estop.take()
        if pressed is not None and supervisor.mode != ESTOP:
            supervisor.request("estop", now_ns, pressed)
            self._log.say("error", f"emergency stop: {pressed}")
        for part in self._parts.values():
            part.read(now_ns)
        for what, answer in self._requests.answer(supervisor, now_ns):
            self._log.say("info", f"{what}: {answer}")
            if what in ("start", "reset"):
                for arm in self._arms.values():
                    arm.forget_gripper()
        while self._chunks:
            try:
                supervisor.add_chunk(self._chunks.popleft(), now_ns)
            except Refused as refused:
                self._report.refused_chunk(refused)
        while self._watchdogs.policy_gone:
            supervisor.lose("policy_gone", self._watchdogs.policy_gone.popleft(), now_ns)
        if self._watchdogs.no_driver:
            again = not all(part.ready for part in self._parts.values())
            text = self._watchdogs.no_driver + ("; start again when it is back" if again else "")
            supervisor.lose("driver_gone", text, now_ns, for_good=again)
        measured = {name: arm.measured for name, arm in self._arms.items() if arm.measured is not None}
        odometry = None if self._base is None else self._base.measured
        commands = supervisor.tick(now_ns, measured, steady_ns, odometry)
        self._send(commands, now_ns, steady_ns)
        events = supervisor.take_events()
        for event in events:
            if event.part:
                self._parts[event.part].driver_gone()
        self._report.changes(supervisor, events, now_ns)
        self._estopped = supervisor.estop_reason

    def _send(self, commands: Mapping[str, Command], now_ns: int, steady_ns: int) -> None:
        """Send one tick's commands, of all arms and the base. Or of none: then the base is slowed down."""
        assert self._diagnostics is not None
        base, drive = self._base, self._supervisor.base_command
        try:
            prepared = {name: self._arms[name].message(command) for name, command in commands.items()}
            twist = None if base is None or drive is None else base.message(drive)
        except Refused as refused:
            self._unsent()
            if not self._supervisor.at_rest:
                self._supervisor.lose(refused.reason, str(refused), now_ns)
            self._diagnostics.count(f"refused_commands.{refused.reason}")
            return
        if commands and time.monotonic_ns() - steady_ns > self._period_ns:
            # Held up on the way: by now the driver brakes, and what was meant for then would be a step.
            self._unsent()
            self._diagnostics.count("commands_too_late")
            return
        for name, each in prepared.items():
            self._arms[name].send(each)
        if base is not None and twist is not None:
            base.send(twist)
        self._report.commands(commands, drive)

    def _unsent(self) -> None:
        """Take a tick's commands back, and slow the base down: it would drive on as it was sent last."""
        self._supervisor.unsent(time.monotonic_ns())
        drive = self._supervisor.base_command
        if self._base is not None and drive is not None:
            self._base.send(self._base.message(drive))


def main() -> int:
    """The process's entry point."""
    return run(ControlNode, [*sys.argv, "--ros-args", "--disable-external-lib-logs"])


if __name__ == "__main__":
    sys.exit(main())
