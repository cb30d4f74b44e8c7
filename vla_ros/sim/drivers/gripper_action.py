"""The gripper of the twin: control_msgs/action/GripperCommand as franka_gripper and ros2_control serve it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionServer, CancelResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from vla_ros.errors import VlaRosError
from vla_ros.robot.config_drivers import GripperActionDriver
from vla_ros.robot.grippers import command_for, width_commanded
from vla_ros.sim.gripper import GripperOutcome, SimGripper

_PERIOD_S = 0.02


class GripperServer:
    """One goal at a time; a new goal takes over from the old one, which ends as aborted.

    Methods run on the executor's thread, except `watch` and `forget`, which belong to the physics thread.
    `in_physics(action)` has an action done there before the next step.
    """

    def __init__(
        self,
        node: Node,
        gripper: SimGripper,
        config: GripperActionDriver,
        in_physics: Callable[[Callable[[], None]], None],
    ) -> None:
        try:
            from control_msgs.action import GripperCommand
        except ImportError as error:
            raise VlaRosError(
                f"control_msgs cannot be imported ({error}): on a ROS system install "
                "ros-$ROS_DISTRO-control-msgs; elsewhere run `make setup`, which builds it"
            ) from error
        self._gripper, self._config = gripper, config
        self._node = node
        self._in_physics = in_physics
        self._result = GripperCommand.Result
        self._goal: ServerGoalHandle | None = None
        # Physics thread: the goal that the fingers follow. Its end is passed on together with it, so
        # that the end of a goal that was taken over is never mistaken for the next one's.
        self._followed: ServerGoalHandle | None = None
        self._ended: tuple[ServerGoalHandle, GripperOutcome | str] | None = None
        self._watched_ns = 0
        self._server = ActionServer(
            node,
            GripperCommand,
            config.action,
            execute_callback=self._never,
            handle_accepted_callback=self._accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        self._timer = node.create_timer(
            _PERIOD_S, self._finish, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._timer.cancel()

    def destroy(self) -> None:
        """Stop serving."""
        self._node.destroy_timer(self._timer)
        self._server.destroy()

    def watch(self, now_ns: int) -> None:
        """Physics thread: look at the fingers every 20 ms."""
        elapsed = now_ns - self._watched_ns
        if elapsed >= _PERIOD_S * 1e9:
            self._watched_ns = now_ns
            outcome = self._gripper.outcome(now_ns, elapsed)
            if outcome is not None and self._followed is not None:
                self._ended = (self._followed, outcome)

    def forget(self) -> None:
        """Physics thread: the scene was reset, a running goal is over."""
        if self._followed is not None:
            self._ended = (self._followed, "the scene was reset")

    def _accepted(self, goal: ServerGoalHandle) -> None:
        # The goal is not executed before it is over: a coroutine that waits keeps rclpy's executor busy.
        if self._goal is not None:
            self._end(self._goal, ServerGoalHandle.abort, self._width(), stalled=False, reached=False)
        self._goal = goal
        command = goal.request.command
        width = width_commanded(self._gripper.config, command.position)
        effort = command.max_effort or self._config.max_effort

        def begin() -> None:
            self._followed = goal
            try:
                self._gripper.command(width, effort)
            except ValueError as error:
                self._ended = (goal, str(error))

        self._in_physics(begin)
        self._timer.reset()

    def _finish(self) -> None:
        goal, ended = self._goal, self._ended
        if goal is None:
            self._timer.cancel()
        elif goal.is_cancel_requested:
            width = self._width()
            effort = self._config.max_effort
            self._in_physics(lambda: self._gripper.command(width, effort))
            self._over(goal, ServerGoalHandle.canceled, width, stalled=False, reached=False)
        elif ended is not None and ended[0] is goal:
            outcome = ended[1]
            if isinstance(outcome, str):
                self._node.get_logger().warning(f"gripper goal aborted: {outcome}")
                self._over(goal, ServerGoalHandle.abort, self._width(), stalled=False, reached=False)
            else:
                self._over(goal, ServerGoalHandle.succeed, outcome.width, outcome.stalled, outcome.reached)

    def _over(
        self,
        goal: ServerGoalHandle,
        verdict: Callable[[ServerGoalHandle], None],
        width: float,
        stalled: bool,
        reached: bool,
    ) -> None:
        self._goal = None
        self._timer.cancel()
        self._end(goal, verdict, width, stalled, reached)

    def _end(
        self,
        goal: ServerGoalHandle,
        verdict: Callable[[ServerGoalHandle], None],
        width: float,
        stalled: bool,
        reached: bool,
    ) -> None:
        position = command_for(self._gripper.config, width)

        def execute(handle: ServerGoalHandle) -> Any:
            verdict(handle)
            return self._result(position=position, effort=0.0, stalled=stalled, reached_goal=reached)

        goal.execute(execute)

    def _width(self) -> float:
        return self._gripper.width

    @staticmethod
    def _never(goal: ServerGoalHandle) -> Any:
        raise AssertionError("goals are executed with a callback of their own")
