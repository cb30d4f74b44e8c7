"""The operator's emergency stop: `vla estop`, and `vla estop --keyboard`, where every key is the button.

The first thing that happens is the press; everything else is told afterwards.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool, String

from vla_ros.errors import VlaRosError
from vla_ros.nodes.qos import LATCHED
from vla_ros.robot.channels import BASE_CHANNELS, WANTED

# A control_node that is there is discovered, and answers, within this.
CONFIRM_S = 5.0
REST_S = 5.0
# Nothing commanded for this long, or the same so many times in a row, is rest.
SILENT_S, SAME = 0.3, 10
ESTOP = "estop"
LOOK_S = 0.02


class StopButton:
    """Presses the emergency stop of one graph, and sees what comes of it. For one thread."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._press = node.create_publisher(Bool, "vla/estop", LATCHED)
        self._executor = SingleThreadedExecutor(context=node.context)
        self._executor.add_node(node)
        self.source = ""
        self.reason = ""
        self._stopped: float | None = None
        self._commands: list[tuple[float, tuple[str, ...], np.ndarray]] = []

    def press(self) -> None:
        """Press it: heard by a control_node that is there, and by one discovered while this node lives."""
        self._press.publish(Bool(data=True))

    def listen(self) -> None:
        """Listen to what control_node tells."""
        node = self.node
        node.create_subscription(String, "vla/control_source", self._on_source, LATCHED)
        node.create_subscription(JointState, "vla/command", self._on_command, 100)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def look(self, timeout_s: float = LOOK_S) -> None:
        """Take in what has arrived, waiting at most so long for it."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def confirmed(self, timeout_s: float) -> bool:
        """Wait until control_node says that it is stopped."""
        deadline = time.monotonic() + timeout_s
        while self.source != ESTOP and time.monotonic() < deadline:
            self.look()
        return self.source == ESTOP

    def rest(self) -> str:
        """Wait until the arms are commanded to rest; what they did, in words."""
        assert self._stopped is not None
        deadline = self._stopped + REST_S
        while time.monotonic() < deadline:
            self.look()
            since = [each for each in self._commands if each[0] >= self._stopped]
            last = since[-1][0] if since else self._stopped
            positions = [values for _, _, values in since[-SAME:]]
            still = len(positions) == SAME and all(np.array_equal(each, positions[-1]) for each in positions)
            if still or time.monotonic() - last > SILENT_S:
                return self._what_they_did()
        return f"still moving {REST_S:.0f} s later"

    def close(self) -> None:
        """Release the node's executor."""
        self._executor.shutdown(timeout_sec=1.0)

    def _what_they_did(self) -> str:
        assert self._stopped is not None
        since = [each for each in self._commands if each[0] >= self._stopped]
        moving = [
            later[0] for earlier, later in pairwise(since)
            if not np.array_equal(earlier[2], later[2])
        ]  # fmt: skip
        if not moving:
            return "it was at rest"
        # A base's velocities are no way, but they too have come to rest.
        arms = [name not in BASE_CHANNELS for name in since[-1][1]]
        travel = float(np.max(np.abs(since[-1][2] - since[0][2])[arms]))
        base = "" if all(arms) else ", the base too"
        return f"brought to rest in {moving[-1] - self._stopped:.2f} s, within {1e3 * travel:.1f} mrad{base}"

    def _on_source(self, message: String) -> None:
        self.source = message.data
        self._stopped = time.monotonic() if self.source == ESTOP else None

    def _on_command(self, message: JointState) -> None:
        joints = [
            i for i, name in enumerate(message.name)
            if not name.endswith(WANTED) and not name.endswith("/gripper")
        ]  # fmt: skip
        values = np.array(message.position)[joints]
        self._commands = [
            *self._commands[-1000:],
            (time.monotonic(), tuple(message.name[i] for i in joints), values),
        ]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == f"{self.node.get_namespace().rstrip('/')}/control_node".lstrip("/"):
                self.reason = next((pair.value for pair in status.values if pair.key == "estop_reason"), "")


def stop_once(button: StopButton) -> Iterator[str]:
    """Press, and tell line by line what came of it. Raises VlaRosError where nothing confirms the stop."""
    button.press()
    button.listen()
    yield "emergency stop pressed"
    if not button.confirmed(CONFIRM_S):
        raise VlaRosError(
            f"nothing confirmed the emergency stop within {CONFIRM_S:.0f} s: does control_node run, in the "
            f"namespace '{button.node.get_namespace()}'? Use the robot's own emergency stop"
        )
    yield f"stopped: {button.rest()}; it stays stopped until `vla reset`"


def stop_by_keyboard(button: StopButton) -> None:
    """Every key presses, until Ctrl-C; so does a terminal that goes away, and with it the operator's hand.

    Raises VlaRosError where there is no keyboard.
    """
    if not sys.stdin.isatty():
        raise VlaRosError("`vla estop --keyboard` needs a terminal: stdin is none")
    button.listen()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    ended: list[int] = []
    # Not as an exception, which may come up anywhere within rclpy.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: ended.append(number))
    try:
        with _keys():
            print("Any key is the emergency stop; `vla reset` releases it; Ctrl-C ends this.")
            _watch_keys(button, ended)
    except OSError:
        button.press()
        button.confirmed(CONFIRM_S)


def _watch_keys(button: StopButton, ended: Sequence[int]) -> None:
    """Until a signal is in `ended`; raises OSError when the terminal is gone."""
    pressed: float | None = None
    shown = ""
    while not ended:
        while select.select([sys.stdin], [], [], 0.0)[0]:
            if not os.read(sys.stdin.fileno(), 100):
                raise OSError("the terminal is gone")
            button.press()
            pressed = time.monotonic()
        button.look()
        line = _state(button, pressed)
        if line != shown:
            shown = line
            print(f"\r\x1b[K{line}", end="", flush=True)


def _state(button: StopButton, pressed: float | None) -> str:
    if button.source == ESTOP:
        return "STOPPED" + (f" ({button.reason})" if button.reason else "")
    if pressed is not None and time.monotonic() - pressed < CONFIRM_S:
        return "pressed"
    if not button.source:
        return "no control_node is heard"
    return f"ready; control_node says: {button.source}"


@contextmanager
def _keys() -> Iterator[None]:
    """Keys as they are pressed, without Enter and without echo."""
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        with suppress(OSError, termios.error):
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
            print(flush=True)


@contextmanager
def stop_button(namespace: str) -> Iterator[StopButton]:
    """A button in the graph of `namespace`; for a process that has no other use of ROS."""
    from vla_ros.nodes.transport import configure_dds

    configure_dds()
    # Ctrl-C is Python's own business: with rclpy's handler, waiting would end at once and for ever.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        # Without what it does not need, it is there sooner.
        node = rclpy.create_node(
            "vla_estop", namespace=namespace, enable_rosout=False, start_parameter_services=False
        )
        button = StopButton(node)
        try:
            yield button
        finally:
            button.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
