"""policy_node: camera and joint topics in, action chunks out.

Threads. The executor's thread runs services, parameters and the prompt, which change what is wanted. The
`inference` thread takes the newest observation, runs the network and publishes. What they share is guarded
by `_wanted_lock` (prompt, running, epoch, pace, source). `PolicyInputs` has threads and a lock of its own; no
lock is taken while another is held.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
import traceback
from typing import Any

import cv2
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.chunk_cdr import to_cdr
from vla_ros.action.decode import decode, first_rows
from vla_ros.errors import Refused, VlaRosError
from vla_ros.nodes.descriptions import Descriptions
from vla_ros.nodes.lifecycle import ManagedNode, declare, run, trigger_service
from vla_ros.nodes.policy_inputs import PolicyInputs
from vla_ros.nodes.policy_parameters import NAMES, declare_pace, read_pace
from vla_ros.nodes.policy_report import PolicyReport, shown
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.realtime import SWITCH_INTERVAL_S, collect_young
from vla_ros.nodes.transport import check_dds
from vla_ros.nodes.two_hands import TwoHands
from vla_ros.observation.history import Window
from vla_ros.observation.proprioception import with_predicted_state
from vla_ros.policy.bundle import MANIFEST, load_bundle, sha256_of
from vla_ros.policy.contract import require
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.onnx_session import PROVIDERS, Provider
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.rtc import Continuation
from vla_ros.policy.trigger import Pace, Trigger
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.load import load_robot
from vla_ros.types import ActionChunk, Observation

WARM_UP_RUNS = 3
NS = 1_000_000_000
# While waiting for a chunk's rows, so long at most until the clocks are looked at again: they may jump.
WAIT_S = 0.02
# How long to wait for an image before the streams are judged again, and after a refusal.
FRESH_S, RETRY_S = 0.02, 0.05


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
        declare_pace(self)
        declare(self, "inference_threads", 0, "Threads of onnxruntime; 0: half of the cores.", 0, 256)
        declare(self, "provider", "cpu", f"What the network runs on: {', '.join(PROVIDERS)}.")
        self._wanted_lock = threading.Lock()
        self._wake = threading.Event()
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._ours: list[Any] = []
        self._chunks: Any = None
        self._inputs: PolicyInputs | None = None
        self._report: PolicyReport | None = None
        self._policy: OnnxPolicy | None = None
        self._preprocessor: Preprocessor | None = None
        self._prompt = str(self.get_parameter("prompt").value)
        self._running = False
        self._epoch = 0
        self._pace = read_pace(self)
        self._source = "policy"
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
        # A full collection would walk all of onnxruntime's and pinocchio's wrappers, for 50 ms and more; what
        # becomes garbage from now on is collected twice a second, with the diagnostics.
        gc.collect()
        gc.freeze()
        gc.disable()
        sys.setswitchinterval(SWITCH_INTERVAL_S)

    def _load(self, provider: Provider) -> None:
        """Bundle and network, which is warm afterwards."""
        bundle = load_bundle(policy_bundle(self.get_parameter("policy").value))
        require(bundle, self._robot)
        self._pace = read_pace(self, horizon=bundle.manifest.outputs.horizon)
        self._bundle = bundle
        self._continuation = Continuation(bundle.manifest, bundle.action, self._robot)
        self._say_what_rtc_is(self._pace)
        self._preprocessor = Preprocessor(bundle, self._robot)
        if self._prompt:
            self._check_prompt(self._prompt)
        # OpenCV's own threads do not share one small resize; ours share the cameras out.
        cv2.setNumThreads(1)
        self._policy = OnnxPolicy(bundle, provider, self.get_parameter("inference_threads").value or None)
        for _ in range(WARM_UP_RUNS):
            self._policy.warm_up()

    def _wire(self) -> None:
        """Publish chunks and reports; listen to the prompt and to the robot."""
        assert self._policy is not None and self._preprocessor is not None
        self._chunks = self.create_publisher(JointTrajectory, "vla/action_chunk", 10)
        self._ours = [
            self.create_subscription(String, "vla/prompt", self._on_prompt, LATCHED),
            self.create_subscription(String, "vla/control_source", self._on_source, LATCHED),
        ]
        looked_at, optional = self._preprocessor.cameras, self._preprocessor.optional_cameras
        inputs = self._bundle.manifest.inputs
        self._inputs = PolicyInputs(
            self, self._robot, looked_at, optional, inputs.window, inputs.tells_base_velocity
        )
        self._report = PolicyReport(self, self._refresh)
        self._report.diagnostics.value("policy", self._bundle.manifest.name)
        self._report.diagnostics.value("policy_sha256", sha256_of(self._bundle.path(MANIFEST)))
        self._report.diagnostics.value("providers", ", ".join(self._policy.providers))
        self._report.status("inactive")
        dds = check_dds("received")
        log = self.get_logger()
        (log.info if dds.in_effect else log.warning)(dds.text)

    def activate(self) -> None:
        """Start the threads; inference itself waits for `~/start`."""
        assert self._inputs is not None and self._report is not None and self._policy is not None
        self._halt.clear()
        self._two_hands = TwoHands()
        self._inputs.start()
        self._thread = threading.Thread(target=self._infer_forever, name="inference", daemon=True)
        self._thread.start()
        name = self._bundle.manifest.name
        self.get_logger().info(f"ready: policy '{name}' on {', '.join(self._policy.providers)}")

    def deactivate(self) -> None:
        """Stop inferring and end the threads."""
        with self._wanted_lock:
            self._running = False
            self._epoch += 1
        self._halt.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._two_hands.close()
            self._thread = None
        if self._inputs is not None:
            self._inputs.stop()
        if self._report is not None:
            self._report.status("inactive")
        self._wake.clear()

    def cleanup(self) -> None:
        """Release network, topics and buffers."""
        if self._inputs is not None:
            self._inputs.destroy()
            self._inputs = None
        if self._report is not None:
            self._report.destroy()
            self._report = None
        for subscription in self._ours:
            self.destroy_subscription(subscription)
        self._ours = []
        if self._chunks is not None:
            self.destroy_publisher(self._chunks)
            self._chunks = None
        self._policy = self._preprocessor = None

    # --- callbacks (executor's thread) ------------------------------------------------------------

    def _on_prompt(self, message: String) -> None:
        self._set_prompt(message.data)
        self.get_logger().info(f"prompt: {shown(message.data)}")
        try:
            self._check_prompt(message.data)
        except Refused as error:
            if self._report is not None:
                self._report.refused(error)

    def _on_source(self, message: String) -> None:
        """Who commands the robot: while it is not the policy, no chunk of it is being carried out."""
        with self._wanted_lock:
            self._source = message.data

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """All or nothing: what cannot be is refused with its reason."""
        changes = {parameter.name: parameter.value for parameter in parameters}
        paced = {name: value for name, value in changes.items() if name in NAMES}
        horizon = self._bundle.manifest.outputs.horizon if self._policy is not None else None
        try:
            if "prompt" in changes:
                self._check_prompt(changes["prompt"])
            pace = read_pace(self, paced, horizon)
        except VlaRosError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if "prompt" in changes:
            self._set_prompt(changes["prompt"])
        if self._policy is not None and pace.mode != self._pace.mode:
            self._say_what_rtc_is(pace)
        with self._wanted_lock:
            self._pace = pace
        self._wake.set()
        return SetParametersResult(successful=True)

    def _say_what_rtc_is(self, pace: Pace) -> None:
        if pace.mode == "rtc" and self._bundle.manifest.sampler.rtc == "none":
            name = self._bundle.manifest.name
            self.get_logger().warning(
                f"policy '{name}' has no real-time chunking: mode rtc acts as crossfade"
            )

    def _check_prompt(self, prompt: str) -> None:
        """Raise Refused when the policy cannot take it."""
        if self._preprocessor is not None:
            self._preprocessor.check_prompt(prompt)

    def _set_prompt(self, prompt: str) -> None:
        with self._wanted_lock:
            self._prompt = prompt
            self._epoch += 1  # a chunk that is being computed for the old prompt is not published

    def _start(self) -> str:
        if self._thread is None:
            raise VlaRosError("policy_node is not active; activate it first (ros2 lifecycle set)")
        with self._wanted_lock:
            self._running = True
            prompt = self._prompt
        self._wake.set()
        return f"started: {shown(prompt)}" if prompt else "started; waiting for a prompt"

    def _stop(self) -> str:
        with self._wanted_lock:
            self._running = False
            self._epoch += 1
        return "stopped"

    def _reset(self) -> str:
        """Forget what was seen (and faults like a changed encoding) and begin the noise anew."""
        if self._inputs is None:
            raise VlaRosError("policy_node is not configured")
        with self._wanted_lock:
            self._epoch += 1
        self._inputs.reset()
        return "reset"

    # --- inference thread -----------------------------------------------------------------------------

    def _infer_forever(self) -> None:
        """Infer while started, when the trigger says so. Nothing ends this thread but deactivation."""
        assert self._policy is not None and self._report is not None and self._inputs is not None
        trigger = Trigger()
        last_epoch, last_ns, since_ns = -1, 0, 0
        while not self._halt.is_set():
            with self._wanted_lock:
                running, epoch, prompt, pace = self._running, self._epoch, self._prompt, self._pace
                followed = self._source == "policy"
            if not followed:
                self._continuation.forget()
            if not running:
                self._report.status("ready")
                self._wake.wait()
                self._wake.clear()
                continue
            if epoch != last_epoch:
                self._policy.reset()
                trigger.reset()
                self._continuation.forget()
                last_epoch, last_ns, since_ns = epoch, 0, self._now_ns()
            wait_ns = trigger.wait_ns(pace, time.monotonic_ns(), self._now_ns())
            if wait_ns > 0:
                self._wake.wait(min(wait_ns / NS, WAIT_S))
                self._wake.clear()
                continue
            try:
                self._inputs.fresh.clear()
                after_ns = trigger.observe_after_ns(pace, self._now_ns())
                # Else an episode would begin in the future after the clock was set back.
                since_ns = min(since_ns, self._now_ns())
                begin = time.perf_counter()
                seen = self._inputs.observe(prompt, self._kinematics, last_ns, after_ns, since_ns)
                if seen is None:
                    self._inputs.fresh.wait(FRESH_S)
                    continue
                trigger.begun(pace, time.monotonic_ns())
                last_ns = seen[0].stamp_ns
                chunk, glue_s = self._infer(*seen, pace, begin)
                self._publish(epoch, seen[0], chunk, pace, trigger, glue_s)
            except Refused as error:
                self._report.refused(error)
                self._halt.wait(RETRY_S)
            except Exception as error:
                # The robot is kept safe by control_node, which gets no chunk; this node says why and lives.
                failure = Refused("exception", f"inference failed: {error!r}")
                self._report.refused(failure, traceback.format_exc())
                self._halt.wait(RETRY_S)

    def _infer(
        self, observation: Observation, window: Window | None, pace: Pace, begin: float
    ) -> tuple[ActionChunk, float]:
        """The policy's chunk, whole, and the seconds spent beside the network.

        window: the history, where the policy sees one. begin: when observing began, of time.perf_counter.
        """
        assert self._policy is not None and self._preprocessor is not None and self._report is not None
        aligned = time.perf_counter()
        shown = observation
        if self._bundle.manifest.inputs.proprioception == "last_prediction":
            shown = with_predicted_state(observation, self._continuation.last)
        inputs = self._preprocessor(shown, self._two_hands, window)
        guidance = None
        if pace.mode == "rtc" and self._policy.rtc != "none":
            guidance = self._continuation.guidance(observation, pace.speed)
        preprocessed = time.perf_counter()
        raw = self._policy.infer(inputs, guidance=guidance)
        inferred = time.perf_counter()
        chunk = decode(
            raw,
            observation,
            self._bundle.manifest,
            self._bundle.action,
            self._robot,
            pace.speed,
            self._continuation.last,
        )
        decoded = time.perf_counter()
        diagnostics = self._report.diagnostics
        diagnostics.sample("align_ms", (aligned - begin) * 1e3)
        diagnostics.sample("preprocess_ms", (preprocessed - aligned) * 1e3)
        diagnostics.sample("inference_ms", (inferred - preprocessed) * 1e3)
        diagnostics.sample("decode_ms", (decoded - inferred) * 1e3)
        if self._preprocessor.optional_cameras:
            missing = [name for name in self._preprocessor.cameras if name not in observation.images]
            diagnostics.value("views_missing", ", ".join(missing))
        if guidance is not None:
            diagnostics.count("chunks_guided")
            diagnostics.value("rtc_frozen_rows", guidance.frozen)
        return chunk, preprocessed - begin + decoded - inferred

    def _publish(
        self,
        epoch: int,
        observation: Observation,
        chunk: ActionChunk,
        pace: Pace,
        trigger: Trigger,
        glue_s: float,
    ) -> None:
        """Publish the rows that are to be executed, unless stop, reset or another prompt came meanwhile."""
        assert self._report is not None
        begin = time.perf_counter()
        sent = first_rows(chunk, pace.execute_steps) if pace.execute_steps else chunk
        message = to_cdr(sent)
        with self._wanted_lock:
            if epoch != self._epoch or not self._running:
                return
            self._chunks.publish(message)
        now_ns = self._now_ns()
        dt_ns = round(self._bundle.manifest.outputs.step_s / pace.speed * NS)
        trigger.published(sent.due_ns, dt_ns, now_ns)
        self._continuation.published(chunk, sent, observation, now_ns)
        self._report.diagnostics.sample("glue_ms", (glue_s + time.perf_counter() - begin) * 1e3)
        self._report.diagnostics.sample("observation_age_ms", (now_ns - chunk.stamp_ns) / 1e6)
        self._report.published()

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    # --- reports --------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """The slow figures, just before the diagnostics are published."""
        collect_young()
        if self._report is None or self._inputs is None:
            return
        with self._wanted_lock:
            running, prompt, pace = self._running, self._prompt, self._pace
        self._report.inputs(self._inputs.report())
        self._report.wanted(running, prompt, pace, self._bundle.manifest.sampler.rtc)


def main() -> None:
    """Entry point of the process."""
    sys.exit(run(PolicyNode, images="received"))


if __name__ == "__main__":
    main()
