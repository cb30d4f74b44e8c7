"""Which topics an episode holds, and how each is thinned on its way to disk."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vla_ros.robot.config import Robot

# At these rates an episode of 15 s stays under 10 MB.
IMAGE_RATE_HZ = 10.0
STATE_RATE_HZ = 100.0

COMMAND_TOPICS = {
    "joint_trajectory": "trajectory_msgs/msg/JointTrajectory",
    "joint_position": "std_msgs/msg/Float64MultiArray",
    "cartesian_pose": "geometry_msgs/msg/PoseStamped",
    "interbotix": "interbotix_xs_msgs/msg/JointGroupCommand",
    "piper_joint": "sensor_msgs/msg/JointState",
    "piper_pose": "piper_msgs/msg/PosCmd",
    "cobot_magic": "sensor_msgs/msg/JointState",
}
INTERBOTIX_GRIPPER = "interbotix_xs_msgs/msg/JointSingleCommand"

# Ours, of nodes without a namespace.
ACTION_CHUNK = "/vla/action_chunk"
COMMAND = "/vla/command"
CONTROL_SOURCE = "/vla/control_source"
INTERVENTION = "/vla/intervention"
PROMPT = "/vla/prompt"
ESTOP = "/vla/estop"
DIAGNOSTICS = "/diagnostics"
TASK = "/sim_node/task"
POLICY_STATUS = "/vla/policy_status"
POLICY_PROMPT = "/vla/policy_prompt"
CONTROL_STATUS = "/vla/control_status"


@dataclass(frozen=True)
class RecordedTopic:
    """One topic of an episode file.

    topic: the name on the graph; type: `package/msg/Name`.
    reliable, transient_local, depth: the subscription's QoS. Thinned topics take depth 1: what is
        skipped is then dropped by the middleware and never copied.
    max_rate_hz: newest message at most this often; None keeps every message.
    jpeg: a raw image, stored as sensor_msgs/msg/CompressedImage on `<topic>/compressed`.
    shared: several nodes publish it, so that numbers of messages tell nothing of those that were lost.
    """

    topic: str
    type: str
    reliable: bool = True
    transient_local: bool = False
    depth: int = 1000
    max_rate_hz: float | None = None
    jpeg: bool = False
    shared: bool = False

    @property
    def counted(self) -> bool:
        """Whether every message of it is to be stored, and one that was lost on the way can be told."""
        return self.max_rate_hz is None and not self.transient_local and not self.shared

    @property
    def stored_topic(self) -> str:
        """The channel's topic in the file."""
        return f"{self.topic}/compressed" if self.jpeg else self.topic

    @property
    def stored_type(self) -> str:
        """The channel's type in the file."""
        return "sensor_msgs/msg/CompressedImage" if self.jpeg else self.type


def recorded_topics(robot: Robot, namespace: str = "/") -> tuple[RecordedTopic, ...]:
    """Everything one needs to replay, judge or learn from an episode of `robot`, whose nodes are in
    `namespace`."""
    topics = []
    for arm in robot.arms.values():
        driver = getattr(arm.drivers, arm.driver)
        topics += [
            _thinned(arm.states.topic, "sensor_msgs/msg/JointState", STATE_RATE_HZ),
            RecordedTopic(driver.topic, COMMAND_TOPICS[arm.driver]),
        ]
        if arm.robot_description is not None:
            topics.append(_latched(arm.robot_description, "std_msgs/msg/String"))
        if arm.gripper is not None:
            topics.append(_thinned(arm.gripper.states.topic, "sensor_msgs/msg/JointState", STATE_RATE_HZ))
            if arm.gripper.interbotix is not None:
                topics.append(RecordedTopic(arm.gripper.interbotix.topic, INTERBOTIX_GRIPPER))
    if robot.base is not None:
        topics += [
            _thinned(robot.base.odometry.topic, "nav_msgs/msg/Odometry", STATE_RATE_HZ),
            RecordedTopic(robot.base.twist.topic, "geometry_msgs/msg/Twist"),
        ]
    for camera in robot.cameras.values():
        raw = camera.transport == "raw"
        kind = "sensor_msgs/msg/Image" if raw else "sensor_msgs/msg/CompressedImage"
        topics += [
            RecordedTopic(camera.topic, kind, reliable=False, depth=1, max_rate_hz=IMAGE_RATE_HZ, jpeg=raw),
            _thinned(camera.camera_info, "sensor_msgs/msg/CameraInfo", 1.0),
        ]
    ours = [
        RecordedTopic(ACTION_CHUNK, "trajectory_msgs/msg/JointTrajectory"),
        RecordedTopic(COMMAND, "sensor_msgs/msg/JointState"),
        _latched(CONTROL_SOURCE, "std_msgs/msg/String"),
        _latched(CONTROL_STATUS, "std_msgs/msg/String"),
        _latched(POLICY_STATUS, "std_msgs/msg/String"),
        _latched(INTERVENTION, "std_msgs/msg/String"),
        _latched(PROMPT, "std_msgs/msg/String"),
        _latched(POLICY_PROMPT, "std_msgs/msg/String"),
        _latched(ESTOP, "std_msgs/msg/Bool"),
        _latched(TASK, "std_msgs/msg/String"),
    ]
    diagnostics = RecordedTopic(DIAGNOSTICS, "diagnostic_msgs/msg/DiagnosticArray", shared=True)
    named = [
        *(replace(topic, topic=on_graph(topic.topic, namespace)) for topic in topics),
        *(replace(topic, topic=namespace.rstrip("/") + topic.topic) for topic in ours),
        diagnostics,
    ]
    # Two arms may share one joint state topic or one description.
    return tuple({topic.topic: topic for topic in named}.values())


def on_graph(topic: str, namespace: str) -> str:
    """The full name of a robot YAML's topic for nodes in `namespace`, which holds those without a slash."""
    return topic if topic.startswith("/") else f"{namespace.rstrip('/')}/{topic}"


def _thinned(topic: str, kind: str, rate_hz: float) -> RecordedTopic:
    return RecordedTopic(topic, kind, reliable=False, depth=1, max_rate_hz=rate_hz)


def _latched(topic: str, kind: str) -> RecordedTopic:
    return RecordedTopic(topic, kind, transient_local=True, depth=10)
