"""Ring buffers, one per stream, on header stamps or, where the YAML says so, on arrival. Time comes in as an
argument; nothing here waits.

Not thread-safe: one lock around `ObservationBuffers` where messages arrive on another thread than the
one that assembles.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np

from vla_ros.action.latency import Latency
from vla_ros.errors import Refused
from vla_ros.observation.decode import (
    Frame,
    JointSample,
    decode_compressed_image,
    decode_image,
    decode_joint_state,
)
from vla_ros.observation.frozen import MOVED, STAMPED_LATE_NS, FrozenPicture
from vla_ros.observation.shown import Shown, check_size
from vla_ros.robot.config import Gripper, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.config_fields import Stream
from vla_ros.robot.stamps import Stamps
from vla_ros.robot.states import FASTER, JUMP, gripper_width, positions_by_name
from vla_ros.types import FloatArray, ImageArray

T = TypeVar("T")
MS = 1_000_000

# Cameras: enough to find the frame nearest to another camera's newest. Joints: a second, so that the
# samples around an image are still there when it arrives late.
FRAMES_KEPT = 4
JOINT_SECONDS_KEPT = 1.0


class Ring(Generic[T]):
    """The newest samples of one stream, in strictly increasing order of their stamps.

    samples: (stamp_ns, value), oldest first. received: messages seen; dropped: {reason: how many of
    them were not kept}; missed: how many more there would have been between the stamps at the stream's
    own rate, lost on the way or never sent; latency: from stamp to arrival.
    """

    def __init__(self, stream: str, topic: str, capacity: int, max_age_ns: int, rate_hz: float) -> None:
        self.stream, self.topic = stream, topic
        self.max_age_ns = max_age_ns
        self.period_ns = 1e9 / rate_hz
        self.missed = 0
        self.samples: deque[tuple[int, T]] = deque(maxlen=capacity)
        self.received = 0
        self.dropped: Counter[str] = Counter()
        self.latency = Latency()
        self._repeats = 0
        self._back_ns = 0
        self._unusable: Refused | None = None
        self._foreign: Refused | None = None

    def clear(self) -> None:
        """Forget all samples and faults; the counters go on."""
        self.samples.clear()
        self._repeats = self._back_ns = 0
        self._unusable = self._foreign = None

    def push(self, stamp_ns: int, value: T, now_ns: int) -> None:
        """Keep a sample that arrives now, unless its stamp says that it is none.

        The same stamp again: not kept ("frozen"). Older than the newest: out of order, or from a stream whose
        clock was set back, and not kept ("back_in_time"). Where the machine's clock was set back, the newest
        is from the future, and was dropped as such.
        """
        self.received += 1
        if stamp_ns == 0:
            self._drop(Refused("no_stamp", f"{self.topic}: header.stamp is not set; the driver must set it"))
            return
        self._drop_future(now_ns)
        self._unusable = self._foreign = None
        if self.samples:
            newest = self.samples[-1][0]
            if stamp_ns == newest:
                self._repeats += 1
                self.dropped["frozen"] += 1
                return
            if stamp_ns < newest:
                self._back_ns = newest - stamp_ns
                self.dropped["back_in_time"] += 1
                return
            self.missed += max(0, round((stamp_ns - newest) / self.period_ns) - 1)
        self._repeats = self._back_ns = 0
        self.samples.append((stamp_ns, value))
        self.latency.add(now_ns - stamp_ns)

    def refuse(self, reason: Refused) -> None:
        """Note a message that cannot be used. No observation is made until a usable one arrives."""
        self.received += 1
        self._drop(reason)

    def ignore(self, reason: Refused) -> None:
        """Note a message that is not about this stream's subject (other joints on a shared topic). It is
        the reason given when nothing better keeps coming."""
        self.received += 1
        self.dropped[reason.reason] += 1
        self._foreign = reason

    def _drop(self, reason: Refused) -> None:
        self.dropped[reason.reason] += 1
        self._unusable = reason

    def check(self, now_ns: int) -> None:
        """Raise Refused when the newest sample must not be used now.

        Samples from the future are dropped: the clock was set back, or the stream's is ahead. So a stream is
        as good as new with its first sample after either.

        Reasons: "incomplete" (nothing yet), "future", "stale", or for a stale stream why it is so:
        "frozen", "back_in_time"; and whatever made the last message unusable.
        """
        self._drop_future(now_ns)
        if self._unusable is not None:
            raise self._unusable
        if not self.samples:
            if self._foreign is not None:
                raise self._foreign
            raise Refused("incomplete", f"{self.stream}: nothing received on {self.topic}")
        age = now_ns - self.samples[-1][0]
        if age <= self.max_age_ns:
            return
        if self._foreign is not None:
            raise self._foreign
        limit = f"{_ms(age)} old, at most {_ms(self.max_age_ns)} is allowed (max_age_ms)"
        if self._repeats:
            text = f"{self.stream}: {self.topic} repeats one stamp ({self._repeats} times); {limit}"
            raise Refused("frozen", text)
        if self._back_ns:
            text = f"{self.stream}: stamps on {self.topic} jumped back by {_ms(self._back_ns)}; {limit}"
            raise Refused("back_in_time", text)
        raise Refused("stale", f"{self.stream}: newest sample on {self.topic} is {limit}")

    def _drop_future(self, now_ns: int) -> None:
        ahead = self.samples[-1][0] - now_ns if self.samples else 0
        if ahead <= self.max_age_ns:
            return
        # None of those ahead is of the present, and each would stand in the way of new samples.
        while self.samples and self.samples[-1][0] > now_ns:
            self.samples.pop()
            self.dropped["future"] += 1
        self._unusable = Refused(
            "future",
            f"{self.stream}: stamped {_ms(ahead)} ahead of this machine's clock on {self.topic}; synchronise "
            f"the clocks (chrony, PTP)",
        )

    def nearest(self, stamp_ns: int) -> tuple[int, T]:
        """The sample whose stamp is nearest. The ring must not be empty."""
        return min(self.samples, key=lambda sample: abs(sample[0] - stamp_ns))

    def at_or_before(self, stamp_ns: int) -> tuple[int, T] | None:
        """The newest sample that is not newer than `stamp_ns`."""
        return next((sample for sample in reversed(self.samples) if sample[0] <= stamp_ns), None)


class ObservationBuffers:
    """All the streams that one robot's observations are made of.

    cameras {camera: ring of frames}, joints {arm: ring of float64 [J], in the YAML's order},
    grippers {arm: ring of widths in m}. Messages go in as CDR bytes and never raise: what is wrong with
    a stream is said by `check`, when an observation is wanted.
    """

    def __init__(
        self, robot: Robot, cameras: Sequence[str], past_s: float = 0.0, optional: Sequence[str] = ()
    ) -> None:
        """cameras: the robot's cameras that the policy looks at; optional: those of them without which it can
        do. past_s: how long before the present it wants to see (`vla_ros.observation.history`)."""
        self._robot = robot
        self.optional = frozenset(optional)
        self.cameras: dict[str, Ring[Frame]] = {
            name: _camera_ring(name, robot.cameras[name], past_s) for name in cameras
        }
        self.joints: dict[str, Ring[FloatArray]] = {}
        self.grippers: dict[str, Ring[float]] = {}
        self._stamps: dict[str, Stamps] = {}
        for name, arm in robot.arms.items():
            self.joints[name] = _state_ring(f"{name}/joint_states", arm.states, past_s)
            self._stamps[f"{name}/joint_states"] = Stamps(arm.states)
            if arm.gripper is not None:
                self.grippers[name] = _state_ring(f"{name}/gripper_states", arm.gripper.states, past_s)
                self._stamps[f"{name}/gripper_states"] = Stamps(arm.gripper.states)
        self._encodings: dict[str, str] = {}
        self._pictures = {name: FrozenPicture() for name in cameras}
        self._shown = {name: Shown(f"camera/{name}", robot.cameras[name]) for name in cameras}
        # {camera: where the arms were when its picture was new}
        self._began: dict[str, dict[str, FloatArray]] = {}
        self._jumped_ns = 0

    @property
    def rings(self) -> dict[str, Ring]:
        """{stream name: its ring}."""
        every: list[Ring] = [*self.cameras.values(), *self.joints.values(), *self.grippers.values()]
        return {ring.stream: ring for ring in every}

    def reset(self) -> None:
        """Forget everything received, and which encodings the cameras had."""
        for ring in self.rings.values():
            ring.clear()
        for picture in self._pictures.values():
            picture.clear()
        for shown in self._shown.values():
            shown.clear()
        self._began.clear()
        self._jumped_ns = 0
        self._encodings.clear()

    def image(self, name: str, cdr: bytes, now_ns: int) -> None:
        """A message of camera `name` (Image or CompressedImage, as its transport says) arrives now."""
        ring, camera = self.cameras[name], self._robot.cameras[name]
        try:
            frame: Frame = decode_image(cdr) if camera.transport == "raw" else decode_compressed_image(cdr)
            expected = self._encodings.setdefault(name, frame.encoding)
            if frame.encoding != expected:
                raise Refused(
                    "changed_encoding",
                    f"{ring.stream}: encoding on {ring.topic} changed from '{expected}' to "
                    f"'{frame.encoding}'; call policy_node/reset to accept the new one",
                )
            if frame.size is not None:
                check_size(ring.stream, frame.size, camera)
        except Refused as error:
            ring.refuse(error)
        else:
            ring.push(frame.stamp_ns, frame, now_ns)
            if self._pictures[name].add(cdr, frame.stamp_ns):
                self._began.pop(name, None)

    def camera_info(self, name: str, cdr: bytes) -> None:
        """A sensor_msgs/CameraInfo of camera `name`, which is needed where the YAML says undistort."""
        self._shown[name].camera_info(cdr)

    def picture(self, name: str, stamp_ns: int, frame: Frame) -> ImageArray:
        """uint8 [H, W, 3] of a frame that camera `name` holds; raises Refused as `Shown.picture` does."""
        held = [stamp for stamp, _ in self.cameras[name].samples]
        return self._shown[name].picture(stamp_ns, frame, held)

    def usable(self, now_ns: int) -> list[str]:
        """The cameras to look at now: all of them but the optional ones that fail.

        Raises Refused where the newest sample of any other stream must not be used, as `Ring.check` says, and
        "frozen" where a camera has sent the very same picture for longer than its max_age while an arm moved.
        """
        missing = set()
        checks: list[tuple[str, Callable[[], None]]] = [
            (ring.stream.removeprefix("camera/"), partial(ring.check, now_ns)) for ring in self.rings.values()
        ]
        checks += [(name, partial(self._check_picture, name)) for name in self.cameras]
        for name, check in checks:
            if name in missing:
                continue
            try:
                check()
            except Refused:
                if name not in self.optional:
                    raise
                missing.add(name)
        return [name for name in self.cameras if name not in missing]

    def _check_picture(self, name: str) -> None:
        ring, picture = self.cameras[name], self._pictures[name]
        newest = ring.samples[-1][0]
        if newest - STAMPED_LATE_NS <= self._jumped_ns:
            return
        now = self._joints_near(newest - STAMPED_LATE_NS)
        if now is None:
            return
        if name not in self._began:
            # Where joint states are missing from then (they were refused, say) it counts from now.
            since = max(picture.since_ns, self._jumped_ns)
            self._began[name] = self._joints_near(since) or now
        began = self._began[name]
        moved = max((float(np.max(np.abs(now[arm] - began[arm]))) for arm in now), default=0.0)
        still_ns = newest - picture.since_ns
        if still_ns > ring.max_age_ns and moved > MOVED:
            raise Refused(
                "frozen",
                f"{ring.stream}: the same picture on {ring.topic} for {_ms(still_ns)}, though the arm "
                f"moved by {moved:.3f} rad; look at the camera's driver, or where the camera looks",
            )

    def _note_jump(self, arm: str) -> None:
        """Where joint states jump (an encoder's glitch, a scene that is set anew) nothing has moved that a
        camera should have seen: what was before it is forgotten."""
        samples = self.joints[arm].samples
        if len(samples) < 2:
            return
        (before, was), (when, q) = samples[-2], samples[-1]
        fastest = FASTER * max(self._robot.arms[arm].limits.velocity)
        if np.max(np.abs(q - was)) > JUMP + fastest * (when - before) / 1e9:
            self._jumped_ns = when
            self._began.clear()

    def _joints_near(self, stamp_ns: int) -> dict[str, FloatArray] | None:
        """{arm: joints at `stamp_ns`, about}; None where one said nothing about then."""
        found = {name: ring.nearest(stamp_ns) for name, ring in self.joints.items()}
        if any(abs(when - stamp_ns) > STAMPED_LATE_NS for when, _ in found.values()):
            return None
        return {name: q for name, (_, q) in found.items()}

    def joint_states(self, arm: str, cdr: bytes, now_ns: int) -> None:
        """A JointState of arm `arm` arrives now; joints are picked by name."""
        joints = self._robot.arms[arm].joints

        def value(sample: JointSample) -> FloatArray:
            return positions_by_name(sample.names, sample.positions.tolist(), joints)

        self._push(self.joints[arm], cdr, now_ns, joints, value)
        self._note_jump(arm)

    def gripper_states(self, arm: str, cdr: bytes, now_ns: int) -> None:
        """A JointState of the gripper of arm `arm` arrives now, likewise. KeyError without one."""
        gripper = self._robot.arms[arm].gripper
        if gripper is None:
            raise KeyError(f"arm '{arm}' has no gripper")
        value = partial(_width, gripper)
        self._push(self.grippers[arm], cdr, now_ns, gripper.joints, value)

    def _push(
        self,
        ring: Ring[T],
        cdr: bytes,
        now_ns: int,
        joints: Sequence[str],
        value: Callable[[JointSample], T],
    ) -> None:
        names: tuple[str, ...] = ()
        try:
            sample = decode_joint_state(cdr)
            names = sample.names
            picked = value(sample)
        except Refused as error:
            located = Refused(error.reason, f"{ring.stream}: on {ring.topic}: {error}")
            # Several drivers may share one joint_states topic: a message about none of our joints is theirs.
            if names and not set(names) & set(joints):
                ring.ignore(located)
            else:
                ring.refuse(located)
        else:
            ring.push(self._stamps[ring.stream].of(sample.stamp_ns, now_ns), picked, now_ns)


def _camera_ring(name: str, camera: Camera, past_s: float) -> Ring[Frame]:
    age = round(camera.max_age_ms * MS)
    kept = FRAMES_KEPT + math.ceil(camera.rate_hz * past_s)
    return Ring(f"camera/{name}", camera.topic, kept, age, camera.rate_hz)


def _state_ring(stream: str, states: Stream, past_s: float) -> Ring[Any]:
    kept = math.ceil(states.rate_hz * (JOINT_SECONDS_KEPT + past_s)) + 1
    return Ring(stream, states.topic, kept, round(states.max_age_ms * MS), states.rate_hz)


def _width(gripper: Gripper, sample: JointSample) -> float:
    return gripper_width(gripper, sample.names, sample.positions.tolist())


def _ms(ns: int) -> str:
    return f"{ns / MS:.0f} ms"
