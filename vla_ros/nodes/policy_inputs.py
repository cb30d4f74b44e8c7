"""What policy_node sees: camera, joint and odometry topics into buffers, and observations out of them.

Threads. Images come in on a receiver's thread, the robot's state is polled by a thread of its own while it
runs, and whoever infers calls `observe`. One lock guards the buffers and the polled subscriptions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState

from vla_ros.nodes.transport import RawReceiver, polled_subscription, take_latest
from vla_ros.observation.assemble import Forward, assemble, newest_stamp
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.history import Window, assemble_window
from vla_ros.observation.ring import MS
from vla_ros.policy.manifest_inputs import History
from vla_ros.robot.config import Robot
from vla_ros.robot.config_fields import Stream
from vla_ros.types import Observation

# Best effort reads reliable and best-effort cameras alike.
CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# The newest state is enough: at this period, interpolation between states is off by 1e-4 rad at 7 rad/s^2.
STATE_PERIOD_S = 0.01


@dataclass(frozen=True)
class InputReport:
    """received, missed: images per camera; dropped: {stream: {reason: messages}}; latency: {stream: (median,
    95th percentile) in ms from stamp to arrival here}, for streams from which anything has come."""

    received: dict[str, int]
    missed: dict[str, int]
    dropped: dict[str, dict[str, int]]
    latency: dict[str, tuple[float, float]]


class PolicyInputs:
    """Subscribes to the cameras, to the arms' and grippers' states and to the odometry of a robot.

    fresh: set whenever an image has come.
    """

    def __init__(
        self,
        node: Node,
        robot: Robot,
        cameras: Sequence[str],
        optional: Sequence[str],
        history: History | None,
        base_velocity: bool = False,
    ) -> None:
        """cameras, history, base_velocity: what the policy is shown; optional: the cameras without which it
        can do."""
        self._node, self._robot, self._history = node, robot, history
        past_s = history.past_s if history else 0.0
        self._buffers = ObservationBuffers(robot, cameras, past_s, optional, base_velocity)
        self._lock = threading.Lock()
        self.fresh = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self._ours: list[Any] = []
        self._streams: list[tuple[Any, Callable[[bytes, int], None]]] = []
        self._receiver = RawReceiver(node)
        for name in self._buffers.cameras:
            camera = robot.cameras[name]
            kind = Image if camera.transport == "raw" else CompressedImage
            callback = partial(self._on_image, name)
            self._ours.append(self._receiver.subscribe(kind, camera.topic, CAMERA_QOS, callback))
            if camera.undistort:
                info = partial(self._on_camera_info, name)
                self._ours.append(self._receiver.subscribe(CameraInfo, camera.camera_info, CAMERA_QOS, info))
        for name, arm in robot.arms.items():
            self._poll(JointState, arm.states, partial(self._buffers.joint_states, name))
            if arm.gripper is not None:
                self._poll(JointState, arm.gripper.states, partial(self._buffers.gripper_states, name))
        if robot.base is not None:
            self._poll(Odometry, robot.base.odometry, self._buffers.base_odometry)
        self._receiver.start()

    def _poll(self, kind: type, stream: Stream, push: Callable[[bytes, int], None]) -> None:
        """Have `push` called with the newest message of `stream` each time that the state is read."""
        qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[stream.reliability.upper()])
        subscription = polled_subscription(self._node, kind, stream.topic, qos)
        self._ours.append(subscription)
        self._streams.append((subscription, push))

    def start(self) -> None:
        """Begin to read the robot's state."""
        self._ended.clear()
        self._thread = threading.Thread(target=self._read_forever, name="state", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read the robot's state no more. May be called twice."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def destroy(self) -> None:
        """Stop, and give up the topics."""
        self.stop()
        self._receiver.stop()
        for subscription in self._ours:
            self._node.destroy_subscription(subscription)
        self._ours, self._streams = [], []

    def reset(self) -> None:
        """Forget what was seen, and faults like a changed encoding."""
        with self._lock:
            self._buffers.reset()

    def observe(
        self, prompt: str, kinematics: Mapping[str, Forward], last_ns: int, after_ns: int, since_ns: int
    ) -> tuple[Observation, Window | None] | None:
        """The newest observation; None while none is newer than `last_ns` and at least as new as `after_ns`.
        With it the window that it is the last of, where the policy looks at its history.

        last_ns: stamp of the one used last; since_ns: when the episode began, of which the history is.
        Raises Refused as `assemble` and `assemble_window` do.
        """
        self._read_state()
        with self._lock:
            now_ns = self._now_ns()
            stamp_ns, _ = newest_stamp(self._buffers, now_ns)
            # A stamp ahead of the clock is from before the clock was set back: not to be waited for.
            if stamp_ns < after_ns or stamp_ns <= last_ns <= now_ns:
                return None
            if self._history is None:
                return assemble(self._buffers, self._robot, now_ns, prompt, kinematics), None
            window = assemble_window(
                self._buffers, self._robot, now_ns, prompt, kinematics, self._history, since_ns
            )
            return window.observations[-1], window

    def report(self) -> InputReport:
        """What came in so far, and how late."""
        with self._lock:
            cameras, rings = self._buffers.cameras, self._buffers.rings
            latencies = [(stream, ring.latency) for stream, ring in rings.items()]
            return InputReport(
                received={name: ring.received for name, ring in cameras.items()},
                missed={name: ring.missed for name, ring in cameras.items()},
                dropped={stream: dict(ring.dropped) for stream, ring in rings.items()},
                latency={
                    stream: ((latency.typical_ns or 0) / MS, (latency.high_ns or 0) / MS)
                    for stream, latency in latencies
                    if latency.typical_ns is not None
                },
            )

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _on_image(self, camera: str, cdr: bytes) -> None:
        with self._lock:
            self._buffers.image(camera, cdr, self._now_ns())
        self.fresh.set()

    def _on_camera_info(self, camera: str, cdr: bytes) -> None:
        with self._lock:
            self._buffers.camera_info(camera, cdr)

    def _read_forever(self) -> None:
        while not self._ended.wait(STATE_PERIOD_S):
            self._read_state()

    def _read_state(self) -> None:
        with self._lock:
            for subscription, push in self._streams:
                if (cdr := take_latest(subscription)) is not None:
                    push(cdr, self._now_ns())
