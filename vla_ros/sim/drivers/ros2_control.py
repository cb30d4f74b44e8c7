"""ros2_control: trajectory, forward-position and CRISP Cartesian controllers, and a GripperCommand action.

A real arm runs one of the controllers at a time; the twin listens to all that the robot YAML names.

franka_ros2 (franka_bringup, franka.launch.py) has a joint_state_publisher beside its broadcasters, which puts
the newest of the arm's and of franka_gripper's joint states together at 30 Hz (`joint_state_rate`). What a
reflex does is told in `vla_ros.sim.drivers.reflex`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from vla_ros.errors import Refused
from vla_ros.robot.config import Arm
from vla_ros.robot.config_fields import Stream
from vla_ros.sim.arm import SimArm
from vla_ros.sim.controllers import SECOND_NS, TrajectoryPoint, pose_matrix
from vla_ros.sim.drivers.face import Command, Face, Host, JointStates, Output, arm_values
from vla_ros.sim.drivers.gripper_action import GripperServer
from vla_ros.sim.drivers.reflex import Reflex
from vla_ros.types import FloatArray

FRANKA_GRIPPER = "franka_gripper/joint_states"
AGGREGATED_HZ = 30.0


class Ros2Control(Face):
    """See `vla_ros.sim.drivers.face.Face`."""

    def __init__(self, host: Host, arm: SimArm) -> None:
        self._arm = arm
        config, gripper = arm.config, arm.gripper
        self._gripper = None
        self._reflex = None
        self._values = arm_values(arm)
        recovery = getattr(config.drivers, config.driver).recovery
        if recovery is not None:
            try:
                self._reflex = Reflex(host, arm.name, recovery, self._stay)
            except ImportError as error:
                host.node.get_logger().info(f"{arm.name}: no reflex is simulated ({error})")
        outputs: list[Output] = []
        if gripper is not None and gripper.config.states.topic == config.states.topic:
            # joint_state_broadcaster: every joint in one message.
            names = [*config.joints, *gripper.config.joints]
            outputs.append(JointStates(host.node, config.states, config.base_frame, names, self._together))
        else:
            aggregated = aggregated_topic(config)
            if aggregated is not None:
                stream = Stream(topic=aggregated, rate_hz=AGGREGATED_HZ, max_age_ms=100)
                names = [*config.joints, *(gripper.config.joints if gripper is not None else ())]
                outputs.append(JointStates(host.node, stream, "", names, self._together))
            if aggregated != config.states.topic:
                outputs.append(
                    JointStates(host.node, config.states, config.base_frame, config.joints, self._arm_values)
                )
            if gripper is not None:
                zeros = np.zeros(len(gripper.config.joints))
                outputs.append(
                    # Like franka_gripper: positions only.
                    JointStates(
                        host.node,
                        gripper.config.states,
                        config.tool_frame,
                        gripper.config.joints,
                        lambda: (gripper.positions(), zeros, zeros),
                    )
                )
        if gripper is not None and gripper.config.action is not None:
            self._gripper = GripperServer(host.node, gripper, gripper.config.action, host.in_physics)
        super().__init__(host, outputs, self._listed())

    def publish(self, stamp_ns: int) -> None:
        """See Face."""
        super().publish(stamp_ns)
        if self._gripper is not None:
            self._gripper.watch(stamp_ns)

    def discard(self) -> None:
        """See Face."""
        super().discard()
        if self._gripper is not None:
            self._gripper.forget()

    def destroy(self) -> None:
        """See Face."""
        if self._gripper is not None:
            self._gripper.destroy()
        if self._reflex is not None:
            self._reflex.destroy()

    def _stay(self) -> None:
        self._arm.controllers.reset(self._arm.body.positions())

    def _arm_values(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Of the arm's joints; after a reflex, of when it came."""
        if self._reflex is None or self._reflex.obeys:
            self._values = arm_values(self._arm)
        return self._values

    def _awake(self, obey: Callable[[Any, int], None]) -> Callable[[Any, int], None]:
        def obey_unless_stopped(message: Any, now_ns: int) -> None:
            if self._reflex is not None and not self._reflex.obeys:
                raise Refused("reflex", "the arm has stopped with a reflex")
            obey(message, now_ns)

        return obey_unless_stopped

    def _together(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        assert self._arm.gripper is not None
        q, v, effort = self._arm_values()
        fingers = self._arm.gripper.positions()
        rest = np.zeros(len(fingers))
        return np.append(q, fingers), np.append(v, rest), np.append(effort, rest)

    def _listed(self) -> list[Command]:
        drivers = self._arm.config.drivers
        commands = []
        if drivers.joint_position is not None:
            commands.append(
                Command(
                    "joint_position",
                    Float64MultiArray,
                    drivers.joint_position.topic,
                    self._awake(lambda message, _: self._arm.controllers.joint_position(message.data)),
                    "std_msgs/msg/Float64MultiArray",
                )
            )
        if drivers.joint_trajectory is not None:
            commands.append(
                Command(
                    "joint_trajectory",
                    JointTrajectory,
                    drivers.joint_trajectory.topic,
                    self._awake(self._trajectory),
                    "trajectory_msgs/msg/JointTrajectory",
                )
            )
        if drivers.cartesian_pose is not None:
            commands.append(
                Command(
                    "cartesian_pose",
                    PoseStamped,
                    drivers.cartesian_pose.topic,
                    self._awake(self._cartesian_pose),
                    "geometry_msgs/msg/PoseStamped",
                )
            )
        return commands

    def _trajectory(self, message: Any, now_ns: int) -> None:
        points = [
            TrajectoryPoint(
                point.positions, _nanoseconds(point.time_from_start), point.velocities, point.accelerations
            )
            for point in message.points
        ]
        start_ns = _nanoseconds(message.header.stamp)
        self._arm.controllers.joint_trajectory(message.joint_names, points, start_ns, now_ns)

    def _cartesian_pose(self, message: Any, now_ns: int) -> None:
        place, turn = message.pose.position, message.pose.orientation
        pose = pose_matrix((place.x, place.y, place.z), (turn.x, turn.y, turn.z, turn.w))
        self._arm.controllers.cartesian_pose(pose, message.header.frame_id)


def aggregated_topic(arm: Arm) -> str | None:
    """Where a Franka's arm and fingers are published together, beside its gripper's; None for others."""
    topic = "" if arm.gripper is None else arm.gripper.states.topic
    return topic.removesuffix(FRANKA_GRIPPER) + "joint_states" if topic.endswith(FRANKA_GRIPPER) else None


def _nanoseconds(time: Any) -> int:
    return int(time.sec) * SECOND_NS + int(time.nanosec)
