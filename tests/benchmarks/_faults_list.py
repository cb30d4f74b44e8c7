"""The faults, by the graph that they are injected into."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from vla_ros.benchmarks._faults_case import ITSELF, RESET, START, Bound, Fault
from vla_ros.benchmarks._faults_stage import IN_MOTION, Stage
from vla_ros.errors import VlaRosError
from vla_ros.observation.frozen import MOVED, STAMPED_LATE_NS
from vla_ros.policy.bundle import load_bundle
from vla_ros.resources import policy_bundle

INFERENCE_PERIOD_MS = 100.0
HOGS_PER_CORE = 2
SLOWER, SLICE_S = 10, 0.01
GLITCH = {"what": "jump", "joint": 3, "by": 1.0}


# Bounds --------------------------------------------------------------------------------------------------


def chunk_timeout(stage: Stage) -> Bound:
    """The policy's silence."""
    return Bound(stage.robot.safety.chunk_timeout_ms + stage.period_s * 1e3, "chunk_timeout_ms + a period")


def joint_timeout(stage: Stage) -> Bound:
    """The joint states' silence."""
    return Bound(
        stage.robot.safety.joint_states_timeout_ms + stage.period_s * 1e3,
        "joint_states_timeout_ms + a period",
    )


def camera_age(stage: Stage) -> Bound:
    """A camera's silence: noticed at the next inference after its age is too great."""
    age = max(camera.max_age_ms for camera in stage.robot.cameras.values())
    return Bound(age + INFERENCE_PERIOD_MS, "cameras max_age_ms + an inference period")


def frozen_picture(stage: Stage) -> Bound:
    """A camera whose picture stays: only a moving arm shows it."""
    moved_ms = 1e3 * MOVED / IN_MOTION + STAMPED_LATE_NS / 1e6
    return Bound(camera_age(stage).ms + moved_ms, "max_age_ms + an inference period + 0.02 rad of motion")


def first_row(stage: Stage) -> Bound:
    """A chunk that must not be acted on: before its first row is due."""
    dt_s = load_bundle(policy_bundle("franka_pick")).manifest.outputs.step_s
    return Bound(dt_s * 1e3, "the chunk's first row is due")


def far_from_command(stage: Stage) -> Bound:
    """An arm that does not follow: the command has to get first_command_joint ahead of it first."""
    most, observer = stage.robot.safety.first_command_joint, stage.observer
    times = np.array([at for at, _ in observer.joints])
    far_ms = next(
        (
            (at - stage.begin_ns) / 1e6
            for at, q in observer.commands
            if at > stage.begin_ns
            and np.max(np.abs(q - observer.joints[max(int(np.searchsorted(times, at)) - 1, 0)][1])) > most
        ),
        0.0,
    )
    return Bound(far_ms + 2e3 * stage.period_s, "first_command_joint exceeded + two control periods")


def two_periods(stage: Stage) -> Bound:
    """One period until it is read, one until it is said."""
    return Bound(2e3 * stage.period_s, "two control periods")


# What is done --------------------------------------------------------------------------------------------


def nothing(stage: Stage) -> None:
    """The fault ends by itself."""


def end_policy(stage: Stage) -> None:
    stage.end("policy_node", signal.SIGKILL)


def kill_and_start_policy(stage: Stage) -> None:
    end_policy(stage)
    stage.start("policy_node")


def policy_ready(stage: Stage) -> None:
    stage.wait(lambda: "ready: policy" in stage.tail("policy_node"), 60.0, "policy_node to be ready again")


def policy_back(stage: Stage) -> None:
    stage.start("policy_node")
    policy_ready(stage)


def stop(node: str) -> Callable[[Stage], None]:
    return lambda stage: stage.signal(node, signal.SIGSTOP)


def go_on(node: str) -> Callable[[Stage], None]:
    return lambda stage: stage.signal(node, signal.SIGCONT)


class Slowed:
    """policy_node with a tenth of its processor time: stopped for nine slices of ten."""

    def __init__(self) -> None:
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, stage: Stage) -> None:
        self._halt.clear()
        self._thread = threading.Thread(target=self._run, args=(stage,), daemon=True)
        self._thread.start()

    def end(self, stage: Stage) -> None:
        assert self._thread is not None
        self._halt.set()
        self._thread.join()

    def _run(self, stage: Stage) -> None:
        while not self._halt.is_set():
            stage.signal("policy_node", signal.SIGSTOP)
            time.sleep((SLOWER - 1) * SLICE_S)
            stage.signal("policy_node", signal.SIGCONT)
            time.sleep(SLICE_S)


class Hogs:
    """Processes that compute for ever."""

    def __init__(self) -> None:
        self._children: list[subprocess.Popen[bytes]] = []

    def begin(self, stage: Stage) -> None:
        argv = (sys.executable, "-c", "while True: pass")
        count = HOGS_PER_CORE * len(os.sched_getaffinity(0))
        self._children = [stage.run_beside(argv) for _ in range(count)]

    def end(self, stage: Stage) -> None:
        for child in self._children:
            child.kill()
            child.wait()


def publish_nan(stage: Stage) -> None:
    """The policy's newest chunk once more, with one number that is none."""
    chunk: Any = copy.deepcopy(deserialize_message(stage.observer.chunks[-1][1], JointTrajectory))
    chunk.points[0].positions[0] = float("nan")
    stage.publish_chunk(chunk)


def press(stage: Stage) -> None:
    stage.estop(True)


def release(stage: Stage) -> None:
    stage.estop(False)


def only_control_started(stage: Stage) -> None:
    stage.operator.trigger("control_node/start")
    stage.operator.sleep(0.3)


def homing(stage: Stage) -> None:
    stage.start_moving()
    stage.operator.sleep(1.0)
    stage.operator.trigger("policy_node/stop")
    stage.operator.trigger("control_node/stop")
    stage.operator.trigger("control_node/home")
    stage.wait(
        lambda: stage.observer.source == "home" and stage.observer.commanded_speed() > 0.02,
        5.0,
        "the arm to be on its way home",
    )


def stopping(stage: Stage) -> None:
    stage.start_moving()
    client = stage.node.create_client(Trigger, "control_node/stop")
    stage.wait(client.service_is_ready, 5.0, "control_node/stop")
    client.call_async(Trigger.Request())
    stage.wait(lambda: stage.observer.source == "hold", 5.0, "the arm to be stopping")
    if stage.observer.commanded_speed() <= 0:
        raise VlaRosError("the arm had stopped before the emergency stop came")


def spoil(stream: str, kind: str, **how: Any) -> Callable[[Stage], None]:
    return lambda stage: stage.spoil(stream, kind, **how)


def unspoiled(stream: str) -> Callable[[Stage], None]:
    return spoil(stream, "pass")


def shift(offset_s: float) -> Callable[[Stage], None]:
    return lambda stage: stage.shift_clock(offset_s)


# The faults ----------------------------------------------------------------------------------------------


def estop(state: str, prepare: Callable[[Stage], object]) -> Fault:
    return Fault(
        f"e-stop while {state}", press, release, 1.0, "holds", two_periods, source="estop",
        recovery=(RESET,), prepare=prepare,
    )  # fmt: skip


def camera(name: str, kind: str, bound: Any = camera_age, arm: str = "holds", **how: Any) -> Fault:
    words = r"no chunk \((stale|frozen|skew|back_in_time)"
    return Fault(name, spoil("front", kind, **how), unspoiled("front"), 3.5, arm, bound, words)


def joints(
    name: str, kind: str, bound: Any, arm: str, recovery: tuple[str, ...] = (ITSELF,), **how: Any
) -> Fault:
    words = "joint_states|joint states|glitch"
    return Fault(name, spoil("joints", kind, **how), unspoiled("joints"), 2.0, arm, bound, words, recovery)


def plain() -> list[Fault]:
    """Faults of processes and of what they are told."""
    slow, hogs = Slowed(), Hogs()
    gone = partial(Fault, arm="holds", bound=chunk_timeout, words="policy_gone|stale_chunk")
    return [
        gone("policy process killed", end_policy, policy_back, 3.0, recovery=(START,)),
        gone("policy process hung (SIGSTOP)", stop("policy_node"), go_on("policy_node"), 3.0),
        gone("policy process restarted", kill_and_start_policy, policy_ready, 3.0, recovery=(START,)),
        Fault("policy 10 times slower for 2 s", slow.begin, slow.end, 2.0, "either", None),
        Fault("chunk with a NaN", publish_nan, nothing, 1.0, "moves", first_row, r"refused \(nan"),
        Fault("2 busy processes per core", hogs.begin, hogs.end, 4.0, "moves", None),
        Fault(
            "control process hung (SIGSTOP)", stop("control_node"), go_on("control_node"), 2.0, "holds", None
        ),
        Fault(
            "driver hung (SIGSTOP)", stop("sim_node"), go_on("sim_node"), 2.0, "holds", joint_timeout,
            "joint_states", driver_runs=False,
        ),
        estop("idle", nothing),
        estop("waiting", only_control_started),
        estop("policy", Stage.start_moving),
        estop("homing", homing),
        estop("stopping", stopping),
    ]  # fmt: skip


def relayed() -> list[Fault]:
    """Faults of the driver's streams."""
    return [
        camera("one camera dead", "dead"),
        camera("one camera frozen (same stamp)", "repeat"),
        camera("one camera frozen (new stamps)", "restamp", frozen_picture),
        camera("one camera late by 500 ms", "late", amount=0.5),
        camera("one camera at 5 Hz", "thin", amount=5.0, bound=None, arm="either"),
        joints("joint states dead", "dead", joint_timeout, "holds"),
        joints("joint states at 5 Hz", "thin", joint_timeout, "either", amount=5.0),
        joints("joint names reordered", "rewrite", None, "moves", rewrite={"what": "reorder"}),
        joints("one joint reads 1 rad more, once", "rewrite", None, "moves", count=1, rewrite=GLITCH),
        joints(
            "one joint reads 1 rad more, for 2 s", "rewrite", joint_timeout, "holds", rewrite=GLITCH,
            recovery=(ITSELF, START, RESET),
        ),
        Fault(
            "driver does not obey", spoil("commands", "dead"), unspoiled("commands"), 3.0, "holds",
            far_from_command, "not_following", (START, RESET), driver_hears=False,
        ),
    ]  # fmt: skip


def clock() -> list[Fault]:
    """Faults of simulated time."""
    jump = partial(Fault, mend=nothing, lasts_s=2.0, arm="either", bound=joint_timeout, words="clock|joint")
    return [
        jump("clock stepped by +10 s", shift(10.0)),
        jump("clock stepped by -10 s", shift(0.0)),
        Fault(
            "clock stands still", spoil("clock", "dead"), unspoiled("clock"), 2.0, "holds", chunk_timeout,
            "clock|joint",
        ),
    ]  # fmt: skip
