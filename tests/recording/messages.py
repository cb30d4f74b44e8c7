"""Real messages, serialised as a driver or node would, for tests of recording and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vla_ros.recording.mcap_file import typestore
from vla_ros.robot.config import Robot

ROBOTS = Path(__file__).parents[2] / "robot_configs"


def franka() -> Robot:
    return Robot.model_validate(yaml.safe_load((ROBOTS / "franka.yaml").read_text()))


def build(kind: str, **fields: Any) -> bytes:
    return bytes(typestore().serialize_cdr(typestore().types[kind](**fields), kind))


def time_of(ns: int) -> Any:
    return typestore().types["builtin_interfaces/msg/Time"](sec=ns // 10**9, nanosec=ns % 10**9)


def header(ns: int, frame: str = "") -> Any:
    return typestore().types["std_msgs/msg/Header"](stamp=time_of(ns), frame_id=frame)


def joint_state(ns: int, names: list[str], positions: list[float]) -> bytes:
    empty = np.zeros(0)
    return build(
        "sensor_msgs/msg/JointState",
        header=header(ns),
        name=names,
        position=np.array(positions, dtype=np.float64),
        velocity=empty,
        effort=empty,
    )


def image(ns: int, pixels: np.ndarray, encoding: str = "rgb8", padding: int = 0) -> bytes:
    rows = pixels.reshape(pixels.shape[0], -1)
    padded = np.hstack([rows, np.full((rows.shape[0], padding), 255, np.uint8)])
    return build(
        "sensor_msgs/msg/Image",
        header=header(ns, "front"),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=padded.shape[1],
        data=padded.ravel(),
    )


def chunk(ns: int, channels: list[str], targets: np.ndarray, step_ns: int) -> bytes:
    point = typestore().types["trajectory_msgs/msg/JointTrajectoryPoint"]
    duration = typestore().types["builtin_interfaces/msg/Duration"]
    empty = np.zeros(0)
    points = [
        point(
            positions=row,
            velocities=empty,
            accelerations=empty,
            effort=empty,
            time_from_start=duration(sec=0, nanosec=(k + 1) * step_ns),
        )
        for k, row in enumerate(np.asarray(targets, dtype=np.float64))
    ]
    return build(
        "trajectory_msgs/msg/JointTrajectory", header=header(ns), joint_names=channels, points=points
    )


def text(value: str) -> bytes:
    return build("std_msgs/msg/String", data=value)
