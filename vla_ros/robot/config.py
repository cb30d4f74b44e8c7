"""What a robot is: the schema of `robot_configs/<name>.yaml`.

Every key is required unless it has a default here; unknown keys are refused. `load_robot` is the only
way in (see `vla_ros.robot.load`): it turns a mistake into an error that names file, line and key.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$")]
Topic = Annotated[str, Field(pattern=r"^~?/?[A-Za-z][A-Za-z0-9_/]*$")]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stream(Model):
    """A topic that must keep coming.

    rate_hz: what the driver publishes; max_age_ms: older than this it is stale and no observation is
    made (and, for joint states, the arm is brought to a hold).
    """

    topic: Topic
    rate_hz: Positive
    max_age_ms: Positive
    reliability: Literal["reliable", "best_effort"] = "reliable"


class JointLimits(Model):
    """Per joint, in the order of `joints`: rad, rad/s, rad/s^2, rad/s^3. Never looser than the URDF's."""

    position: list[tuple[Finite, Finite]]
    velocity: list[Positive]
    acceleration: list[Positive]
    jerk: list[Positive]

    @field_validator("position")
    @classmethod
    def _ordered_radians(cls, value: list[tuple[float, float]]) -> list[tuple[float, float]]:
        for low, high in value:
            if low >= high:
                raise ValueError(f"lower limit {low} is not below upper limit {high}")
            if max(abs(low), abs(high)) > 2 * math.pi + 1e-9:
                raise ValueError(f"[{low}, {high}] goes beyond 2 pi rad; limits are in radians, not degrees")
        return value


class JointTrajectoryDriver(Model):
    """ros2_control joint_trajectory_controller: trajectory_msgs/JointTrajectory on `topic`."""

    topic: Topic


class JointPositionDriver(Model):
    """ros2_control forward position controller: std_msgs/Float64MultiArray on `topic`."""

    topic: Topic


class CartesianPoseDriver(Model):
    """CRISP-style controller: geometry_msgs/PoseStamped in `frame` on `topic`."""

    topic: Topic
    frame: str


class Drivers(Model):
    joint_trajectory: JointTrajectoryDriver | None = None
    joint_position: JointPositionDriver | None = None
    cartesian_pose: CartesianPoseDriver | None = None


class GripperActionDriver(Model):
    """control_msgs/action/GripperCommand; `max_effort` in N; `min_change_m`: smaller changes of the
    wanted width are not sent as a new goal."""

    action: Topic
    max_effort: Positive
    min_change_m: Positive = 0.002


class Gripper(Model):
    """A parallel gripper. Its width (m) is the sum of the positions of `joints` (Franka publishes half
    the width per finger). `position_is`: what GripperCommand.position means to this driver: the whole
    width or one finger's travel."""

    joints: Annotated[list[str], Field(min_length=1)]
    states: Stream
    width: tuple[Finite, Finite]
    action: GripperActionDriver
    position_is: Literal["width", "finger"] = "width"


class Arm(Model):
    """One arm: kinematics, what it publishes, how it is commanded."""

    urdf: str
    robot_description: Topic | None = None
    base_frame: str
    tool_frame: str
    joints: Annotated[list[str], Field(min_length=1)]
    home: list[Finite]
    limits: JointLimits
    states: Stream
    driver: Literal["joint_trajectory", "joint_position", "cartesian_pose"]
    drivers: Drivers
    actuation_latency_ms: Annotated[float, Field(ge=0, le=1000)]
    gripper: Gripper | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Arm:
        count = len(self.joints)
        if len(set(self.joints)) != count:
            raise ValueError(f"joints: a name appears twice in {self.joints}")
        sized = {
            "home": self.home,
            "limits.position": self.limits.position,
            "limits.velocity": self.limits.velocity,
            "limits.acceleration": self.limits.acceleration,
            "limits.jerk": self.limits.jerk,
        }
        for key, values in sized.items():
            if len(values) != count:
                raise ValueError(f"{key}: {len(values)} values for {count} joints")
        for name, angle, (low, high) in zip(self.joints, self.home, self.limits.position, strict=True):
            if not low <= angle <= high:
                raise ValueError(f"home: {name} = {angle} rad is outside [{low}, {high}]")
        if getattr(self.drivers, self.driver) is None:
            raise ValueError(f"driver: '{self.driver}' has no entry under drivers")
        return self


class Camera(Model):
    """One camera topic. `transport: compressed` reads sensor_msgs/CompressedImage on `topic`."""

    topic: Topic
    camera_info: Topic
    transport: Literal["raw", "compressed"] = "raw"
    width: Annotated[int, Field(gt=0)]
    height: Annotated[int, Field(gt=0)]
    rate_hz: Positive
    max_age_ms: Positive


class Box(Model):
    """Axis-aligned, in the arm's base frame, m."""

    min: tuple[Finite, Finite, Finite]
    max: tuple[Finite, Finite, Finite]

    @model_validator(mode="after")
    def _ordered(self) -> Box:
        for axis, low, high in zip("xyz", self.min, self.max, strict=True):
            if low >= high:
                raise ValueError(f"{axis}: min {low} is not below max {high}")
        return self


class Safety(Model):
    """On by default, for every arm.

    workspace: the tool frame stays inside. first_command: how far (rad per joint, m, rad) the first
    target after a start may lie from the measured state before it is refused. chunk_timeout_ms: past
    the last due step for this long means a hold; joint_states_timeout_ms likewise.
    tool_speed (m/s) and tool_rotation_speed (rad/s) bound the tool's motion.
    """

    workspace: Box
    first_command_joint: Positive
    first_command_position: Positive
    first_command_rotation: Positive
    tool_speed: Positive
    tool_rotation_speed: Positive
    chunk_timeout_ms: Positive
    joint_states_timeout_ms: Positive


class Control(Model):
    rate_hz: Annotated[float, Field(ge=10, le=1000)]


class ObservationBounds(Model):
    """max_skew_ms: the widest spread of stream stamps that still makes one observation."""

    max_skew_ms: Positive


class PolicyMap(Model):
    """cameras: {image role the policy names: camera of this robot}."""

    cameras: dict[str, str] = {}


class Robot(Model):
    """The whole file."""

    schema_version: Literal[1]
    name: Name
    embodiment: str
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    cameras: dict[Name, Camera]
    observation: ObservationBounds
    control: Control
    safety: Safety
    policy: PolicyMap = PolicyMap()

    @model_validator(mode="after")
    def _cameras_exist(self) -> Robot:
        for role, camera in self.policy.cameras.items():
            if camera not in self.cameras:
                raise ValueError(
                    f"policy.cameras.{role}: no camera '{camera}'; cameras are {sorted(self.cameras)}"
                )
        return self
