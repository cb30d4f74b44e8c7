"""policy_node: camera and joint topics in, action chunks out.

Threads. The executor's thread runs services, parameters and topics, which change what is `Wanted`; the thread
of `Inference` takes the newest observation, runs the network and publishes. `PolicyInputs` has threads of its
own. No lock is taken while another is held.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from typing import Any

import cv2
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from std_msgs.msg import String
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import Refused, VlaRosError
from vla_ros.nodes.chunk_maker import ChunkMaker
from vla_ros.nodes.descriptions import Descriptions
from vla_ros.nodes.inference import Inference
from vla_ros.nodes.lifecycle import ManagedNode, declare, run, trigger_service
from vla_ros.nodes.policy_inputs import PolicyInputs
from vla_ros.nodes.policy_parameters import NAMES, declare_pace, read_pace
from vla_ros.nodes.policy_report import PolicyReport, shown
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.realtime import SWITCH_INTERVAL_S, collect_young
from vla_ros.nodes.transport import check_dds
from vla_ros.nodes.wanted import Wanted
from vla_ros.policy.bundle import MANIFEST, load_bundle, sha256_of
from vla_ros.policy.contract import require
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.onnx_session import PROVIDERS, Provider
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.trigger import Pace
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot

WARM_UP_RUNS = 3


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
        self._wanted = Wanted(str(self.get_parameter("prompt").value), read_pace(self))
        self._ours: list[Any] = []
        self._chunks: Any = None
        self._inputs: PolicyInputs | None = None
        self._report: PolicyReport | None = None
        self._policy: OnnxPolicy | None = None
        self._preprocessor: Preprocessor | None = None
        self._inference: Inference | None = None
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
            kinematics = descriptions.kinematics()
        finally:
            descriptions.close()
        self._wire(kinematics)
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
        pace = read_pace(self, horizon=bundle.manifest.outputs.horizon)
        self._wanted.pace(pace)
        self._bundle = bundle
        self._say_what_rtc_is(pace)
        self._preprocessor = Preprocessor(bundle, self._robot)
        if prompt := self._wanted.now.prompt:
            self._check_prompt(prompt)
        # OpenCV's own threads do not share one small resize; ours share the cameras out.
        cv2.setNumThreads(1)
        self._policy = OnnxPolicy(bundle, provider, self.get_parameter("inference_threads").value or None)
        for _ in range(WARM_UP_RUNS):
            self._policy.warm_up()

    def _wire(self, kinematics: Mapping[str, Kinematics]) -> None:
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
        self._report.prompt(self._wanted.now.prompt)
        self._inference = Inference(
            self._wanted,
            ChunkMaker(self._bundle, self._robot, self._preprocessor, self._policy, self._report.diagnostics),
            self._inputs,
            kinematics,
            self._report,
            self._chunks.publish,
            lambda: int(self.get_clock().now().nanoseconds),
        )
        dds = check_dds("received")
        log = self.get_logger()
        (log.info if dds.in_effect else log.warning)(dds.text)

    def activate(self) -> None:
        """Start the threads; inference itself waits for `~/start`."""
        assert self._inputs is not None and self._inference is not None and self._policy is not None
        self._inputs.start()
        self._inference.start()
        name = self._bundle.manifest.name
        self.get_logger().info(f"ready: policy '{name}' on {', '.join(self._policy.providers)}")

    def deactivate(self) -> None:
        """Stop inferring and end the threads."""
        self._wanted.stop()
        if self._inference is not None:
            self._inference.stop()
        if self._inputs is not None:
            self._inputs.stop()
        if self._report is not None:
            self._report.status("inactive")

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
        self._policy = self._preprocessor = self._inference = None

    # --- callbacks (executor's thread) ------------------------------------------------------------

    def _on_prompt(self, message: String) -> None:
        self._follow(message.data)
        self.get_logger().info(f"prompt: {shown(message.data)}")
        try:
            self._check_prompt(message.data)
        except Refused as error:
            if self._report is not None:
                self._report.refused(error)

    def _follow(self, prompt: str) -> None:
        """Let this be the prompt in force, and say so."""
        self._wanted.prompt(prompt)
        if self._report is not None:
            self._report.prompt(prompt)

    def _on_source(self, message: String) -> None:
        """Who commands the robot: while it is not the policy, no chunk of it is being carried out."""
        self._wanted.source(message.data)

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
            self._follow(changes["prompt"])
        if self._policy is not None and pace.mode != self._wanted.now.pace.mode:
            self._say_what_rtc_is(pace)
        self._wanted.pace(pace)
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

    def _start(self) -> str:
        if self._inference is None or not self._inference.runs:
            raise VlaRosError("policy_node is not active; activate it first (ros2 lifecycle set)")
        self._wanted.start()
        prompt = self._wanted.now.prompt
        if self._bundle.manifest.inputs.prompt is None:
            return "started: the policy takes no prompt"
        return f"started: {shown(prompt)}" if prompt else "started; waiting for a prompt"

    def _stop(self) -> str:
        self._wanted.stop()
        return "stopped"

    def _reset(self) -> str:
        """Forget what was seen (and faults like a changed encoding) and begin the noise anew."""
        if self._inputs is None:
            raise VlaRosError("policy_node is not configured")
        self._wanted.anew()
        self._inputs.reset()
        return "reset"

    # --- reports --------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """The slow figures, just before the diagnostics are published."""
        collect_young()
        if self._report is None or self._inputs is None:
            return
        wish = self._wanted.now
        self._report.inputs(self._inputs.report())
        self._report.wanted(wish.running, wish.prompt, wish.pace, self._bundle.manifest.sampler.rtc)


def main() -> None:
    """Entry point of the process."""
    sys.exit(run(PolicyNode, images="received"))


if __name__ == "__main__":
    main()
