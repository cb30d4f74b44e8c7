"""One closed-loop episode of the demo policy in virtual time: everything between camera and joints is the
runtime's own, only the middleware, the threads and the clock are left out.

What follows what, and when:
- Cameras have a frame 30 times a second. An inference begins with the first frame after its trigger, sees the
  joints of that moment and the width that the hand reported last (15 Hz), and takes its latency, whatever it
  costs here.
- The chunk is decoded and handed to the Supervisor, which ticks at the robot's 100 Hz with all limits on, and
  whose commands go as the driver's messages to the controllers of the twin.
- Physics advances by a millisecond at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.action.decode import decode
from vla_ros.action.rotations import matrix_to_quaternion
from vla_ros.action.schedule import make_scheduler
from vla_ros.errors import Refused
from vla_ros.policy.bundle import load_bundle
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.policy.rtc import Continuation, Guidance
from vla_ros.policy.trigger import Pace, Trigger
from vla_ros.resources import policy_bundle, robot_config
from vla_ros.robot.channels import gripper_channel
from vla_ros.robot.drivers import driver_for
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.safety.supervisor import Measured, Supervisor
from vla_ros.sim.controllers import TrajectoryPoint
from vla_ros.sim.pick_twin import PickTwin
from vla_ros.types import ActionChunk, Observation

ROBOT, POLICY = "franka", "franka_pick"
NS, MS = 1_000_000_000, 1_000_000
# Stamps of zero mean "none": virtual time begins later.
BEGIN_NS = 1_000 * NS
FRAME_NS = NS // 30
# The rate that the policy was trained at; back to back where inference takes longer.
PERIOD_NS = 100 * MS
# Rows of a chunk that mode sync executes before it looks again: half of them, as openpi's examples do.
SYNC_STEPS = 8
JITTER = 0.30
# The twin's verdict is a time-out 15 s after the first command; this is for the case that none ever comes.
LONGEST_NS = 20 * NS


@dataclass(frozen=True)
class Episode:
    """What became of a seed. outcome: of the task, "success", "wrong_block" or "timeout". seconds: since the
    start, waiting for the first chunk included. holds: how often the policy was lost, and why."""

    seed: int
    mode: str
    latency_ms: float
    outcome: str
    seconds: float
    chunks: int
    refused: dict[str, int]
    holds: dict[str, int]


class Cell:
    """Robot, world and policy, used for one episode after the other. Single-threaded."""

    def __init__(self) -> None:
        file = robot_config(ROBOT)
        self._robot = load_robot(file)
        (self._name, self._arm), *_ = self._robot.arms.items()
        urdf = read_urdf(file, self._arm)
        self._twin = PickTwin(self._robot, {self._name: urdf}, seed=0)
        self._kinematics = Kinematics(urdf, self._arm.joints, self._arm.base_frame, self._arm.tool_frame)
        self._bundle = load_bundle(policy_bundle(POLICY))
        self._preprocessor = Preprocessor(self._bundle, self._robot)
        self._policy = OnnxPolicy(self._bundle, threads=1)

    @property
    def rtc(self) -> str:
        """The kind of real-time chunking that the policy can do: "none", "guided" or "prefix"."""
        return self._policy.rtc

    def run(self, seed: int, mode: str, latency_ms: float) -> Episode:
        """One episode of the scene of `seed`."""
        twin, arm, name = self._twin, self._arm, self._name
        twin.reset(seed)
        scene = twin.scene
        self._policy.reset()
        rng = np.random.default_rng([seed, round(latency_ms)])
        assert arm.gripper is not None
        channel = gripper_channel(name)
        scheduler = make_scheduler(mode, {channel: arm.gripper.width})
        supervisor = Supervisor(self._robot, {name: self._kinematics}, scheduler)
        inference = _Inference(self, mode, latency_ms, rng)
        hand = _Hand(twin, rng)
        driver = driver_for(arm)
        tick_ns = round(NS / self._robot.control.rate_hz)
        refused: dict[str, int] = {}
        holds: dict[str, int] = {}
        chunks = 0
        begun_ns = BEGIN_NS - tick_ns
        supervisor.tick(begun_ns, {name: Measured(twin.world.joint_positions, begun_ns)}, begun_ns)
        supervisor.request("start", begun_ns)
        now_ns = BEGIN_NS
        while twin.task.outcome == "running" and now_ns - BEGIN_NS < LONGEST_NS:
            hand.look(now_ns)
            followed = supervisor.source == "policy"
            for chunk in inference.advance(now_ns, scene.instruction, hand.reported, followed):
                chunks += 1
                try:
                    supervisor.add_chunk(chunk, now_ns)
                except Refused as error:
                    refused[error.reason] = refused.get(error.reason, 0) + 1
            if (now_ns - BEGIN_NS) % tick_ns == 0:
                measured = {name: Measured(twin.world.joint_positions, now_ns)}
                commands = supervisor.tick(now_ns, measured, now_ns)
                for event in supervisor.take_events():
                    if event.kind in ("lost", "fault"):
                        holds[event.reason] = holds.get(event.reason, 0) + 1
                if name in commands:
                    command = commands[name]
                    pose = self._kinematics.forward(command.sent)
                    obey(twin, driver.message(command.motion, pose, command.gripper, now_ns), now_ns)
                    hand.want(command.gripper)
            twin.step(now_ns)
            now_ns += twin.step_ns
        seconds = (now_ns - BEGIN_NS) / NS
        outcome = "timeout" if twin.task.outcome == "running" else twin.task.outcome
        return Episode(seed, mode, latency_ms, outcome, seconds, chunks, refused, holds)

    def observe(self, now_ns: int, instruction: str, width: float) -> Observation:
        """What the cameras and joints show at this moment."""
        q = self._twin.world.joint_positions
        pose = self._kinematics.forward(q)
        images = {name: self._twin.world.render(name) for name in self._preprocessor.cameras}
        state = {
            f"{self._name}/joint_position": q,
            f"{self._name}/tcp_pose": np.append(pose[:3, 3], matrix_to_quaternion(pose[:3, :3])),
            f"{self._name}/gripper": np.array([width]),
        }
        streams = [*(f"camera/{name}" for name in images), f"{self._name}/joint_states"]
        return Observation(images, state, instruction, {stream: now_ns for stream in streams}, now_ns)

    def infer(
        self, observation: Observation, guidance: Guidance | None, last: ActionChunk | None
    ) -> ActionChunk:
        """The whole chunk, absolute. last: what was asked for until now, as for `decode`."""
        raw = self._policy.infer(self._preprocessor(observation), guidance=guidance)
        bundle = self._bundle
        return decode(raw, observation, bundle.manifest, bundle.action, self._robot, last=last)

    def continuation(self) -> Continuation:
        """For the chunks of one episode."""
        return Continuation(self._bundle.manifest, self._bundle.action, self._robot)


class _Inference:
    """policy_node: when it infers, and when the chunk is there."""

    def __init__(self, cell: Cell, mode: str, latency_ms: float, rng: np.random.Generator) -> None:
        self._cell = cell
        self._rng = rng
        self._latency_ns = latency_ms * MS
        steps = SYNC_STEPS if mode == "sync" else 0
        self._pace = Pace(mode, "rate", PERIOD_NS, 0, steps, 1.0)
        self._trigger = Trigger()
        self._guided = mode == "rtc" and cell.rtc != "none"
        self._continuation = cell.continuation()
        self._running: tuple[ActionChunk, Observation, int] | None = None

    def advance(self, now_ns: int, instruction: str, width: float, followed: bool) -> list[ActionChunk]:
        """The chunks that arrive now, none or one. followed: whether the policy is what moves the arm."""
        arrived = self._arrived(now_ns)
        if not followed:
            self._continuation.forget()
        new_frame = (now_ns - BEGIN_NS) % FRAME_NS < MS
        if self._running is None and new_frame and self._trigger.wait_ns(self._pace, now_ns, now_ns) == 0:
            self._trigger.begun(self._pace, now_ns)
            observation = self._cell.observe(now_ns, instruction, width)
            guidance = self._continuation.guidance(observation, self._pace.speed) if self._guided else None
            chunk = self._cell.infer(observation, guidance, self._continuation.last)
            takes_ns = round(self._latency_ns * self._rng.uniform(1 - JITTER, 1 + JITTER))
            self._running = (chunk, observation, now_ns + takes_ns)
            arrived += self._arrived(now_ns)
        return arrived

    def _arrived(self, now_ns: int) -> list[ActionChunk]:
        if self._running is None or self._running[2] > now_ns:
            return []
        (chunk, observation, _), self._running = self._running, None
        steps = self._pace.execute_steps
        part = chunk
        if steps:
            part = ActionChunk(chunk.channels, chunk.targets[:steps], chunk.due_ns[:steps], chunk.stamp_ns)
        self._continuation.published(chunk, part, observation, now_ns)
        dt_ns = int(chunk.due_ns[1] - chunk.due_ns[0])
        self._trigger.published(part.due_ns, dt_ns, now_ns)
        return [part]


class _Hand:
    """The gripper's driver: reports its width at its own rate, and takes a goal when the wish changes."""

    def __init__(self, twin: PickTwin, rng: np.random.Generator) -> None:
        self._twin = twin
        self._period_ns = round(NS / twin.gripper.config.states.rate_hz)
        self._due_ns = BEGIN_NS - int(rng.integers(self._period_ns))
        self._sent: float | None = None
        self.reported = twin.world.gripper_width

    def look(self, now_ns: int) -> None:
        """Report what is due."""
        if now_ns >= self._due_ns:
            self._due_ns += self._period_ns
            self.reported = self._twin.world.gripper_width

    def want(self, width: float | None) -> None:
        """As `vla_ros.nodes.gripper_client` does."""
        action = self._twin.gripper.config.action
        assert action is not None
        if width is None or (self._sent is not None and abs(width - self._sent) <= action.min_change_m):
            return
        self._sent = width
        low, high = self._twin.gripper.config.width
        self._twin.gripper.command(min(max(width, low), high), action.max_effort)


def obey(twin: PickTwin, message: Any, now_ns: int) -> None:
    """Hand a trajectory_msgs/JointTrajectory to the twin's controllers, as its node does; None: nothing."""
    if message is None:
        return
    points = [
        TrajectoryPoint(
            point.positions, _nanoseconds(point.time_from_start), point.velocities, point.accelerations
        )
        for point in message.points
    ]
    twin.arm.controllers.joint_trajectory(
        message.joint_names, points, _nanoseconds(message.header.stamp), now_ns
    )
    twin.note_command(now_ns)


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * NS + int(time.nanosec)
