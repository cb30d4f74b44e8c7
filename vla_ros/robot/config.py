"""What a robot is: the schema of `robot_configs/<name>.yaml`.

Every key is required unless it has a default here; unknown keys are refused. `load_robot` is the only
way in (see `vla_ros.robot.load`): it turns a mistake into an error that names file, line and key, and
checks what concerns several keys (`vla_ros.robot.checks`). The bounds here catch wrong units (degrees,
millimetres, seconds for milliseconds); what a robot can do is bounded by its URDF.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vla_ros.robot.config_cameras import Camera
from vla_ros.robot.config_drivers import (
    Drivers,
    GripperActionDriver,
    GripperInterbotixDriver,
    GripperWithArm,
    TwistDriver,
)
from vla_ros.robot.config_fields import (
    Acceleration,
    Angle,
    Coordinate,
    Distance,
    DriverUnits,
    JointAcceleration,
    JointJerk,
    JointSpeed,
    Milliseconds,
    Model,
    Name,
    RotationAcceleration,
    RotationSpeed,
    Seconds,
    SmallAngle,
    Speed,
    Stream,
    Text,
    Thickness,
    Topic,
    TurningSpeed,
    Width,
    unit,
)


class JointLimits(Model):
    """Per joint, in the order of `joints`: rad, rad/s, rad/s^2, rad/s^3. Never looser than the URDF's.

    approach (optional, rad/s^2): the most by which a joint that comes up to a position limit has to slow
    down, for arms that allow less velocity near the ends of their joints; as `acceleration` where not given.
    """

    position: list[tuple[Angle, Angle]]
    velocity: list[JointSpeed]
    acceleration: list[JointAcceleration]
    jerk: list[JointJerk]
    approach: list[JointAcceleration] | None = None


class Gripper(Model):
    """A parallel gripper, by its opening width in m.

    width: closed and open. reads: what the positions of `joints` in `states` sum up to when closed and open,
    in the driver's own unit; as `width` where not given (Franka publishes half the width per finger).
    commands: what the driver is sent for closed and open; as `width` where not given. In between, all three
    go together in straight lines, and reads and commands may fall while the width grows.

    speed: how fast the width may change, m/s. Exactly one of `action`, `interbotix` and `with_arm` says how
    it is commanded.
    """

    joints: Annotated[list[Text], Field(min_length=1)]
    states: Stream
    width: tuple[Width, Width]
    reads: tuple[DriverUnits, DriverUnits] | None = None
    commands: tuple[DriverUnits, DriverUnits] | None = None
    speed: Speed
    action: GripperActionDriver | None = None
    interbotix: GripperInterbotixDriver | None = None
    with_arm: GripperWithArm | None = None


class PublishedPose(Model):
    """Where a driver publishes its tool's pose, for `vla robot check` to compare with the kinematics.

    type: geometry_msgs Pose, PoseStamped, or Cobot Magic's PoseStamped with roll, pitch, yaw (rad, fixed
    axes) in orientation.x, y, z and the gripper in w.
    """

    topic: Topic
    type: Literal["pose", "pose_stamped", "pose_stamped_rpy"]


class BasePose(Model):
    """Where an arm's `base_frame` lies in the robot's common frame: m, and roll, pitch, yaw in rad about the
    common frame's fixed axes, as in the <origin> of a URDF. (Not a quaternion: mounting angles are typed and
    checked by people, and a typed quaternion is hardly ever of length 1.)"""

    position: tuple[Coordinate, Coordinate, Coordinate]
    rpy: tuple[Angle, Angle, Angle] = (0.0, 0.0, 0.0)


class Arm(Model):
    """One arm: kinematics, what it publishes, how it is commanded.

    urdf: path relative to the YAML, used when `robot_description` is not published (or not named).
    base_pose: needed with several arms; a single arm's base frame is the common frame without it.
    tip_frame: where the arm ends, for what its links are kept away from, if that is not at tool_frame (a
    Piper is commanded by its flange; its fingers end 0.14 m beyond).
    link_radius: of the capsules around the links, m; needed where something is kept at a distance from them
    (forbidden boxes, another arm). actuation_latency_ms: a starting value, it is measured while moving.
    """

    urdf: Text
    robot_description: Topic | None = None
    base_pose: BasePose = BasePose(position=(0.0, 0.0, 0.0))
    base_frame: Text
    tool_frame: Text
    tip_frame: Text | None = None
    joints: Annotated[list[Text], Field(min_length=1)]
    home: list[Angle]
    limits: JointLimits
    states: Stream
    driver: Literal[
        "joint_trajectory",
        "joint_position",
        "cartesian_pose",
        "interbotix",
        "piper_joint",
        "piper_pose",
        "cobot_magic",
    ]
    drivers: Drivers
    published_pose: PublishedPose | None = None
    link_radius: Thickness | None = None
    actuation_latency_ms: Annotated[
        float, Field(ge=0, le=1000, allow_inf_nan=False, json_schema_extra=unit("ms"))
    ] = 0.0
    gripper: Gripper | None = None


class BaseLimits(Model):
    """Forward and turning: velocity in m/s and rad/s, either way; acceleration in m/s^2 and rad/s^2, by which
    it speeds up and slows down."""

    velocity: tuple[Speed, TurningSpeed]
    acceleration: tuple[Acceleration, RotationAcceleration]


class MobileBase(Model):
    """A base that drives forward and turns, and carries the robot's common frame with it: x forward, z up.

    odometry: nav_msgs/Odometry, of which the velocity counts.
    """

    odometry: Stream
    limits: BaseLimits
    twist: TwistDriver


class Box(Model):
    """Axis-aligned, m."""

    min: tuple[Coordinate, Coordinate, Coordinate]
    max: tuple[Coordinate, Coordinate, Coordinate]


class Safety(Model):
    """On by default, for every arm.

    workspace: each arm's tool frame stays inside, in that arm's base frame. forbidden: boxes in the common
    frame that the links' capsules stay out of. arm_distance: how near two arms' capsules may come, m.
    soft_start_s: the velocity limits grow to their full size over this long after each start and after each
    hold, s. first_command: how far (rad per joint, m, rad) the first
    target after a start may lie from the measured state before it is refused. chunk_timeout_ms: past
    the last due step for this long means a hold; joint_states_timeout_ms likewise.
    tool_speed (m/s) and tool_rotation_speed (rad/s) bound the tool's motion.
    """

    workspace: Box
    forbidden: list[Box] = Field(default_factory=list)
    arm_distance: Thickness = 0.05
    soft_start_s: Seconds = 0.5
    first_command_joint: SmallAngle
    first_command_position: Distance
    first_command_rotation: SmallAngle
    tool_speed: Speed
    tool_rotation_speed: RotationSpeed
    chunk_timeout_ms: Milliseconds
    joint_states_timeout_ms: Milliseconds


class Control(Model):
    """rate_hz: of the commands. jerk_limited_targets: smooth the targets with ruckig before they are
    followed; costs lag, for policies whose chunks are rough."""

    rate_hz: Annotated[float, Field(ge=10, le=1000, allow_inf_nan=False, json_schema_extra=unit("Hz"))]
    jerk_limited_targets: bool = False


class ObservationBounds(Model):
    """max_skew_ms: the widest spread of stream stamps that still makes one observation."""

    max_skew_ms: Annotated[float, Field(ge=1, le=1_000, allow_inf_nan=False, json_schema_extra=unit("ms"))]


class PolicyMap(Model):
    """cameras: {image role the policy names: camera of this robot}."""

    cameras: dict[str, str] = Field(default_factory=dict)


class Robot(Model):
    """The whole file."""

    schema_version: Literal[1]
    name: Name
    embodiment: Text
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    cameras: Annotated[dict[Name, Camera], Field(min_length=1)]
    base: MobileBase | None = None
    observation: ObservationBounds
    control: Control
    safety: Safety
    policy: PolicyMap = PolicyMap()
