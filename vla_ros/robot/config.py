"""What a robot is: the schema of `robot_configs/<name>.yaml`.

Every key is required unless it has a default here; unknown keys are refused. `load_robot` is the only
way in (see `vla_ros.robot.load`): it turns a mistake into an error that names file, line and key, and
checks what concerns several keys (`vla_ros.robot.checks`). The bounds here catch wrong units (degrees,
millimetres, seconds for milliseconds); what a robot can do is bounded by its URDF.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# A little over 2 pi: a joint limit beyond is in degrees, not radians.
FULL_TURN = 6.2832


def _unit(unit: str) -> dict[str, object]:
    return {"unit": unit}


Angle = Annotated[
    float, Field(ge=-FULL_TURN, le=FULL_TURN, allow_inf_nan=False, json_schema_extra=_unit("rad"))
]
SmallAngle = Annotated[
    float, Field(gt=0, le=FULL_TURN / 2, allow_inf_nan=False, json_schema_extra=_unit("rad"))
]
JointSpeed = Annotated[float, Field(gt=0, le=50, allow_inf_nan=False, json_schema_extra=_unit("rad/s"))]
JointAcceleration = Annotated[
    float, Field(gt=0, le=1000, allow_inf_nan=False, json_schema_extra=_unit("rad/s^2"))
]
JointJerk = Annotated[float, Field(gt=0, le=100_000, allow_inf_nan=False, json_schema_extra=_unit("rad/s^3"))]
Coordinate = Annotated[float, Field(ge=-5, le=5, allow_inf_nan=False, json_schema_extra=_unit("m"))]
Distance = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False, json_schema_extra=_unit("m"))]
# Of what keeps arms and things apart: less than a few millimetres is another unit.
Thickness = Annotated[float, Field(ge=0.005, le=1, allow_inf_nan=False, json_schema_extra=_unit("m"))]
Width = Annotated[float, Field(ge=0, le=0.5, allow_inf_nan=False, json_schema_extra=_unit("m"))]
Speed = Annotated[float, Field(gt=0, le=5, allow_inf_nan=False, json_schema_extra=_unit("m/s"))]
RotationSpeed = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False, json_schema_extra=_unit("rad/s"))]
Force = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False, json_schema_extra=_unit("N"))]
Rate = Annotated[float, Field(gt=0, le=10_000, allow_inf_nan=False, json_schema_extra=_unit("Hz"))]
FrameRate = Annotated[float, Field(gt=0, le=500, allow_inf_nan=False, json_schema_extra=_unit("Hz"))]
Seconds = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False, json_schema_extra=_unit("s"))]
Milliseconds = Annotated[float, Field(ge=1, le=5_000, allow_inf_nan=False, json_schema_extra=_unit("ms"))]
Pixels = Annotated[int, Field(ge=16, le=16_384, json_schema_extra=_unit("pixels"))]
Offset = Annotated[int, Field(ge=0, le=16_384, json_schema_extra=_unit("pixels"))]
# Of whatever the driver counts in: m, rad, motor units.
DriverUnits = Annotated[
    float, Field(ge=-100_000, le=100_000, allow_inf_nan=False, json_schema_extra=_unit("the driver's unit"))
]
Text = Annotated[str, Field(min_length=1)]
Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        json_schema_extra={"expected": "a name of letters, digits and _ that starts with a letter"},
    ),
]
Topic = Annotated[
    str,
    Field(
        pattern=r"^(~/|/)?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*$",
        json_schema_extra={"expected": "a ROS name such as /camera/image_raw"},
    ),
]


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stream(Model):
    """A topic that must keep coming.

    rate_hz: what the driver publishes; max_age_ms: older than this it is stale and no observation is
    made (and, for joint states, the arm is brought to a hold). stamps: `arrival` for joint states of a driver
    whose header stamps are not on the ROS clock (Piper's are its SDK's): they count from when they arrive.
    """

    topic: Topic
    rate_hz: Rate
    max_age_ms: Milliseconds
    reliability: Literal["reliable", "best_effort"] = "reliable"
    stamps: Literal["header", "arrival"] = "header"


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


class JointTrajectoryDriver(Model):
    """ros2_control joint_trajectory_controller: trajectory_msgs/JointTrajectory on `topic`."""

    topic: Topic


class JointPositionDriver(Model):
    """ros2_control forward position controller: std_msgs/Float64MultiArray on `topic`."""

    topic: Topic


class CartesianPoseDriver(Model):
    """CRISP-style controller: geometry_msgs/PoseStamped in `frame` on `topic`. `frame` lies where
    `base_frame` lies (CRISP takes the pose to be in its own base frame, whatever the header says)."""

    topic: Topic
    frame: Text


class InterbotixDriver(Model):
    """interbotix_xs_sdk: interbotix_xs_msgs/JointGroupCommand for the group `group` on `topic`.

    torque_service (.../torque_enable) and modes_service (.../set_operating_modes), where given, are called
    before the first command: the group's motors are switched on, and set to positions without a profile of
    their own. (The motors let go of the arm while their mode is changed: leave it out where xs_sdk's own
    mode file says `position` with a velocity profile of 0, as ALOHA's does.)
    """

    topic: Topic
    group: Text = "arm"
    torque_service: Topic | None = None
    modes_service: Topic | None = None


class Enable(Model):
    """What lets an AgileX Piper move: std_msgs/Bool true on `topic`, or the piper_msgs/Enable service
    `service`, which says whether it worked. Exactly one of them. Either closes the gripper."""

    topic: Topic | None = None
    service: Topic | None = None


class PiperJointDriver(Model):
    """Piper_ros: sensor_msgs/JointState on `topic`; speed_percent: of the speed its motors may have."""

    topic: Topic
    speed_percent: Annotated[int, Field(ge=1, le=100, json_schema_extra=_unit("%"))]
    enable: Enable | None = None


class PiperPoseDriver(Model):
    """Piper_ros: piper_msgs/PosCmd on `topic`, whole millimetres at half the motors' speed."""

    topic: Topic
    enable: Enable | None = None


class CobotMagicDriver(Model):
    """Cobot Magic: sensor_msgs/JointState on `topic`, which the puppet arm follows."""

    topic: Topic


class Drivers(Model):
    joint_trajectory: JointTrajectoryDriver | None = None
    joint_position: JointPositionDriver | None = None
    cartesian_pose: CartesianPoseDriver | None = None
    interbotix: InterbotixDriver | None = None
    piper_joint: PiperJointDriver | None = None
    piper_pose: PiperPoseDriver | None = None
    cobot_magic: CobotMagicDriver | None = None


class GripperActionDriver(Model):
    """control_msgs/action/GripperCommand; `max_effort` in N; `min_change_m`: smaller changes of the
    wanted width are not sent as a new goal."""

    action: Topic
    max_effort: Force
    min_change_m: Distance = 0.002


class GripperInterbotixDriver(Model):
    """interbotix_xs_sdk: interbotix_xs_msgs/JointSingleCommand for the motor `name` on `topic`.

    mode: set before the first command by the arm's modes_service. (interbotix_xsarm_control's own mode files
    say `pwm`, by which an angle would mean next to nothing.)
    """

    topic: Topic
    name: Text = "gripper"
    mode: Literal["position", "current_based_position"] | None = None


class GripperWithArm(Model):
    """In the arm's own message, as its joint `joint`, with `effort` in the driver's unit where it takes one
    (Piper: 0.5 to 3 N)."""

    joint: Text
    effort: Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None = None


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
        float, Field(ge=0, le=1000, allow_inf_nan=False, json_schema_extra=_unit("ms"))
    ] = 0.0
    gripper: Gripper | None = None


class Mount(Model):
    """Where a camera's optical frame (x right, y down, z forward) lies: m, and roll, pitch, yaw in rad about
    fixed axes, in the tool frame of `arm`, or in the robot's common frame without one."""

    arm: Name | None = None
    position: tuple[Coordinate, Coordinate, Coordinate]
    rpy: tuple[Angle, Angle, Angle] = (0.0, 0.0, 0.0)


class Crop(Model):
    """A part of the picture as it is after rotate and flip: its upper left corner and its size."""

    x: Offset
    y: Offset
    width: Pixels
    height: Pixels


Exposure = Annotated[float, Field(ge=0.1, le=1000, allow_inf_nan=False, json_schema_extra=_unit("ms"))]


class V4l2Source(Model):
    """A Video4Linux camera. device: its path, best one that stays (/dev/v4l/by-id/...). fourcc: as in
    `v4l2-ctl --list-formats`, MJPG or YUYV. exposure_ms: automatic where not given. calibration: the file
    that ROS's camera_calibration wrote, relative to this YAML; without, camera_info says that there is none.
    """

    device: Text
    fourcc: Annotated[
        str,
        Field(
            pattern=r"^[A-Z0-9]{4}$",
            json_schema_extra={"expected": "four capital letters or digits such as MJPG or YUYV"},
        ),
    ] = "MJPG"
    exposure_ms: Exposure | None = None
    calibration: Text | None = None


class RealsenseSource(Model):
    """An Intel RealSense, by pyrealsense2. serial: needed where several are plugged in. exposure_ms: of the
    colours, automatic where not given. depth_aligned: the topic for depth as the colour camera sees it
    (16UC1, mm), where wanted."""

    serial: Text | None = None
    exposure_ms: Exposure | None = None
    depth_aligned: Topic | None = None


class Source(Model):
    """The device whose pictures camera_node publishes on the camera's topics. Exactly one of them."""

    v4l2: V4l2Source | None = None
    realsense: RealsenseSource | None = None


class Camera(Model):
    """One camera topic. `transport: compressed` reads sensor_msgs/CompressedImage on `topic`.

    width, height: of the pictures on `topic`. What policies are shown is made of them in this order:
    undistort (by what `camera_info` publishes, as image_proc rectifies), rotate (clockwise, degrees), flip
    (horizontal: left and right change places), crop. source: where camera_node is to publish them; without,
    someone else does.
    """

    topic: Topic
    camera_info: Topic
    transport: Literal["raw", "compressed"] = "raw"
    width: Pixels
    height: Pixels
    rate_hz: FrameRate
    max_age_ms: Milliseconds
    mount: Mount | None = None
    undistort: bool = False
    rotate: Literal[0, 90, 180, 270] = 0
    flip: Literal["none", "horizontal", "vertical", "both"] = "none"
    crop: Crop | None = None
    source: Source | None = None


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
    forbidden: list[Box] = []
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

    rate_hz: Annotated[float, Field(ge=10, le=1000, allow_inf_nan=False, json_schema_extra=_unit("Hz"))]
    jerk_limited_targets: bool = False


class ObservationBounds(Model):
    """max_skew_ms: the widest spread of stream stamps that still makes one observation."""

    max_skew_ms: Annotated[float, Field(ge=1, le=1_000, allow_inf_nan=False, json_schema_extra=_unit("ms"))]


class PolicyMap(Model):
    """cameras: {image role the policy names: camera of this robot}."""

    cameras: dict[str, str] = {}


class Robot(Model):
    """The whole file."""

    schema_version: Literal[1]
    name: Name
    embodiment: Text
    arms: Annotated[dict[Name, Arm], Field(min_length=1)]
    cameras: Annotated[dict[Name, Camera], Field(min_length=1)]
    observation: ObservationBounds
    control: Control
    safety: Safety
    policy: PolicyMap = PolicyMap()
