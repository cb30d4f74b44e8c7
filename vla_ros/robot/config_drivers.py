"""How a robot YAML says that arms, grippers and a base are commanded: one entry per driver protocol."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vla_ros.robot.config_fields import Distance, Force, Model, Text, Topic, unit


class Ros2ControlRecovery(Model):
    """What `vla recover` does after the hardware failed, and nothing does by itself; franka_ros2 wants it
    after a reflex. controller_manager: the node of that name; hardware: its hardware component's name;
    controllers: all that use it, broadcasters too. error_recovery: a Franka's action, of type
    franka_msgs/ErrorRecovery."""

    controller_manager: Topic
    hardware: Text
    controllers: Annotated[list[Text], Field(min_length=1)]
    error_recovery: Topic | None = None


class JointTrajectoryDriver(Model):
    """ros2_control joint_trajectory_controller: trajectory_msgs/JointTrajectory on `topic`."""

    topic: Topic
    recovery: Ros2ControlRecovery | None = None


class JointPositionDriver(Model):
    """ros2_control forward position controller: std_msgs/Float64MultiArray on `topic`."""

    topic: Topic
    recovery: Ros2ControlRecovery | None = None


class CartesianPoseDriver(Model):
    """CRISP-style controller: geometry_msgs/PoseStamped in `frame` on `topic`. `frame` lies where
    `base_frame` lies (CRISP takes the pose to be in its own base frame, whatever the header says)."""

    topic: Topic
    frame: Text
    recovery: Ros2ControlRecovery | None = None


class Registers(Model):
    """xs_sdk's services by which motors' registers are read (.../get_motor_registers) and written
    (.../set_motor_registers)."""

    get: Topic
    set: Topic


class InterbotixDriver(Model):
    """interbotix_xs_sdk: interbotix_xs_msgs/JointGroupCommand for the group `group` on `topic`.

    Before the first command, where given: registers: the group's motors have to be in a mode that takes
    positions, and lose the profile that xs_sdk's mode file gave them; modes_service
    (.../set_operating_modes): sets the gripper's mode, never the arm's, whose motors would let go of it
    meanwhile; torque_service (.../torque_enable): switches the motors on.

    reboot_service (.../reboot_motors): by it `vla recover` reboots the motors that report a hardware error,
    such as an overload, and sets the group to positions where it is in another mode; either lets go of the
    arm. shadows: the motors that turn a joint together with another one (`shadows` in xs_sdk's motor
    configuration, their shadow_list), which no group holds: recovery looks after each by its name.
    """

    topic: Topic
    group: Text = "arm"
    torque_service: Topic | None = None
    modes_service: Topic | None = None
    registers: Registers | None = None
    reboot_service: Topic | None = None
    shadows: tuple[Text, ...] = ()


class Enable(Model):
    """What lets an AgileX Piper move: std_msgs/Bool true on `topic`, or the piper_msgs/Enable service
    `service`, which says whether it worked. Exactly one of them. Either closes the gripper."""

    topic: Topic | None = None
    service: Topic | None = None


class PiperJointDriver(Model):
    """Piper_ros: sensor_msgs/JointState on `topic`; speed_percent: of the speed its motors may have."""

    topic: Topic
    speed_percent: Annotated[int, Field(ge=1, le=100, json_schema_extra=unit("%"))]
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


class TwistDriver(Model):
    """A base's driver: geometry_msgs/Twist on `topic`, forward in linear.x and turning in angular.z.

    torque_service (std_srvs/SetBool), where given, is called with true before the first command: it switches
    the motors on (interbotix_slate_driver: .../set_motor_torque_status).
    """

    topic: Topic
    torque_service: Topic | None = None
