"""policy_node's parameters about when to infer and what to publish; all may change while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rclpy.node import Node

from vla_ros.action.decode import SPEEDS
from vla_ros.action.schedule import MODES
from vla_ros.errors import VlaRosError
from vla_ros.nodes.lifecycle import declare
from vla_ros.policy.trigger import TRIGGERS, Pace

NAMES = ("mode", "trigger", "inference_rate_hz", "trigger_horizon_s", "execute_steps", "speed")
NS = 1_000_000_000


def declare_pace(node: Node) -> None:
    """Declare them, with their ranges."""
    declare(
        node, "mode", "ensemble", f"How chunks follow one another: {', '.join(MODES)}; control_node's too."
    )
    declare(node, "trigger", "rate", f"What starts an inference: {', '.join(TRIGGERS)}; sync has its own.")
    declare(node, "inference_rate_hz", 10.0, "Chunks per second that trigger 'rate' aims at.", 0.1, 100.0)
    text = "Trigger 'horizon' infers when no more than this of the last chunk is still to come."
    declare(node, "trigger_horizon_s", 0.5, text, 0.0, 60.0)
    declare(node, "execute_steps", 0, "Rows of each chunk that are published; 0: all.", 0, 10_000)
    declare(node, "speed", 1.0, "Speed relative to the one the policy was trained at.", *SPEEDS)


def read_pace(node: Node, changes: Mapping[str, Any] | None = None, horizon: int | None = None) -> Pace:
    """The parameters' values, `changes` first.

    horizon: rows of the policy's chunks, where one is loaded. Raises VlaRosError for what cannot be.
    """
    values = {name: node.get_parameter(name).value for name in NAMES} | dict(changes or {})
    for name, words in (("mode", MODES), ("trigger", TRIGGERS)):
        if values[name] not in words:
            raise VlaRosError(f"policy_node: {name} '{values[name]}'; expected one of {', '.join(words)}")
    steps = int(values["execute_steps"])
    if horizon is not None and steps > horizon:
        raise VlaRosError(
            f"policy_node: execute_steps {steps}; the policy's chunks have {horizon} rows: use 0 for all of "
            f"them, or fewer"
        )
    return Pace(
        mode=values["mode"],
        trigger=values["trigger"],
        period_ns=round(NS / values["inference_rate_hz"]),
        horizon_ns=round(values["trigger_horizon_s"] * NS),
        execute_steps=steps,
        speed=float(values["speed"]),
    )
