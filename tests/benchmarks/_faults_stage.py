"""The real graph that faults are injected into: its processes, its operator and its observer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import rclpy
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory

from vla_ros import processes
from vla_ros.benchmarks._faults_observer import Observer
from vla_ros.errors import VlaRosError
from vla_ros.nodes.operator import GraphError, Operator
from vla_ros.nodes.transport import clean_stale_segments, configure_dds, remove_dead_ports
from vla_ros.resources import policy_bundle
from vla_ros.robot.config import Robot
from vla_ros.robot.load import load_robot
from vla_ros.sim.task import EVALUATION_SEED_START, draw_scene

NODES = ("sim_node", "control_node", "policy_node")
POLICY = "franka_pick"
START_S = 60.0
MOVING_S = 20.0
# A joint this fast, rad/s, is in motion: the fault comes while the arm moves.
IN_MOTION = 0.2
DRIVER = "/driver"
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


@dataclass(frozen=True)
class Stream:
    """A topic of the driver that passes through a relay. `command`: from the graph to the driver."""

    name: str
    type: str
    topic: str
    reliable: bool = True
    command: bool = False

    @property
    def driver_topic(self) -> str:
        """Where the driver itself publishes, or listens."""
        return DRIVER + self.topic

    def wiring(self) -> dict[str, Any]:
        """For the relay's argument."""
        ends = (self.topic, self.driver_topic)
        source, sink = ends if self.command else ends[::-1]
        return {
            "name": self.name,
            "type": self.type,
            "from": source,
            "to": sink,
            "reliable": self.reliable,
            "command": self.command,
        }


class Relay:
    """A relay process, see `_faults_relay`."""

    def __init__(self, streams: Sequence[Stream], log: Path) -> None:
        self.names = {stream.name for stream in streams}
        wiring = json.dumps([stream.wiring() for stream in streams])
        argv = (sys.executable, "-m", "vla_ros.benchmarks._faults_relay", wiring)
        with open(log, "wb") as errors:
            self.child = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                preexec_fn=processes.die_with_parent,
            )
        self._answered()

    def tell(self, order: dict[str, Any]) -> None:
        """Send one order and wait until it is in force."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(order).encode() + b"\n")
        self.child.stdin.flush()
        self._answered()

    def _answered(self) -> None:
        assert self.child.stdout is not None
        if self.child.stdout.readline().strip() != b"ok":
            raise VlaRosError(f"the relay of {', '.join(sorted(self.names))} ended; see its log")


class Stage:
    """Processes of the graph, started on making, all gone after `close`.

    prefix: {node: command in front of its own}, such as another
    network namespace. relayed: streams that pass through relay processes, one list each. sim_time: the nodes
    follow the simulated robot's clock.
    """

    def __init__(
        self,
        robot_file: Path,
        logs: Path,
        *,
        prefix: Mapping[str, Sequence[str]] | None = None,
        relayed: Sequence[Sequence[Stream]] = (),
        sim_time: bool = False,
    ) -> None:
        self.robot: Robot = load_robot(robot_file)
        ((arm_name, self.arm),) = self.robot.arms.items()
        self.period_s = 1.0 / self.robot.control.rate_hz
        self.logs = logs
        self.sim_time = sim_time
        self.children: dict[str, subprocess.Popen[bytes]] = {}
        self._others: list[subprocess.Popen[bytes]] = []
        self._starts: dict[str, int] = {}
        self._relays: list[Relay] = []
        self.expected_dead: set[str] = set()
        self.begin_ns = 0  # of the fault that is played
        logs.mkdir(parents=True, exist_ok=True)
        clean_stale_segments()
        configure_dds()
        streams = [stream for group in relayed for stream in group]
        arguments: dict[str, list[str]] = {}
        if sim_time:
            arguments["sim_node"] = ["-p", "publish_clock:=true"]
            for name in ("control_node", "policy_node"):
                arguments[name] = ["-p", "use_sim_time:=true"]
        for stream in streams:
            arguments.setdefault("sim_node", []).extend(["-r", f"{stream.topic}:={stream.driver_topic}"])
        self._table: dict[str, processes.Process] = {}
        for process in processes.table(str(robot_file), str(policy_bundle(POLICY)), sim=True):
            name = process.name
            argv = (*(prefix or {}).get(name, ()), *process.argv, *arguments.get(name, ()))
            self._table[name] = replace(process, argv=argv)
        try:
            for name in self._table:
                self.start(name)
            for number, group in enumerate(relayed):
                self._relays.append(Relay(list(group), logs / f"relay_{number}.log"))
            rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
            self.node = rclpy.create_node("faults")
            driver = self.arm.drivers.joint_trajectory
            assert driver is not None
            # The arm's truth is what its driver says.
            states = self.arm.states.topic
            states = DRIVER + states if any(stream.topic == states for stream in streams) else states
            self.observer = Observer(self.node, arm_name, self.arm, driver.topic, states)
            self._estop = self.node.create_publisher(Bool, "vla/estop", LATCHED)
            self._chunks = self.node.create_publisher(JointTrajectory, "vla/action_chunk", 10)
            self.operator = Operator(self.node, self.watch)
            for name in NODES:
                self.operator.wait_active(name, START_S)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End everything that was started."""
        children = [*self.children.values(), *self._others, *(relay.child for relay in self._relays)]
        for child in children:
            processes.signal_group(child, signal.SIGCONT)
        if hasattr(self, "operator"):
            self.operator.close()
        if hasattr(self, "observer"):
            self.observer.close()
        processes.end(children)
        rclpy.try_shutdown()
        clean_stale_segments()

    def watch(self) -> None:
        """Raise when a process has ended that was not ended on purpose."""
        for name, child in self.children.items():
            code = child.poll()
            if code is not None and name not in self.expected_dead:
                raise GraphError(f"{name} ended {processes.describe_exit(code)}\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines that a process printed."""
        log = self.logs / f"{name}.{self._starts[name]}.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-15:])

    # Processes -------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a node's process, for the first time or again."""
        number = self._starts[name] = self._starts.get(name, -1) + 1
        with open(self.logs / f"{name}.{number}.log", "wb") as log:
            self.children[name] = processes.start(self._table[name], stdout=log, stderr=subprocess.STDOUT)
        self.expected_dead.discard(name)

    def run_beside(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        """Another process, ended with the stage."""
        child = processes.start(processes.Process("beside", tuple(argv)), stdout=subprocess.DEVNULL)
        self._others.append(child)
        return child

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node's process and what it started in its group."""
        processes.signal_group(self.children[name], number)

    def end(self, name: str, number: int) -> None:
        """End a node's process by a signal, on purpose, and wait until it is gone."""
        self.expected_dead.add(name)
        self.signal(name, number)
        self.children[name].wait(10.0)

    def come_back(self, name: str) -> None:
        """Start a process that was ended and wait until it says that it is ready."""
        self.start(name)
        self.wait(lambda: "ready" in self.tail(name), START_S, f"{name} to be ready again")

    # Streams ---------------------------------------------------------------------------------------------

    def spoil(
        self,
        stream: str,
        kind: str = "pass",
        amount: float = 0.0,
        count: int = 0,
        rewrite: dict[str, Any] | None = None,
    ) -> None:
        """Put an edit on a relayed stream, see `_faults_edit.Edit`; "pass" ends it."""
        order = {"stream": stream, "kind": kind, "amount": amount, "count": count, "rewrite": rewrite}
        next(relay for relay in self._relays if stream in relay.names).tell(order)

    def shift_clock(self, offset_s: float) -> None:
        """Add to every stamp that comes from the driver's side, the clock's included."""
        for relay in self._relays:
            relay.tell({"offset_ns": round(offset_s * 1e9)})

    def publish_chunk(self, chunk: JointTrajectory) -> None:
        """Publish beside policy_node."""
        self._chunks.publish(chunk)

    def estop(self, pressed: bool) -> None:
        """Publish vla/estop."""
        self._estop.publish(Bool(data=pressed))

    # The arm ---------------------------------------------------------------------------------------------

    def rest(self) -> None:
        """Whatever was before: the graph stopped and reset, the arm at home, nothing latched."""
        self.estop(False)
        self.operator.trigger("policy_node/stop")
        self.operator.trigger("control_node/stop")
        self.operator.trigger("control_node/reset")
        self.operator.set_integer("sim_node", "seed", EVALUATION_SEED_START)
        self.operator.forget_task()
        self.operator.trigger("sim_node/reset")
        self.operator.wait_running(5.0)
        self.operator.prompt(draw_scene(EVALUATION_SEED_START).instruction)
        self.operator.trigger("policy_node/reset")
        self.operator.sleep(0.3)
        self.observer.clear()

    def start_moving(self) -> None:
        """Have the policy move the arm, and wait until it does."""
        self.operator.trigger("policy_node/start")
        self.operator.trigger("control_node/start")
        self.wait_moving()

    def wait_moving(self, timeout_s: float = MOVING_S) -> None:
        """Wait until the policy has the arm in motion. Raises GraphError."""
        self.wait(
            lambda: self.observer.source == "policy" and self.observer.commanded_speed() > IN_MOTION,
            timeout_s,
            "the policy to move the arm",
        )

    def wait(self, condition: Any, timeout_s: float, what: str) -> None:
        """Wait for a condition, watching the processes. Raises GraphError."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.watch()
            if time.monotonic() > deadline:
                raise GraphError(f"waited {timeout_s:.0f} s in vain for {what}")
            time.sleep(0.005)


def isolate() -> None:
    """This machine only, and a domain of this run's own."""
    domain = 1 + os.getpid() % 101
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    remove_dead_ports(domain)
