"""What every process of ours shares: a lifecycle node, its parameters and services, and `run`.

A node derives from `ManagedNode` and overrides `configure`, `activate`, `deactivate` and `cleanup`; each
raises a VlaRosError to refuse. `run` is a process's whole main: it configures and activates the node unless
parameter `autostart` is false, spins it, and on SIGINT or SIGTERM deactivates it while ROS still works, so
that a robot can be brought to a hold before the process ends.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any

import rclpy
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.callback_groups import CallbackGroup
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.service import Service
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from vla_ros.errors import VlaRosError
from vla_ros.nodes.output import never_block_on_output
from vla_ros.nodes.transport import Images, check_dds, clean_stale_segments, configure_dds

RCLError = rclpy_implementation.RCLError

# Once one node of a graph is discovered, the others are within this.
SEEN_S = 0.75

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ManagedNode(LifecycleNode):
    """A lifecycle node whose transitions are plain methods that may raise.

    A refused configure or activate leaves the node where it was, with everything released again;
    `failure` then holds the text. Transitions run on the executor's thread, or, at autostart and at the
    end, on the main thread while the executor does not spin: never two at once.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.failure: str | None = None
        self.ended = threading.Event()
        declare(self, "autostart", True, "Configure and activate at start, without a lifecycle manager.")
        for service in self.services:
            if service.srv_type is ChangeState:
                service.callback = partial(self._change_state, service.callback)

    def _change_state(self, change: Callable[[Any, Any], Any], request: Any, response: Any) -> Any:
        """Refuse a transition that there is not from here: rclpy raises, which would end the process."""
        try:
            return change(request, response)
        except RCLError as error:
            self.get_logger().warning(f"change_state to {request.transition.id} refused: {error}")
            response.success = False
            return response

    def configure(self) -> None:
        """Read parameters and files, make publishers and subscriptions. Raise to refuse."""

    def activate(self) -> None:
        """Begin work. Raise to refuse."""

    def deactivate(self) -> None:
        """End work; a robot is brought to a hold first. Called in any state: must be idempotent."""

    def cleanup(self) -> None:
        """Release what `configure` made. Called in any state: must be idempotent."""

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback; calls `configure`."""
        return self._attempt("configure", self.configure, self.cleanup)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback; calls `activate`."""
        result = self._attempt("activate", self.activate, self.deactivate)
        return super().on_activate(state) if result == SUCCESS else result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback; calls `deactivate`."""
        self._attempt("deactivate", self.deactivate, None)
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback; calls `cleanup`."""
        self._attempt("cleanup", self.cleanup, None)
        return SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Lifecycle callback; ends work, releases everything and lets the process end."""
        self._attempt("deactivate", self.deactivate, None)
        self._attempt("cleanup", self.cleanup, None)
        self.ended.set()
        return SUCCESS

    def _attempt(
        self, what: str, action: Callable[[], None], undo: Callable[[], None] | None
    ) -> TransitionCallbackReturn:
        try:
            action()
        except VlaRosError as error:
            self.failure = str(error)
        except Exception:
            # rclpy drops the exception of a transition without a word.
            self.failure = f"{what}: {traceback.format_exc()}"
        else:
            return SUCCESS
        self.get_logger().error(self.failure)
        if undo is not None:
            self._attempt(f"undo {what}", undo, None)
        return FAILURE


def declare(
    node: Node,
    name: str,
    default: bool | int | float | str,
    description: str,
    minimum: float | None = None,
    maximum: float | None = None,
) -> None:
    """Declare a parameter with its description and, for a number, its range; its type is the default's."""
    descriptor = ParameterDescriptor(description=description)
    if minimum is not None and maximum is not None:
        if isinstance(default, int):
            descriptor.integer_range = [IntegerRange(from_value=int(minimum), to_value=int(maximum))]
        else:
            descriptor.floating_point_range = [
                FloatingPointRange(from_value=float(minimum), to_value=float(maximum))
            ]
    node.declare_parameter(name, default, descriptor)


def trigger_service(
    node: Node, name: str, action: Callable[[], str], callback_group: CallbackGroup | None = None
) -> Service:
    """Offer a std_srvs/Trigger service `~/name`.

    `action` returns the text of the answer, or raises VlaRosError, whose text is answered with
    success = false.
    """

    def serve(_: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.message, response.success = action(), True
        except VlaRosError as error:
            response.message, response.success = str(error), False
        return response

    return node.create_service(Trigger, f"~/{name}", serve, callback_group=callback_group)


def wait_until_alone(node: Node, others: Callable[[], list[str]], settle_s: float, patience_s: float) -> None:
    """Watch the graph for others that must not be there.

    others: a list of texts, one per other that stands in the way. Discovery takes a moment: looks for at
    least `settle_s`, and on until other nodes have been visible for a while, or `patience_s` if there are
    none. Where a rival shows up, waits up to `patience_s` for it to go, because a process killed the hard
    way may stay in the graph until its DDS lease runs out.
    Raises VlaRosError naming them.
    """
    begin = time.monotonic()
    company: float | None = None
    warned = False
    while True:
        found = others()
        spent = time.monotonic() - begin
        if company is None and len(node.get_node_names()) > 1:
            company = spent
        settled = spent >= settle_s and (spent >= patience_s or _since(company, spent) >= SEEN_S)
        if found and spent >= patience_s:
            raise VlaRosError(
                f"{node.get_fully_qualified_name()}: {'; '.join(found)}. Stop it first: two of them would "
                "fight over the robot. (A process that was just killed stays visible for some seconds.)"
            )
        if settled and not found:
            return
        if found and not warned:
            node.get_logger().warning(f"waiting up to {patience_s:.0f} s for this to go: {'; '.join(found)}")
            warned = True
        time.sleep(0.05)


def _since(when: float | None, now: float) -> float:
    return -1.0 if when is None else now - when


def same_name_nodes(node: Node) -> list[str]:
    """A text if another node of this node's full name is in the graph."""
    mine = (node.get_name(), node.get_namespace())
    count = node.get_node_names_and_namespaces().count(mine)
    return [f"{count - 1} other node named {node.get_fully_qualified_name()} runs"] if count > 1 else []


def run(
    make_node: Callable[[], ManagedNode], args: Sequence[str] | None = None, images: Images = "none"
) -> int:
    """The main of a process. Returns the exit status: 0, or 1 when the node refused to start.

    args: ROS arguments as in sys.argv. images: what the node does with some, see `configure_dds`. The
    executor has a thread of its own and the main thread only waits, because Python runs signal handlers
    there. rclpy's own handlers are not installed: they would shut ROS down before the last commands are out.
    """
    never_block_on_output()
    ended = threading.Event()
    signalled = False

    def end(_signal: int, _frame: FrameType | None) -> None:
        # Only this: a handler that takes a lock, as Event.set does, stands for ever where it interrupts the
        # holder of that lock, itself at an earlier signal included, and the arm would go on moving.
        nonlocal signalled
        signalled = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    clean_stale_segments()
    configure_dds(images)
    rclpy.init(args=list(sys.argv if args is None else args), signal_handler_options=SignalHandlerOptions.NO)
    node = None
    try:
        node = make_node()
        node.ended = ended
        dds = check_dds(images)
        (node.get_logger().debug if dds.in_effect else node.get_logger().warning)(dds.text)
        if node.get_parameter("autostart").value:
            for transition in (node.trigger_configure, node.trigger_activate):
                if signalled or ended.is_set():
                    return 0
                if transition() != SUCCESS:
                    return 1
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        spinner = threading.Thread(target=_spin, args=(executor, node), name="executor", daemon=True)
        spinner.start()
        # A signal may be delivered to one of DDS's threads; the handler runs when this thread next wakes.
        while not (signalled or ended.is_set()):
            time.sleep(0.1)
        executor.shutdown(timeout_sec=2.0)
        spinner.join(timeout=2.0)
        return 1 if node.failure == "executor" else 0
    except VlaRosError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        if node is not None:
            node.deactivate()
            node.cleanup()
            node.destroy_node()
        rclpy.try_shutdown()


def _spin(executor: SingleThreadedExecutor, node: ManagedNode) -> None:
    try:
        executor.spin()
    except ExternalShutdownException:
        pass
    except Exception:
        # An exception in a callback ends the process in order, never leaves half a node running.
        node.failure = "executor"
        node.get_logger().fatal(traceback.format_exc())
    finally:
        node.ended.set()
