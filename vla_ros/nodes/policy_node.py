"""policy_node: camera and joint topics in, action chunks out.

Threads. The executor's thread runs services, parameters and the prompt, which change what is wanted. The
`receiver` thread puts images into the buffers. The `inference` thread assembles the newest observation, runs
the network and publishes. The `joints` thread polls the joint states, which come often. What is
shared is guarded by two locks, never held both: `_buffers_lock` (the buffers and the polled subscriptions)
and `_wanted_lock` (prompt, running, epoch).
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from collections import deque
from functools import partial
from typing import Any

import cv2
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.chunk_cdr import to_cdr
from vla_ros.action.decode import decode
from vla_ros.errors import Refused, VlaRosError
from vla_ros.nodes.descriptions import Descriptions
from vla_ros.nodes.diagnostics import ERROR, OK, WARN, DiagnosticsPublisher
from vla_ros.nodes.lifecycle import ManagedNode, declare, run, trigger_service
from vla_ros.nodes.realtime import SWITCH_INTERVAL_S, collect_young
from vla_ros.nodes.transport import RawReceiver, check_dds, polled_subscription, take_latest
from vla_ros.nodes.two_hands import TwoHands
from vla_ros.observation.assemble import assemble
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.policy.bundle import load_bundle
from vla_ros.policy.contract import require
from vla_ros.policy.onnx_backend import PROVIDERS, OnnxPolicy, Provider
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# Best effort reads reliable and best-effort cameras alike.
CAMERA_QOS = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
# The newest state is enough: at this period, interpolation between states is off by 1e-4 rad at 7 rad/s^2.
JOINT_PERIOD_S = 0.01
WARM_UP_RUNS = 3
LOG_PERIOD_S = 1.0
RATE_WINDOW_S = 2.0


class PolicyNode(ManagedNode):
    """Lifecycle node; infers while active and started (`~/start`, `~/stop`, `~/reset`).

    A prompt on vla/prompt that the policy cannot take stops it from acting until a usable one comes: going
    on with the old one is not what was asked for. As a parameter such a prompt is refused, and the old stays.
    """

    def __init__(self) -> None:
        super().__init__("policy_node")
        declare(self, "robot", "", "Robot: a name (franka) or the path of its YAML.")
        declare(self, "policy", "", "Policy bundle: a name or the path of its folder.")
        declare(self, "prompt", "", "What the robot is to do; vla/prompt changes it too.")
        declare(self, "inference_rate_hz", 10.0, "Chunks per second that are aimed at.", 0.1, 100.0)
        declare(self, "inference_threads", 0, "Threads of onnxruntime; 0: half of the cores.", 0, 256)
        declare(self, "provider", "cpu", f"What the network runs on: {', '.join(PROVIDERS)}.")
        self._buffers_lock, self._wanted_lock = threading.Lock(), threading.Lock()
        self._wake = threading.Event()
        self._halt = threading.Event()
        self._threads: list[threading.Thread] = []
        self._ours: list[Any] = []
        self._chunks: Any = None
        self._receiver: RawReceiver | None = None
        self._joint_streams: list[tuple[Any, Any]] = []
        self._diagnostics: DiagnosticsPublisher | None = None
        self._policy: OnnxPolicy | None = None
        self._preprocessor: Preprocessor | None = None
        self._prompt = str(self.get_parameter("prompt").value)
        self._running = False
        self._epoch = 0
        self._period_s = 1.0 / float(self.get_parameter("inference_rate_hz").value)
        self._logged: dict[str, float] = {}
        self._arrivals: deque[tuple[float, dict[str, int]]] = deque()
        self.add_on_set_parameters_callback(self._on_parameters)
        trigger_service(self, "start", self._start)
        trigger_service(self, "stop", self._stop)
        trigger_service(self, "reset", self._reset)

    # --- lifecycle ------------------------------------------------------------------------------

    def configure(self) -> None:
        """Load robot, bundle and network, listen to the robot, and warm up."""
        for name in ("robot", "policy"):
            if not self.get_parameter(name).value:
                raise VlaRosError(f"policy_node: parameter '{name}' is not set; start with -p {name}:=...")
        provider = self.get_parameter("provider").value
        if provider not in PROVIDERS:
            raise VlaRosError(f"policy_node: provider '{provider}'; expected one of {', '.join(PROVIDERS)}")
        robot_file = robot_config(self.get_parameter("robot").value)
        self._robot = load_robot(robot_file)
        descriptions = Descriptions(self, self._robot, robot_file)
        try:
            self._load(provider)
            self._kinematics = descriptions.kinematics()
        finally:
            descriptions.close()
        self._wire()
        self._start_reporting()
        # A full collection would walk all of onnxruntime's and pinocchio's wrappers, for 50 ms and more; what
        # becomes garbage from now on is collected twice a second, with the diagnostics.
        gc.collect()
        gc.freeze()
        gc.disable()
        sys.setswitchinterval(SWITCH_INTERVAL_S)

    def _load(self, provider: Provider) -> None:
        """Bundle, network and buffers; the network is warm afterwards."""
        bundle = load_bundle(policy_bundle(self.get_parameter("policy").value))
        require(bundle, self._robot)
        self._bundle = bundle
        self._preprocessor = Preprocessor(bundle, self._robot)
        if self._prompt:
            self._check_prompt(self._prompt)
        self._buffers = ObservationBuffers(self._robot, self._preprocessor.cameras)
        # OpenCV's own threads do not share one small resize; ours share the cameras out.
        cv2.setNumThreads(1)
        self._policy = OnnxPolicy(bundle, provider, self.get_parameter("inference_threads").value or None)
        for _ in range(WARM_UP_RUNS):
            self._policy.warm_up()

    def _start_reporting(self) -> None:
        assert self._policy is not None
        self._diagnostics = DiagnosticsPublisher(self, self._refresh_diagnostics)
        self._diagnostics.value("policy", self._bundle.manifest.name)
        self._diagnostics.value("providers", ", ".join(self._policy.providers))
        report = check_dds()
        log = self.get_logger()
        (log.info if report.in_effect else log.warning)(report.text)

    def activate(self) -> None:
        """Start the threads; inference itself waits for `~/start`."""
        self._halt.clear()
        self._two_hands = TwoHands()
        self._threads = [
            threading.Thread(target=self._poll_forever, name="joints", daemon=True),
            threading.Thread(target=self._infer_forever, name="inference", daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        name = self._bundle.manifest.name
        self.get_logger().info(f"ready: policy '{name}' on {', '.join(self._policy.providers)}")  # type: ignore[union-attr]

    def deactivate(self) -> None:
        """Stop inferring and end the threads."""
        with self._wanted_lock:
            self._running = False
            self._epoch += 1
        self._halt.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._two_hands.close()
        self._threads = []
        self._wake.clear()

    def cleanup(self) -> None:
        """Release network, topics and buffers."""
        if self._receiver is not None:
            self._receiver.stop()
            self._receiver = None
        for subscription in self._ours:
            self.destroy_subscription(subscription)
        self._ours, self._joint_streams = [], []
        if self._diagnostics is not None:
            self._diagnostics.destroy()
            self._diagnostics = None
        if self._chunks is not None:
            self.destroy_publisher(self._chunks)
            self._chunks = None
        self._policy = self._preprocessor = None

    def _wire(self) -> None:
        """Publish chunks; listen to the prompt, the cameras, and the arms' and grippers' states."""
        self._chunks = self.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        self._ours.append(self.create_subscription(String, "vla/prompt", self._on_prompt, LATCHED))
        self._receiver = RawReceiver(self)
        for name in self._buffers.cameras:
            camera = self._robot.cameras[name]
            kind = Image if camera.transport == "raw" else CompressedImage
            callback = partial(self._on_image, name)
            self._ours.append(self._receiver.subscribe(kind, camera.topic, CAMERA_QOS, callback))
        for name, arm in self._robot.arms.items():
            streams = [(arm.states, partial(self._buffers.joint_states, name))]
            if arm.gripper is not None:
                streams.append((arm.gripper.states, partial(self._buffers.gripper_states, name)))
            for stream, push in streams:
                qos = QoSProfile(depth=1, reliability=ReliabilityPolicy[stream.reliability.upper()])
                subscription = polled_subscription(self, JointState, stream.topic, qos)
                self._ours.append(subscription)
                self._joint_streams.append((subscription, push))
        self._receiver.start()

    # --- receiver's thread --------------------------------------------------------------------------

    def _on_image(self, camera: str, cdr: bytes) -> None:
        with self._buffers_lock:
            self._buffers.image(camera, cdr)

    # --- callbacks (executor's thread) ------------------------------------------------------------

    def _on_prompt(self, message: String) -> None:
        self._set_prompt(message.data)
        self.get_logger().info(f"prompt: {_shown(message.data)}")
        try:
            self._check_prompt(message.data)
        except Refused as error:
            self._refused(error)

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "prompt" and self._preprocessor is not None:
                try:
                    self._check_prompt(parameter.value)
                except Refused as error:
                    return SetParametersResult(successful=False, reason=str(error))
        for parameter in parameters:
            if parameter.name == "prompt":
                self._set_prompt(parameter.value)
            elif parameter.name == "inference_rate_hz":
                self._period_s = 1.0 / parameter.value
        return SetParametersResult(successful=True)

    def _check_prompt(self, prompt: str) -> None:
        """Raise Refused when the policy cannot take it."""
        if self._preprocessor is not None:
            self._preprocessor.tokens(prompt)

    def _set_prompt(self, prompt: str) -> None:
        with self._wanted_lock:
            self._prompt = prompt
            self._epoch += 1  # a chunk that is being computed for the old prompt is not published

    def _start(self) -> str:
        if not self._threads:
            raise VlaRosError("policy_node is not active; activate it first (ros2 lifecycle set)")
        with self._wanted_lock:
            self._running = True
            prompt = self._prompt
        self._wake.set()
        return f"started: {_shown(prompt)}" if prompt else "started; waiting for a prompt"

    def _stop(self) -> str:
        with self._wanted_lock:
            self._running = False
            self._epoch += 1
        return "stopped"

    def _reset(self) -> str:
        """Forget what was seen (and faults like a changed encoding) and begin the noise anew."""
        if self._policy is None:
            raise VlaRosError("policy_node is not configured")
        with self._wanted_lock:
            self._epoch += 1
        with self._buffers_lock:
            self._buffers.reset()
        return "reset"

    # --- joints thread ------------------------------------------------------------------------------

    def _poll_forever(self) -> None:
        while not self._halt.wait(JOINT_PERIOD_S):
            self._poll_joints()

    def _poll_joints(self) -> None:
        with self._buffers_lock:
            for subscription, push in self._joint_streams:
                if (cdr := take_latest(subscription)) is not None:
                    push(cdr)

    # --- inference thread -----------------------------------------------------------------------------

    def _infer_forever(self) -> None:
        """One attempt per period while started. Nothing ends this thread but deactivation."""
        due = time.monotonic()
        last_epoch, last_stamp = -1, 0
        while not self._halt.is_set():
            with self._wanted_lock:
                running, epoch, prompt = self._running, self._epoch, self._prompt
            if not running:
                self._wake.wait()
                self._wake.clear()
                due = time.monotonic()
                continue
            if epoch != last_epoch:
                self._policy.reset()  # type: ignore[union-attr]
                last_epoch, last_stamp = epoch, 0
            try:
                last_stamp = self._infer_once(epoch, prompt, last_stamp)
            except Refused as error:
                self._refused(error)
            except Exception as error:
                # The robot is kept safe by control_node, which gets no chunk; this node says why and lives.
                self._refused(Refused("exception", f"inference failed: {error!r}"), traceback.format_exc())
            now = time.monotonic()
            due = max(due + self._period_s, now)
            self._halt.wait(due - now)

    def _infer_once(self, epoch: int, prompt: str, last_stamp: int) -> int:
        """Observe, infer and publish; returns the observation's stamp. No new image: nothing is done."""
        begin = time.perf_counter()
        self._poll_joints()
        with self._buffers_lock:
            now_ns = self.get_clock().now().nanoseconds
            observation = assemble(self._buffers, self._robot, now_ns, prompt, self._kinematics)
        if observation.stamp_ns == last_stamp:
            return last_stamp
        aligned = time.perf_counter()
        inputs = self._preprocessor(observation, self._two_hands)  # type: ignore[misc]
        preprocessed = time.perf_counter()
        raw = self._policy.infer(inputs)  # type: ignore[union-attr]
        inferred = time.perf_counter()
        chunk = decode(raw, observation, self._bundle.manifest, self._bundle.action, self._robot.arms)
        decoded = time.perf_counter()
        if not self._publish(epoch, chunk):
            return observation.stamp_ns
        published = time.perf_counter()
        diagnostics = self._diagnostics
        if diagnostics is not None:
            diagnostics.sample("align_ms", (aligned - begin) * 1e3)
            diagnostics.sample("preprocess_ms", (preprocessed - aligned) * 1e3)
            diagnostics.sample("inference_ms", (inferred - preprocessed) * 1e3)
            diagnostics.sample("decode_ms", (decoded - inferred) * 1e3)
            diagnostics.sample("glue_ms", (preprocessed - begin + published - inferred) * 1e3)
            diagnostics.count("chunks")
            diagnostics.state(OK, "ok")
        return observation.stamp_ns

    def _publish(self, epoch: int, chunk: ActionChunk) -> bool:
        """Publish unless stop, reset or another prompt came meanwhile."""
        message = to_cdr(chunk)
        with self._wanted_lock:
            if epoch != self._epoch or not self._running:
                return False
            self._chunks.publish(message)
        return True

    # --- reports --------------------------------------------------------------------------------------

    def _refused(self, error: Refused, failure: str = "") -> None:
        """Count it, show it in the diagnostics, and log each reason at most once a second.

        failure: the traceback, where it is this node's own fault.
        """
        if self._diagnostics is not None:
            self._diagnostics.count(f"refused.{error.reason}")
            self._diagnostics.state(ERROR if failure else WARN, f"{error.reason}: {error}")
        now = time.monotonic()
        if now - self._logged.get(error.reason, -LOG_PERIOD_S) >= LOG_PERIOD_S:
            self._logged[error.reason] = now
            log = self.get_logger()
            if failure:
                log.error(f"no chunk ({error.reason}): {failure}")
            else:
                log.warning(f"no chunk ({error.reason}): {error}")

    def _refresh_diagnostics(self) -> None:
        collect_young()
        diagnostics = self._diagnostics
        if diagnostics is None:
            return
        with self._wanted_lock:
            diagnostics.value("running", str(self._running).lower())
            diagnostics.value("prompt", _shown(self._prompt))
        with self._buffers_lock:
            received = {name: ring.received for name, ring in self._buffers.cameras.items()}
            missed = {name: ring.missed for name, ring in self._buffers.cameras.items()}
            dropped = {stream: dict(ring.dropped) for stream, ring in self._buffers.rings.items()}
        now = time.monotonic()
        self._arrivals.append((now, received))
        while now - self._arrivals[0][0] > RATE_WINDOW_S and len(self._arrivals) > 2:
            self._arrivals.popleft()
        since, before = self._arrivals[0]
        for name, count in received.items():
            rate = (count - before[name]) / (now - since) if now > since else 0.0
            diagnostics.value(f"frames.{name}.received", count)
            diagnostics.value(f"frames.{name}.rate_hz", rate)
            diagnostics.value(f"frames.{name}.missed", missed[name])
        for stream, reasons in dropped.items():
            for reason, count in reasons.items():
                diagnostics.value(f"dropped.{stream}.{reason}", count)


def _shown(prompt: str) -> str:
    """A prompt for a log line."""
    return repr(prompt if len(prompt) <= 100 else f"{prompt[:97]}...")


def main() -> None:
    """Entry point of the process."""
    sys.exit(run(PolicyNode))


if __name__ == "__main__":
    main()
