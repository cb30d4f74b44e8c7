"""Sends a gripper's wanted width to its driver: a goal per change, never a stream."""

from __future__ import annotations

from typing import Any

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.nodes.diagnostics import DiagnosticsPublisher
from vla_ros.robot.config import Gripper
from vla_ros.robot.config_drivers import GripperActionDriver
from vla_ros.robot.grippers import command_for

RETRY_S = 0.5


class GripperClient:
    """control_msgs/action/GripperCommand for one gripper.

    `want` may be called from any thread and only notes the width; goals are sent, and answered, on the
    executor's thread. Goals sent, refused and failed are counted in the diagnostics under
    `gripper.<arm>.`; a goal that a newer one took over has not failed.
    """

    def __init__(
        self,
        node: Node,
        arm: str,
        gripper: Gripper,
        driver: GripperActionDriver,
        diagnostics: DiagnosticsPublisher,
    ) -> None:
        try:
            from control_msgs.action import GripperCommand
        except ImportError as error:
            raise VlaRosError(
                f"the gripper of '{arm}' is driven by control_msgs/action/GripperCommand, which cannot be "
                f"imported ({error}). On a ROS system: sudo apt install ros-$ROS_DISTRO-control-msgs; "
                "elsewhere: make setup, which builds it"
            ) from error
        self._node = node
        self._arm = arm
        self._gripper = gripper
        self._driver = driver
        self._diagnostics = diagnostics
        self._goal_type = GripperCommand.Goal
        self._client = ActionClient(node, GripperCommand, driver.action)
        self._wanted: float | None = None
        self._sent: float | None = None
        self._resting = False
        self._newest = 0
        self._changed = node.create_guard_condition(self._send)
        # A server that was not there, or refused, is asked again.
        self._timer = node.create_timer(RETRY_S, self._send, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def want(self, width: float) -> None:
        """Note the wanted opening width, m. Sent when it differs by more than `min_change_m`."""
        self._wanted = width
        self._resting = False
        if self._differs():
            self._changed.trigger()

    def rest(self) -> None:
        """Send no goal before the next `want`, not even one that had no server yet or was refused: the arm is
        held. A goal that is under way goes on, for a gripper that is stopped drops what it holds."""
        self._resting = True

    def forget(self) -> None:
        """Want nothing, and send the next width whatever was sent before: someone else may have moved it."""
        self._wanted = self._sent = None

    def destroy(self) -> None:
        """Release the client."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_guard_condition(self._changed)
        self._client.destroy()

    def _differs(self) -> bool:
        wanted, sent = self._wanted, self._sent
        return wanted is not None and (sent is None or abs(wanted - sent) > self._driver.min_change_m)

    def _send(self) -> None:
        wanted = self._wanted
        if self._resting or wanted is None or not self._differs():
            return
        if not self._client.server_is_ready():
            self._diagnostics.value(f"gripper.{self._arm}", f"no server {self._driver.action}")
            self._node.get_logger().warning(
                f"no gripper action server {self._driver.action}", throttle_duration_sec=10.0
            )
            return
        goal = self._goal_type()
        goal.command.position = command_for(self._gripper, wanted)
        goal.command.max_effort = self._driver.max_effort
        self._sent = wanted
        self._newest += 1
        number = self._newest
        self._diagnostics.count(f"gripper.{self._arm}.goals")
        self._diagnostics.value(f"gripper.{self._arm}", f"going to {wanted:.4f} m")
        future = self._client.send_goal_async(goal)
        future.add_done_callback(lambda done: self._answered(done.result(), number))

    def _answered(self, handle: Any, number: int) -> None:
        if not handle.accepted:
            self._diagnostics.count(f"gripper.{self._arm}.refused")
            if number == self._newest:
                self._diagnostics.value(f"gripper.{self._arm}", "goal refused by the driver")
                # Asked again by the timer.
                self._sent = None
            return
        handle.get_result_async().add_done_callback(lambda done: self._ended(done.result(), number))

    def _ended(self, response: Any, number: int) -> None:
        if number != self._newest:
            return
        result = response.result
        text = f"at {result.position:.4f}" + (", stalled" if result.stalled else "")
        # A gripper that closes on an object stalls, and that is what was wanted.
        if response.status == GoalStatus.STATUS_SUCCEEDED or result.stalled or result.reached_goal:
            self._diagnostics.value(f"gripper.{self._arm}", text)
        else:
            self._diagnostics.count(f"gripper.{self._arm}.failed")
            self._diagnostics.value(f"gripper.{self._arm}", f"failed (status {response.status}), {text}")
            self._node.get_logger().warning(
                f"gripper of '{self._arm}' failed: status {response.status}, {text}"
            )
