"""Observation -> ActionChunk: what lies between a robot's streams and its targets, with the time it takes."""

from __future__ import annotations

import time
from dataclasses import replace

from vla_ros.action.decode import decode
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.nodes.two_hands import TwoHands
from vla_ros.observation.history import Window
from vla_ros.observation.proprioception import at_training_speed, with_predicted_state
from vla_ros.policy.bundle import Bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.rtc import Continuation
from vla_ros.policy.trigger import Pace
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation


class ChunkMaker:
    """Makes each chunk as the continuation of the one before. Not thread-safe."""

    def __init__(
        self,
        bundle: Bundle,
        robot: Robot,
        preprocessor: Preprocessor,
        policy: OnnxPolicy,
        diagnostics: DiagnosticsPublisher,
    ) -> None:
        self._bundle, self._robot = bundle, robot
        self._preprocessor, self._policy = preprocessor, policy
        self._diagnostics = diagnostics
        self._continuation = Continuation(bundle.manifest, bundle.action, robot)
        self.step_s = bundle.manifest.outputs.step_s

    def reset(self) -> None:
        """A new episode: the noise begins anew, and the next chunk continues nothing."""
        self._policy.reset()
        self._continuation.forget()

    def forget(self) -> None:
        """The robot does something else than the last chunk."""
        self._continuation.forget()

    def make(
        self, observation: Observation, window: Window | None, pace: Pace, each: TwoHands, begin: float
    ) -> tuple[ActionChunk, float]:
        """The policy's chunk, whole, and the seconds spent beside the network.

        window: the history, where the policy sees one. each: goes through the pictures. begin: when observing
        began, of time.perf_counter. Raises Refused as preprocessing, inference and decoding do.
        """
        aligned = time.perf_counter()
        shown = observation
        if self._bundle.manifest.inputs.proprioception == "last_prediction":
            shown = with_predicted_state(observation, self._continuation.last)
        # Shown alone: what chunks are made and continued from stays as it was measured.
        shown = at_training_speed(shown, pace.speed)
        if window is not None:
            past = tuple(at_training_speed(seen, pace.speed) for seen in window.observations)
            window = replace(window, observations=past)
        inputs = self._preprocessor(shown, each, window)
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
        diagnostics = self._diagnostics
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

    def published(self, chunk: ActionChunk, sent: ActionChunk, observation: Observation, now_ns: int) -> None:
        """`chunk` was published now, of which `sent` is what went out."""
        self._continuation.published(chunk, sent, observation, now_ns)
