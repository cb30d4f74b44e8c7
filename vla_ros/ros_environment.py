"""Which ROS 2 this process would get, and a plain refusal where it would get two.

rclpy comes either from a sourced ROS 2 distribution or from PyPI wheels (the `[ros]` extra). With both in
one process node creation fails deep inside C with a message that helps nobody, so it is checked before the
first `import rclpy`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from vla_ros.errors import VlaRosError


class RosEnvironmentError(VlaRosError):
    """No ROS 2, or two of them."""


def sourced_prefixes() -> list[Path]:
    """Prefixes of ROS 2 distributions that are sourced in this shell: they hold rclpy's package marker."""
    found = []
    for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        marker = Path(entry) / "share" / "ament_index" / "resource_index" / "packages" / "rclpy"
        inside = entry and Path(entry).resolve() == Path(sys.prefix).resolve()
        if entry and not inside and marker.is_file():
            found.append(Path(entry))
    return found


def wheels_version() -> str | None:
    """Version of the `ros-rclpy` wheel in this Python, None without it."""
    try:
        return importlib.metadata.version("ros-rclpy")
    except importlib.metadata.PackageNotFoundError:
        return None


def require_ros() -> None:
    """Raise RosEnvironmentError unless exactly one ROS 2 is in reach."""
    sourced, wheels = sourced_prefixes(), wheels_version()
    if sourced and wheels:
        raise RosEnvironmentError(
            f"two ROS 2 installations in one process: {sourced[0]} is sourced (AMENT_PREFIX_PATH), and "
            f"{sys.prefix} holds the ros-rclpy {wheels} wheels. They cannot be mixed. Either open a shell in "
            f"which no ROS is sourced, or use the distribution's rclpy and remove the wheels:\n"
            f"    {sys.executable} -m pip uninstall -y ros-rclpy rclpy ros-wheels-bootstrapper"
        )
    if not wheels and importlib.util.find_spec("rclpy") is None:
        raise RosEnvironmentError(
            "no ROS 2 in reach: rclpy cannot be imported. On a robot, source the distribution "
            "(`source /opt/ros/jazzy/setup.bash`); on a machine without ROS, install the wheels "
            "(`pip install 'vla_ros[ros]'`, x86-64 Linux, Python 3.10 to 3.13)."
        )
