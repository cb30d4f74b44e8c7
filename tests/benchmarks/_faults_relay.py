"""A process between a driver and the graph that hands streams on as they are, until told to spoil them.

Argument: JSON list of streams {"name", "type", "from", "to", "reliable", "command"}. On standard input one
JSON object per line: {"stream", "kind", "amount", "count", "rewrite"} sets a stream's edit, {"offset_ns"}
shifts all stamps (those of commands back again); each is answered by a line "ok" once it is in force.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message

from vla_ros.benchmarks._faults_edit import Edit, Editor
from vla_ros.nodes.realtime import real_time_thread
from vla_ros.nodes.topic_types import message_class
from vla_ros.nodes.transport import configure_dds, polled_subscription, take_all

POLL_S = 0.001


def reordered(kind: Any, message: bytes) -> bytes:
    """A JointState with its joints in another order: each keeps its name."""
    state = deserialize_message(message, kind)
    for field in ("name", "position", "velocity", "effort"):
        values = list(getattr(state, field))
        setattr(state, field, values[::-1])
    return bytes(serialize_message(state))


def jumped(kind: Any, message: bytes, joint: int, by: float) -> bytes:
    """A JointState in which one joint reads `by` rad more."""
    state = deserialize_message(message, kind)
    state.position[joint] += by
    return bytes(serialize_message(state))


def rewriter(kind: Any, what: dict[str, Any] | None) -> Callable[[bytes], bytes]:
    """The function behind the "rewrite" of a command line."""
    if what is None:
        return bytes
    if what["what"] == "reorder":
        return partial(reordered, kind)
    return partial(jumped, kind, joint=what["joint"], by=what["by"])


class Relay:
    """See the module."""

    def __init__(self, node: Any, streams: list[dict[str, Any]]) -> None:
        self._lock = threading.Lock()
        self._streams: dict[str, tuple[Any, Any, Any, Editor, bool]] = {}
        for stream in streams:
            kind = message_class(stream["type"])
            reliability = ReliabilityPolicy.RELIABLE if stream["reliable"] else ReliabilityPolicy.BEST_EFFORT
            # Best effort on the way in reads either kind; the way out is as the driver's own.
            inward = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
            source = polled_subscription(node, kind, stream["from"], inward)
            sink = node.create_publisher(kind, stream["to"], QoSProfile(depth=10, reliability=reliability))
            self._streams[stream["name"]] = (kind, source, sink, Editor(), stream["command"])

    def obey(self, order: dict[str, Any]) -> None:
        """Put one line of standard input in force."""
        with self._lock:
            if "offset_ns" in order:
                for *_, editor, command in self._streams.values():
                    editor.offset_ns = -order["offset_ns"] if command else order["offset_ns"]
                return
            kind, _, _, editor, _ = self._streams[order["stream"]]
            editor.set(Edit(order["kind"], order["amount"], order["count"]), rewriter(kind, order["rewrite"]))

    def run(self) -> None:
        """Hand messages on, for ever."""
        real_time_thread()
        while True:
            time.sleep(POLL_S)
            with self._lock:
                for _, source, sink, editor, _ in self._streams.values():
                    now = time.monotonic_ns()
                    ready = editor.due(now)
                    for message in take_all(source):
                        ready += editor.push(message, now)
                    for message in ready:
                        sink.publish(message)


def main() -> None:
    """Serve until standard input closes."""
    streams = json.loads(sys.argv[1])
    images = any("Image" in stream["type"] for stream in streams)
    configure_dds("sent" if images else "none")
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node(f"relay_{os.getpid()}", start_parameter_services=False)
    relay = Relay(node, streams)
    threading.Thread(target=relay.run, daemon=True).start()
    print("ok", flush=True)
    for line in sys.stdin:
        relay.obey(json.loads(line))
        print("ok", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
