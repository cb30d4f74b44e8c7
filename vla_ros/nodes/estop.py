"""The ways into the emergency stop: topic `vla/estop` and service `~/estop`, from the node's first moment on.

What comes in here is a press and nothing else: `vla/estop` false releases nothing (only `~/reset` does), and
the node never publishes on `vla/estop` itself. Whether the arms are stopped has one source, the supervisor's
mode, told as `vla/control_source` = estop and with its reason in `/diagnostics`.
"""

from __future__ import annotations

import collections
import threading

from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from vla_ros.nodes.transport import never_executed, polled_subscription, take_all

LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
BEST_EFFORT = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LOOK_FOR_END_NS = 100_000_000
ANSWER_S = 0.5


class EmergencyStop:
    """Collects presses until the commanding thread takes them.

    The service has a thread of its own: the executor's may be busy with another service's answer, or not spin
    yet. A press that comes before there is a commanding thread is kept for it.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        # A latched press may be older than this node, and a subscription that asks for history gets nothing
        # from publishers without one: hence two.
        self._topics = [polled_subscription(node, Bool, "vla/estop", qos) for qos in (LATCHED, BEST_EFFORT)]
        self._service = node.create_service(
            Trigger, "~/estop", lambda _, response: response, callback_group=never_executed()
        )
        self._presses: collections.deque[str] = collections.deque()
        self._taken = threading.Event()
        self._halt = False
        self._thread = threading.Thread(target=self._serve, name="estop", daemon=True)
        self._thread.start()

    def press(self, reason: str) -> None:
        """Press it; any thread."""
        self._presses.append(reason)

    def take(self) -> str | None:
        """The reason of a press since the last call, None without one. For the commanding thread; never
        blocks."""
        reason = None
        for topic in self._topics:
            if any(deserialize_message(data, Bool).data for data in take_all(topic)):
                reason = "pressed on vla/estop"
        while self._presses:
            reason = self._presses.popleft()
        if reason is not None:
            self._taken.set()
        return reason

    def destroy(self) -> None:
        """Release topics and service."""
        self._halt = True
        self._thread.join(2.0)
        for topic in self._topics:
            self._node.destroy_subscription(topic)
        self._node.destroy_service(self._service)

    def _serve(self) -> None:
        handle = self._service.handle
        with handle:
            wait_set = rclpy_implementation.WaitSet(0, 0, 0, 0, 1, 0, self._node.context.handle)
            while not self._halt:
                wait_set.clear_entities()
                wait_set.add_service(handle)
                wait_set.wait(LOOK_FOR_END_NS)
                _request, header = handle.service_take_request(Trigger.Request)
                if header is None:
                    continue
                self._taken.clear()
                self.press("pressed by ~/estop")
                response = Trigger.Response(success=True, message="emergency stop; ~/reset releases it")
                if not self._taken.wait(ANSWER_S):
                    response.message = "emergency stop noted: nothing is commanded now, and nothing will be"
                try:
                    self._service.send_response(response, header)
                except Exception as error:
                    # Whoever asked is gone. The next one must be heard all the same.
                    self._node.get_logger().warning(f"~/estop: the answer could not be sent: {error}")
