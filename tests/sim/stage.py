"""The twin's drivers on their real topics, in virtual time, and a node beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from tests.support import wait_for
from vla_ros.resources import robot_config
from vla_ros.robot.load import load_robot
from vla_ros.sim.drivers import faces_of
from vla_ros.sim.drivers.face import Host
from vla_ros.sim.worlds import make_twin

BEGIN_NS = 1_700_000_000_000_000_000
MS = 1_000_000


class Stage:
    """The twin of a robot behind its faces, and a node beside it. arm: its first."""

    def __init__(self, name: str, domain: int) -> None:
        self.context = Context()
        rclpy.init(args=[], context=self.context, domain_id=domain)
        self.node = rclpy.create_node("twin", context=self.context)
        self.peer = rclpy.create_node("peer", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        for node in (self.node, self.peer):
            self.executor.add_node(node)
        file = robot_config(name)
        self.twin: Any = make_twin(load_robot(file), file, 0)
        self.arm = self.twin.arms[0]
        self.rejected: list[tuple[str, str]] = []
        self.obeyed = 0
        self.now_ns = BEGIN_NS
        host = Host(self.node, self._reject, self._obey, lambda action: action())
        self.faces = list(faces_of(host, self.twin))

    def close(self) -> None:
        for face in self.faces:
            face.destroy()
        self.executor.shutdown()
        self.node.destroy_node()
        self.peer.destroy_node()
        rclpy.shutdown(context=self.context)

    def run(self, milliseconds: float = 4.0) -> None:
        """Step the twin, and let what is on its way arrive."""
        for _ in range(round(milliseconds * MS / self.twin.step_ns)):
            self.now_ns += self.twin.step_ns
            for face in self.faces:
                face.obey(self.now_ns)
            self.twin.step(self.now_ns)
            for face in self.faces:
                face.publish(self.now_ns)
        self.executor.spin_once(0.0)

    def until(self, condition: Callable[[], object], what: str) -> Any:
        return wait_for(condition, 20.0, what, step=self.run)

    def send(self, kind: type, topic: str, message: Any) -> None:
        """Publish, and wait until the twin has obeyed or rejected it."""
        publisher = self.peer.create_publisher(kind, topic, 10)
        self.until(publisher.get_subscription_count, f"a subscriber of {topic}")
        before = self.obeyed + len(self.rejected)
        publisher.publish(message)
        self.until(lambda: self.obeyed + len(self.rejected) > before, f"{topic} to be looked at")
        self.peer.destroy_publisher(publisher)

    def hear(self, kind: type, topic: str) -> Any:
        """The newest message of a topic, one that comes after this call."""
        heard: list[Any] = []
        subscription = self.peer.create_subscription(kind, topic, heard.append, 10)
        self.until(lambda: heard, f"a message on {topic}")
        self.peer.destroy_subscription(subscription)
        return heard[-1]

    def _reject(self, driver: str, reason: str, text: str) -> None:
        self.rejected.append((driver, reason))

    def _obey(self, now_ns: int) -> None:
        self.obeyed += 1
