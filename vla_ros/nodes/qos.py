"""Qualities of service that both ends of our own topics have to agree on."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.robot.config_fields import Stream

try:
    from rclpy.event_handler import QoSLivelinessChangedInfo, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import QoSLivelinessChangedInfo, SubscriptionEventCallbacks

__all__ = [
    "LATCHED",
    "STATUS_QOS",
    "STATUS_TOPIC",
    "QoSLivelinessChangedInfo",
    "SubscriptionEventCallbacks",
    "state_qos",
]

# The newest message is there for whoever comes later.
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

# AUTOMATIC: DDS itself says that policy_node's process lives, however long an inference holds Python up; a
# subscriber learns of its end within the lease.
STATUS_TOPIC = "vla/policy_status"
STATUS_QOS = QoSProfile(
    depth=1,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(nanoseconds=500_000_000),
)


def state_qos(stream: Stream, depth: int = 5) -> QoSProfile:
    """For either end of a stream of states. A reliable subscriber gets nothing from a best-effort publisher.

    depth: how many messages wait; by default as many as one that is polled needs.
    """
    best_effort = stream.reliability == "best_effort"
    reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
    return QoSProfile(depth=depth, reliability=reliability)
