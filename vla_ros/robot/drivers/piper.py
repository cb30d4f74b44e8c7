"""AgileX Piper, as Piper_ros takes commands (src/piper/piper/piper_ctrl_single_node.py, branch humble).

Its node forgives nothing: a joint it does not find by name is driven to 0 rad, a seventh position it does not
find closes the gripper, no position is clamped, and what arrives before it is enabled is dropped in silence.
Enabling closes the gripper.
"""

from __future__ import annotations

from typing import Any, ClassVar

from vla_ros.action.rotations import encode_rotation
from vla_ros.errors import VlaRosError
from vla_ros.robot.config import Arm
from vla_ros.robot.config_drivers import Enable
from vla_ros.robot.drivers.agilex import AgilexJoints
from vla_ros.robot.drivers.driver import (
    Call,
    Recovery,
    Send,
    StartStep,
    checked,
    checked_gripper,
    checked_pose,
)
from vla_ros.types import FloatArray, Motion

_PACKAGE = (
    "Piper is driven with piper_msgs, which cannot be imported ({error}). Source the vendor's workspace; "
    "where rclpy comes from PyPI, `make setup` builds it"
)


class PiperJoint(AgilexJoints):
    """sensor_msgs/JointState: joint1 to joint6 and `gripper`, always all seven and in this order, for older
    nodes look at the order only. velocity[6] is the share of the motors' speed in %, and only looked at where
    there are seven; effort[6] is the gripper's force in N."""

    def __init__(self, arm: Arm) -> None:
        entry = arm.drivers.piper_joint
        assert entry is not None
        super().__init__(arm, entry.topic)
        self._velocity = [0.0] * len(arm.joints) + [float(entry.speed_percent)]
        self._enable = entry.enable

    def start_steps(self) -> tuple[StartStep, ...]:
        """Enabling, where the YAML says how."""
        return enable_steps(self._enable)


class PiperPose:
    """piper_msgs/PosCmd: where the end of link 6 goes in base_link: m, and rad about fixed axes.

    The node rounds the position to whole millimetres, and lets the arm's own planner go there at half speed:
    slow motions come out in steps. `piper_joint` has neither. The YAML's tool_frame has to be the frame that
    Piper's end pose is of.
    """

    goes_on: ClassVar[bool] = False
    settle_ns: ClassVar[int] = 0
    with_gripper: ClassVar[bool] = True

    def __init__(self, arm: Arm) -> None:
        try:
            from piper_msgs.msg import PosCmd
        except ImportError as error:
            raise VlaRosError(_PACKAGE.format(error=error)) from error
        assert arm.drivers.piper_pose is not None and arm.gripper is not None
        self.topic = arm.drivers.piper_pose.topic
        self.message_type: type = PosCmd
        self._enable = arm.drivers.piper_pose.enable
        self._joints = len(arm.joints)
        self._gripper = arm.gripper

    def start_steps(self) -> tuple[StartStep, ...]:
        """Enabling, where the YAML says how."""
        return enable_steps(self._enable)

    def recovery(self) -> Recovery | None:
        """None: Piper_ros serves nothing but enabling, which is a start's."""
        return None

    def message(self, motion: Motion, tool_pose: FloatArray, gripper: float | None, stamp_ns: int) -> Any:
        """See Driver.message."""
        checked(motion, self._joints)
        checked_pose(tool_pose)
        message: Any = self.message_type()
        message.gripper = checked_gripper(self._gripper, gripper)
        message.x, message.y, message.z = map(float, tool_pose[:3, 3])
        message.roll, message.pitch, message.yaw = encode_rotation(tool_pose[:3, :3], "euler_xyz").tolist()
        return message


def enable_steps(enable: Enable | None) -> tuple[StartStep, ...]:
    """What lets a Piper move."""
    if enable is None:
        return ()
    what = "enable the arm (this closes the gripper)"
    if enable.topic is not None:
        from std_msgs.msg import Bool

        return (Send(what, enable.topic, Bool(data=True)),)
    try:
        from piper_msgs.srv import Enable as Service
    except ImportError as error:
        raise VlaRosError(_PACKAGE.format(error=error)) from error
    assert enable.service is not None
    return (Call(what, enable.service, Service, Service.Request(enable_request=True), _not_enabled),)


def _not_enabled(response: Any) -> str:
    return "" if response.enable_response else "the arm's motors did not come on within the node's 5 s"
