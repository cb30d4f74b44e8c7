"""Every robot YAML in closed loop with its twin, in joint and in tool space: how well it follows, how often.

For each robot the real control_node and the twin of its driver run, on the driver's own topics and message
types; a scripted policy publishes chunks at CHUNK_HZ of a motion that is known at every moment. What is
measured is where the arm says that it is, on the driver's states topic, against where it should be then.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_ros import processes
from vla_ros.benchmarks._robots_base import STOP_S, BaseEars
from vla_ros.benchmarks._robots_reference import JOINT, TOOL, Reference
from vla_ros.benchmarks.bench import Bench, Progress, Value
from vla_ros.errors import VlaRosError
from vla_ros.nodes.transport import configure_dds
from vla_ros.resources import robot_config
from vla_ros.robot.config import Robot
from vla_ros.robot.inherit import read_robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import FloatArray

ROBOTS = (
    "franka", "franka_dual", "aloha", "mobile_aloha", "widowx", "agilex_piper", "agilex_cobot", "kinova_gen3",
)  # fmt: skip
CHUNK_HZ = 5.0
START_S, WARM_UP_S, MEASURED_S = 60.0, 3.0, 8.0
HOLDS = (
    "stale_chunk", "policy_gone", "driver_gone", "joint_states", "odometry", "stalled", "clock",
    "not_following", "base_not_following",
)  # fmt: skip
# Nobody looks at the pictures here.
CAMERA_HZ, CAMERA_AGE_MS = 1.0, 2000.0


@dataclass
class Heard:
    """Of one arm: when its driver said where it is (s on the monotonic clock) and the joints [J] then, and
    when commands to it were published."""

    joints: list[tuple[float, FloatArray]] = field(default_factory=list)
    commands: list[float] = field(default_factory=list)


def run(progress: Progress, robots: Sequence[str] = ROBOTS, measured_s: float = MEASURED_S) -> Bench:
    """One row per arm and base, and space. Raises VlaRosError when a graph cannot be started."""
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    configure_dds()
    rows: list[dict[str, Value]] = []
    for name in robots:
        with tempfile.TemporaryDirectory(prefix="vla_ros_robots_") as folder:
            file = _without_pictures(robot_config(name), Path(folder))
            for space in (JOINT, TOOL):
                progress(f"{name}, chunks in {space} space")
                rows += _measure(file, space, measured_s, Path(folder))
    notes = [
        f"Chunks at {CHUNK_HZ:g} Hz of a scripted motion; {measured_s:g} s each. Errors: root mean square "
        "and largest, of measured against wanted at the same moment; in tool space of the tool's pose.",
        "A base's are those of its velocity; stands after: from ~/stop, at half its limits of velocity.",
    ]
    return Bench("robots", rows, notes)


def _without_pictures(file: Path, folder: Path) -> Path:
    """The robot YAML with cameras that take next to no processor time, in a folder of its own."""
    data: Any = read_robot(file).data
    for camera in data["cameras"].values():
        camera["rate_hz"], camera["max_age_ms"] = CAMERA_HZ, CAMERA_AGE_MS
    (folder / "urdf").symlink_to(file.parent / "urdf")
    copy = folder / file.name
    copy.write_text(yaml.safe_dump(data))
    return copy


def _measure(file: Path, space: str, measured_s: float, folder: Path) -> list[dict[str, Value]]:
    import rclpy
    from rclpy.signals import SignalHandlerOptions
    from trajectory_msgs.msg import JointTrajectory

    from vla_ros.action.message import to_message
    from vla_ros.nodes.operator import Operator

    robot = load_robot(file)
    kinematics = {
        name: Kinematics(read_urdf(file, arm), arm.joints, arm.base_frame, arm.tool_frame)
        for name, arm in robot.arms.items()
    }
    reference = Reference(robot, kinematics, space)
    with _graph(file, folder / f"{space}.log") as watch:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        node = rclpy.create_node("robots_benchmark")
        ears = Ears(node, robot)
        base = None if robot.base is None else BaseEars(node, robot.base)
        chunks = node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        operator = Operator(node, watch)
        try:
            for each in ("sim_node", "control_node"):
                operator.wait_active(each, START_S)
            _start(operator, START_S)
            began, began_ns = time.monotonic(), time.time_ns()
            due = 0.0
            while (t := time.monotonic() - began) < WARM_UP_S + measured_s:
                watch()
                ears.listen()
                if base is not None:
                    base.listen()
                if t >= due:
                    due += 1.0 / CHUNK_HZ
                    chunks.publish(to_message(reference.chunk(began_ns + round(t * 1e9), t)))
                time.sleep(0.002)
            stopped = time.monotonic()
            if base is not None:
                _stop(operator, base)
            state = operator.fresh_report("control_node")
        finally:
            operator.close()
            node.destroy_node()
            rclpy.try_shutdown()
    window = (began + WARM_UP_S, began + WARM_UP_S + measured_s)
    rows = []
    for name, heard in ears.heard.items():
        errors = _errors(reference, kinematics[name], name, heard, began, window)
        rows.append(_row(robot, name, space, errors, heard, window))
    if base is not None:
        rows.append(base.row(robot.name, reference, began, window, stopped))
    return [row | {"held_by": _held_by(state)} for row in rows]


@contextmanager
def _graph(file: Path, log: Path) -> Iterator[Any]:
    """The twin and control_node, without a policy; yields what raises when one has ended."""
    with open(log, "wb") as output:
        children = {
            each.name: processes.start(each, stdout=output, stderr=subprocess.STDOUT)
            for each in processes.table(str(file), sim=True)
        }

    def watch() -> None:
        for name, child in children.items():
            if (code := child.poll()) is not None:
                tail = log.read_text(errors="replace")[-2000:]
                raise VlaRosError(f"{name} ended {processes.describe_exit(code)}:\n{tail}")

    try:
        yield watch
    finally:
        processes.end(list(children.values()))


def _start(operator: Any, timeout_s: float) -> None:
    """Start control_node, again while the first joint states are not there yet."""
    from vla_ros.nodes.operator import GraphError

    deadline = time.monotonic() + timeout_s
    while True:
        try:
            operator.trigger("control_node/start")
            return
        except GraphError:
            if time.monotonic() > deadline:
                raise
            operator.sleep(0.2)


def _stop(operator: Any, base: BaseEars) -> None:
    """Have control_node stop, and hear how the base does."""
    operator.trigger("control_node/stop")
    until = time.monotonic() + STOP_S
    while time.monotonic() < until:
        base.listen()
        operator.sleep(0.02)


class Ears:
    """Listens to what each arm's driver says, and to what it is told."""

    def __init__(self, node: Any, robot: Robot) -> None:
        from sensor_msgs.msg import JointState

        from vla_ros.nodes.qos import state_qos
        from vla_ros.nodes.transport import polled_subscription
        from vla_ros.robot.drivers import driver_for

        self.heard = {name: Heard() for name in robot.arms}
        self._robot = robot
        self._inputs = []
        for name, arm in robot.arms.items():
            states = polled_subscription(node, JointState, arm.states.topic, state_qos(arm.states))
            driver = driver_for(arm)
            commands = polled_subscription(node, driver.message_type, driver.topic, 1000)
            self._inputs.append((name, states, commands))

    def listen(self) -> None:
        """Take what has arrived, each with the time at which it was sent."""
        from rclpy.serialization import deserialize_message

        from vla_ros.robot.states import positions_by_name

        to_monotonic = time.monotonic() - time.time()
        for name, states, commands in self._inputs:
            newest = None
            with states.handle:
                while (item := states.handle.take_message(states.msg_type, True)) is not None:
                    newest = item
            if newest is not None:
                message: Any = deserialize_message(newest[0], states.msg_type)
                q = positions_by_name(message.name, message.position, self._robot.arms[name].joints)
                at = newest[1]["source_timestamp"] / 1e9 + to_monotonic
                self.heard[name].joints.append((at, q))
            with commands.handle:
                while (item := commands.handle.take_message(commands.msg_type, True)) is not None:
                    self.heard[name].commands.append(item[1]["source_timestamp"] / 1e9 + to_monotonic)


def _errors(
    reference: Reference,
    kinematics: Kinematics,
    name: str,
    heard: Heard,
    began: float,
    window: tuple[float, float],
) -> FloatArray:
    """[N, 2]: largest joint's error in mrad twice, or the tool's in mm and mrad."""
    found = []
    for at, q in heard.joints:
        if not window[0] <= at <= window[1]:
            continue
        if reference.space == JOINT:
            error = np.abs(q - reference.joints(name, at - began)).max() * 1e3
            found.append((error, error))
            continue
        is_at, wanted = kinematics.forward(q), reference.pose(name, at - began)
        apart = np.linalg.norm(is_at[:3, 3] - wanted[:3, 3]) * 1e3
        cosine = (np.trace(is_at[:3, :3].T @ wanted[:3, :3]) - 1) / 2
        found.append((apart, np.arccos(np.clip(cosine, -1, 1)) * 1e3))
    if not found:
        raise VlaRosError(f"{name}: the driver said nothing on its states topic")
    return np.array(found)


def _row(
    robot: Robot, name: str, space: str, errors: FloatArray, heard: Heard, window: tuple[float, float]
) -> dict[str, Value]:
    rms, largest = np.sqrt((errors**2).mean(axis=0)), errors.max(axis=0)
    sent = [at for at in heard.commands if window[0] <= at <= window[1]]
    tool = space == TOOL
    return {
        "robot": robot.name,
        "arm": name,
        "driver": robot.arms[name].driver,
        "space": space,
        "rms_mm": round(float(rms[0]), 2) if tool else None,
        "largest_mm": round(float(largest[0]), 2) if tool else None,
        "rms_mrad": round(float(rms[1]), 2),
        "largest_mrad": round(float(largest[1]), 2),
        "commands_hz": round(len(sent) / (window[1] - window[0]), 1),
    }


def _held_by(state: dict[str, str]) -> str:
    """Why the arms were held meanwhile, and how often; empty where they were not."""
    counts = {reason: state.get(f"interventions.{reason}", "0") for reason in HOLDS}
    return ", ".join(f"{reason} {count}" for reason, count in counts.items() if count != "0")
