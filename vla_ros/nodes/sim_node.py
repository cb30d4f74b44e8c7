"""sim_node: the MuJoCo twin of the robot, in real time, on the real driver's topics.

Threads: the executor serves services, actions and diagnostics; one physics thread owns the world and reads
commands and publishes joint states every step; cameras are rendered and published by a process of their own.
"""

from __future__ import annotations

import contextlib
import gc
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from vla_ros.errors import VlaRosError
from vla_ros.nodes.diagnostics import ERROR, OK, DiagnosticsPublisher, Samples
from vla_ros.nodes.lifecycle import ManagedNode, declare, run, trigger_service
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.realtime import SWITCH_INTERVAL_S
from vla_ros.resources import robot_config
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.sim.camera_process import CameraProcess
from vla_ros.sim.controllers import SECOND_NS
from vla_ros.sim.drivers import faces_of
from vla_ros.sim.drivers.face import Due, Face, Host
from vla_ros.sim.timeline import Timeline
from vla_ros.sim.twin import Twin
from vla_ros.sim.worlds import make_twin

_REALTIME_PRIORITY = 30
_SNAPSHOT_RATE_HZ = 30.0  # for a robot without cameras
_LOG_EVERY_S = 60.0
_FIRST_LOG_S = 5.0
_RESET_TIMEOUT_S = 5.0
_CLOCK_PERIOD_NS = 4_000_000


class SimNode(ManagedNode):
    """The twin as a lifecycle node; it steps while active."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        declare(self, "robot", "franka", "Robot YAML: a name or a path.")
        declare(self, "seed", 0, "Scene drawn by the next ~/reset (and at start).", 0, 2**62)
        declare(self, "publish_clock", False, "Publish /clock, for nodes with use_sim_time.")
        self.twin: Twin | None = None
        self._cameras: CameraProcess | None = None
        self._faces: list[Face] = []
        self._diagnostics: DiagnosticsPublisher | None = None
        self._physics: threading.Thread | None = None
        self._stop = threading.Event()
        self._requests: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._own_at_birth: set[Any] = {*self.publishers, *self.subscriptions, *self.services}

    def configure(self) -> None:
        """Build the world, wire the driver's topics and start the cameras."""
        file = robot_config(self.get_parameter("robot").value)
        self._cameras = CameraProcess(file, ros_arguments())
        robot = load_robot(file)
        seed = int(self.get_parameter("seed").value)
        # With use_sim_time all wait for /clock, and there is nobody else to publish it.
        self._simulated_time = any(
            self.get_parameter(name).value for name in ("publish_clock", "use_sim_time")
        )
        self.twin = make_twin(robot, file, seed)
        self._scene = self.twin.reset(seed)
        rates = [camera.rate_hz for camera in robot.cameras.values()]
        self._camera_period_ns = round(1e9 / max(rates, default=_SNAPSHOT_RATE_HZ))
        self._diagnostics = DiagnosticsPublisher(self, self._refresh)
        host = Host(self, self._refused, self.twin.note_command, self._requests.put)
        self._faces.extend(faces_of(host, self.twin))
        self._clock_topic = self.create_publisher(Clock, "/clock", 10) if self._simulated_time else None
        self._clock_due = Due(_CLOCK_PERIOD_NS)
        descriptions = {arm.robot_description: read_urdf(file, arm) for arm in robot.arms.values()}
        for topic, urdf in descriptions.items():
            if topic is not None:
                self.create_publisher(String, topic, LATCHED).publish(String(data=urdf))
        self._task = self.create_publisher(String, "~/task", LATCHED)
        self._publish_task()
        trigger_service(self, "reset", self._reset)
        self._cameras.wait_ready()

    def activate(self) -> None:
        """Start stepping."""
        assert self.twin is not None
        self._stop.clear()
        self._since = self._last_refresh = time.monotonic()
        self._last_steps = 0
        self._late = Samples()
        self._next_log = self._since + _FIRST_LOG_S
        # What exists now lives as long as the process: later collections need not look at it.
        gc.collect()
        gc.freeze()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        _raise_priority()
        self._timeline = Timeline(self.twin.step_ns, self._simulated_time)
        self._physics = threading.Thread(target=self._run, name="physics", daemon=True)
        self._physics.start()
        self.get_logger().info(self._scene)

    def deactivate(self) -> None:
        """Stop stepping."""
        self._stop.set()
        if self._physics is not None:
            self._physics.join(2.0)
            self._physics = None
            self._log_rates()

    def cleanup(self) -> None:
        """Close the cameras and take down everything that `configure` put up."""
        if self._cameras is not None:
            self._cameras.close()
            self._cameras = None
        while self._faces:
            self._faces.pop().destroy()
        if self._diagnostics is not None:
            self._diagnostics.destroy()
            self._diagnostics = None
        destroyers: list[tuple[Iterable[Any], Callable[[Any], Any]]] = [
            (self.publishers, self.destroy_publisher),
            (self.subscriptions, self.destroy_subscription),
            (self.services, self.destroy_service),
        ]
        for entities, destroy in destroyers:
            for entity in set(entities) - self._own_at_birth:
                destroy(entity)

    def _run(self) -> None:
        try:
            self._loop()
        except Exception as error:
            self.get_logger().fatal(f"physics: {type(error).__name__}: {error}")
            self.failure = "executor"
            self.ended.set()

    def _loop(self) -> None:
        assert self.twin is not None and self._cameras is not None
        twin, timeline, cameras, faces = self.twin, self._timeline, self._cameras, self._faces
        camera_due = Due(self._camera_period_ns)
        for face in faces:
            face.discard()
        while not self._stop.is_set():
            now_ns = timeline.wait()
            self._late.add(timeline.late_ns / 1e6)
            while not self._requests.empty():
                self._requests.get()()
            for face in faces:
                face.obey(now_ns)
            twin.step(now_ns)
            for face in faces:
                face.publish(now_ns)
            if self._clock_topic is not None and self._clock_due.at(now_ns):
                message = Clock()
                message.clock.sec, message.clock.nanosec = divmod(now_ns, SECOND_NS)
                self._clock_topic.publish(message)
            if camera_due.at(now_ns):
                cameras.send(twin.snapshot(now_ns))
            if twin.task_text != self._last_task:
                self._publish_task()

    def _publish_task(self) -> None:
        assert self.twin is not None
        self._last_task = self.twin.task_text
        self._task.publish(String(data=self._last_task))

    def _reset(self) -> str:
        if self._physics is None:
            raise VlaRosError("sim_node is not active: activate it before ~/reset")
        seed = int(self.get_parameter("seed").value)
        done = threading.Event()

        def reset() -> None:
            assert self.twin is not None
            self._scene = self.twin.reset(seed)
            for face in self._faces:
                face.discard()
            self._publish_task()
            done.set()

        self._requests.put(reset)
        if not done.wait(_RESET_TIMEOUT_S):
            raise VlaRosError("the physics thread did not answer")
        return self._scene

    def _refused(self, driver: str, reason: str, text: str) -> None:
        assert self._diagnostics is not None
        self._diagnostics.count(f"rejected.{driver}.{reason}")
        self.get_logger().warning(f"{driver} command rejected: {text}", throttle_duration_sec=1.0)

    def _refresh(self) -> None:
        diagnostics, cameras = self._diagnostics, self._cameras
        if diagnostics is None or cameras is None:
            return
        # Also while inactive: the last frames are counted after the last step.
        for name, figures in cameras.figures.items():
            diagnostics.value(f"frames.{name}.sent", figures.sent)
            diagnostics.value(f"frames.{name}.rate_hz", figures.rate_hz)
            diagnostics.value(f"frames.{name}.render_ms", figures.render_ms)
        if self._physics is None:
            return
        now = time.monotonic()
        steps = self._timeline.steps
        elapsed = max(now - self._last_refresh, 1e-6)
        factor = (steps - self._last_steps) * self._timeline.period_ns / 1e9 / elapsed
        self._last_refresh, self._last_steps = now, steps
        diagnostics.value("real_time_factor", factor)
        diagnostics.value("overruns", self._timeline.given_up)
        for key, value in self._late.summary().items():
            diagnostics.value(f"step_late_ms.{key}", value)
        if cameras.alive:
            diagnostics.state(OK, "ok")
        else:
            diagnostics.state(ERROR, "the camera process ended")
            self.get_logger().fatal(f"the camera process ended: {cameras.failure or 'no reason given'}")
            self.failure = "executor"
            self.ended.set()
        if now >= self._next_log:
            self._next_log = now + _LOG_EVERY_S
            self._log_rates()

    def _log_rates(self) -> None:
        if self._cameras is not None and self._cameras.figures:
            rates = (
                f"{name} {figures.rate_hz:.1f} Hz ({figures.sent} frames, {figures.render_ms:.1f} ms each)"
                for name, figures in sorted(self._cameras.figures.items())
            )
            self.get_logger().info(f"cameras: {', '.join(rates)}")


def _raise_priority() -> None:
    """Real-time priority for the whole process, where permitted: the arm that this stands for shares no
    processor with the policy. All threads, since any of them may hold the interpreter's lock."""
    with contextlib.suppress(PermissionError, ProcessLookupError):
        for thread in os.listdir("/proc/self/task"):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(_REALTIME_PRIORITY))


def ros_arguments() -> list[str]:
    """This process's ROS arguments without those that rename a node: the camera process is another one."""
    if "--ros-args" not in sys.argv:
        return []
    arguments = sys.argv[sys.argv.index("--ros-args") :]
    kept: list[str] = []
    for argument in arguments:
        if argument.startswith(("__node:=", "__name:=", "sim_node:__node", "sim_node:__name")):
            if kept and kept[-1] in ("-r", "--remap"):
                kept.pop()
            continue
        kept.append(argument)
    return kept


def main() -> int:
    """The process's entry point."""
    return run(SimNode)


if __name__ == "__main__":
    sys.exit(main())
