"""Ring buffers, one per stream, on header stamps or, where the YAML says so, on arrival. Time comes in as an
argument; nothing here waits.

Not thread-safe: one lock around `ObservationBuffers` where messages arrive on another thread than the
one that assembles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from vla_ros.errors import ContractError, Refused
from vla_ros.observation.decode import (
    Frame,
    JointSample,
    decode_compressed_image,
    decode_image,
    decode_joint_state,
    decode_odometry,
)
from vla_ros.observation.driven import Driven, driven, way_at
from vla_ros.observation.frozen import MOVED, STAMPED_LATE_NS, FrozenPicture
from vla_ros.observation.ring import MS, Ring
from vla_ros.observation.shown import Shown, check_size
from vla_ros.robot.config import Gripper, Robot
from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.config_fields import Stream
from vla_ros.robot.stamps import Stamps
from vla_ros.robot.states import FASTER, JUMP, gripper_width, positions_by_name
from vla_ros.types import FloatArray, ImageArray

T = TypeVar("T")

# Cameras: enough to find the frame nearest to another camera's newest. Joints: a second, so that the
# samples around an image are still there when it arrives late.
FRAMES_KEPT = 4
JOINT_SECONDS_KEPT = 1.0


class ObservationBuffers:
    """All the streams that one robot's observations are made of.

    cameras {camera: ring of frames}, joints {arm: ring of float64 [J], in the YAML's order},
    grippers {arm: ring of widths in m}, odometry (ring of `Driven`; None without a base). Messages go in as
    CDR bytes and never raise: what is wrong with a stream is said by `usable`, when an observation is wanted.
    tells_base_velocity: whether an observation holds the base's velocity, and is not made without odometry.
    """

    def __init__(
        self,
        robot: Robot,
        cameras: Sequence[str],
        past_s: float = 0.0,
        optional: Sequence[str] = (),
        base_velocity: bool = False,
    ) -> None:
        """cameras: the robot's cameras that the policy looks at; optional: those of them without which it can
        do. past_s: how long before the present it wants to see (`vla_ros.observation.history`).

        base_velocity: whether it is told how fast the robot's base moves. Where it is not, odometry does not
        stand in the way of an observation: all that it then says is whether a camera should have seen
        something move, unlike joint states, which say where tools and wrist cameras are. (Whether the base
        may be driven without is control_node's to say.)
        Raises ContractError where the robot has no base.
        """
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
        self.odometry: Ring[Driven] | None = None
        self.tells_base_velocity = base_velocity
        if robot.base is None:
            if base_velocity:
                raise ContractError(f"policy: is told how fast a base moves; robot '{robot.name}' has none")
        else:
            self.odometry = _state_ring("base/odometry", robot.base.odometry, past_s)
            self._stamps["base/odometry"] = Stamps(robot.base.odometry)
        self._encodings: dict[str, str] = {}
        self._pictures = {name: FrozenPicture() for name in cameras}
        self._shown = {name: Shown(f"camera/{name}", robot.cameras[name]) for name in cameras}
        # {camera: where the arms were when its picture was new}, and how far the base had driven by then.
        self._began: dict[str, dict[str, FloatArray]] = {}
        self._began_way: dict[str, FloatArray] = {}
        self._jumped_ns = 0

    @property
    def rings(self) -> dict[str, Ring]:
        """{stream name: its ring}."""
        every: list[Ring] = [*self.cameras.values(), *self.joints.values(), *self.grippers.values()]
        every += [self.odometry] if self.odometry is not None else []
        return {ring.stream: ring for ring in every}

    def reset(self) -> None:
        """Forget everything received, and which encodings the cameras had."""
        for ring in self.rings.values():
            ring.clear()
        for picture in self._pictures.values():
            picture.clear()
        for shown in self._shown.values():
            shown.clear()
        self._begin_anew()
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
                self._began_way.pop(name, None)

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
        "frozen" where a camera has sent the very same picture for longer than its max_age while an arm or the
        base moved.
        """
        missing = set()
        checks: list[tuple[str, Callable[[], None]]] = [
            (ring.stream.removeprefix("camera/"), partial(ring.check, now_ns))
            for ring in self.rings.values()
            if ring is not self.odometry or self.tells_base_velocity
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
        until = newest - STAMPED_LATE_NS
        if until <= self._jumped_ns:
            return
        since = max(picture.since_ns, self._jumped_ns)
        arm = self._arm_moved(name, since, until)
        forward, turned = self._base_moved(name, since, until)
        still_ns = newest - picture.since_ns
        if still_ns > ring.max_age_ns and max(arm, forward, turned) > MOVED:
            base = f"base drove {forward:.3f} m and turned by {turned:.3f} rad"
            moved = f"arm moved by {arm:.3f} rad" if arm > MOVED else base
            raise Refused(
                "frozen",
                f"{ring.stream}: the same picture on {ring.topic} for {still_ns / MS:.0f} ms, though the "
                f"{moved}; look at the camera's driver, or where the camera looks",
            )

    def _arm_moved(self, camera: str, since_ns: int, until_ns: int) -> float:
        """By how much the joint that moved most did, rad, from when the camera's picture was new."""
        now = self._joints_near(until_ns)
        if now is None:
            return 0.0
        if camera not in self._began:
            # Where joint states are missing from then (they were refused, say) it counts from now.
            self._began[camera] = self._joints_near(since_ns) or now
        began = self._began[camera]
        return max((float(np.max(np.abs(now[arm] - began[arm]))) for arm in now), default=0.0)

    def _base_moved(self, camera: str, since_ns: int, until_ns: int) -> tuple[float, float]:
        """How far the base drove and turned meanwhile, m and rad."""
        ring = self.odometry
        if ring is None or not ring.samples:
            return 0.0, 0.0
        if camera not in self._began_way:
            # Not the last one before: within a period a base brakes on a way that counts.
            if (began := way_at(ring, since_ns)) is None:
                return 0.0, 0.0
            self._began_way[camera] = began
        now = way_at(ring, min(until_ns, ring.samples[-1][0]))
        assert now is not None
        forward, turned = np.abs(now - self._began_way[camera]).tolist()
        return forward, turned

    def _begin_anew(self) -> None:
        self._began.clear()
        self._began_way.clear()

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
            self._begin_anew()

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

    def base_odometry(self, cdr: bytes, now_ns: int) -> None:
        """An Odometry of the base arrives now. KeyError without a base."""
        ring = self.odometry
        if ring is None:
            raise KeyError(f"robot '{self._robot.name}' has no base")
        try:
            sample = decode_odometry(cdr)
        except Refused as error:
            ring.refuse(Refused(error.reason, f"{ring.stream}: on {ring.topic}: {error}"))
        else:
            stamp_ns = self._stamps[ring.stream].of(sample.stamp_ns, now_ns)
            ring.push(stamp_ns, driven(ring, stamp_ns, sample.velocity), now_ns)

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
