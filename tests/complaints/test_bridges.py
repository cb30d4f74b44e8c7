"""Any ROS 2 program can take part: our topics carry standard messages only, nothing has to be built first."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.tiny_bundle import ROOT

# In every ROS 2 distribution's core (ros_core and common_interfaces).
STANDARD = {
    "action_msgs",
    "builtin_interfaces",
    "diagnostic_msgs",
    "geometry_msgs",
    "lifecycle_msgs",
    "nav_msgs",
    "rcl_interfaces",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "std_srvs",
    "trajectory_msgs",
}
# What a driver speaks is not ours to choose, and only the files that talk to it, or play it, may.
DRIVERS_OWN = {
    "control_msgs",
    "controller_manager_msgs",
    "franka_msgs",
    "interbotix_xs_msgs",
    "piper_msgs",
}
MAY = ("nodes/gripper_client.py", "nodes/sim_gripper.py", "robot/drivers/", "sim/drivers/")

KINDS = ("msg", "srv", "action")


def interfaces(file: Path) -> set[str]:
    """Packages whose messages, services or actions a module imports."""
    modules = [
        node.module
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and node.module
    ]
    found = (re.fullmatch(r"(\w+)\.(?:msg|srv|action)", module) for module in modules)
    return {match[1] for match in found if match} - {"rclpy", "vla_ros"}


@pytest.mark.complaint("lerobot 4368")
def test_our_topics_carry_standard_messages_only() -> None:
    used: dict[str, set[str]] = {}
    for file in (ROOT / "vla_ros").rglob("*.py"):
        for package in interfaces(file):
            used.setdefault(package, set()).add(file.relative_to(ROOT / "vla_ros").as_posix())
    assert {"sensor_msgs", "trajectory_msgs", "std_srvs", "control_msgs"} <= set(used)
    foreign = {package: files for package, files in used.items() if package not in STANDARD}
    assert set(foreign) == DRIVERS_OWN
    assert all(file.startswith(MAY) for files in foreign.values() for file in files)


@pytest.mark.complaint("lerobot 4368")
def test_we_define_no_messages_of_our_own() -> None:
    """The folders under vla_ros/interfaces restate vendors' packages, for machines that lack those."""
    folders = [ROOT / "vla_ros", ROOT / "export", *(ROOT / kind for kind in KINDS)]
    found = {
        file.parent.parent.name for folder in folders for kind in KINDS for file in folder.rglob(f"*.{kind}")
    }
    assert found == DRIVERS_OWN
    package = (ROOT / "package.xml").read_text()
    assert "rosidl" not in package
