"""What an installer relies on: one version, complete dependencies, light imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import vla_ros
from vla_ros.interfaces.build import GENERATORS

ROOT = Path(__file__).parent.parent
SETUP = (ROOT / "setup.py").read_text()
PACKAGE = ElementTree.parse(ROOT / "package.xml").getroot()


def imported(folder: Path) -> set[str]:
    """Top-level names of all imports below a folder (links to folders are not followed)."""
    names: set[str] = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.split(".")[0])
    return names


def runtime_modules() -> list[str]:
    """Every module of the runtime: not the export side, not the benchmarks."""
    files = [file.relative_to(ROOT).with_suffix("") for file in (ROOT / "vla_ros").rglob("*.py")]
    parts = [file.parts for file in files if file.parts[1] not in ("export", "benchmarks")]
    return sorted(".".join(part).removesuffix(".__init__") for part in parts)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_one_version() -> None:
    version = PACKAGE.findtext("version")
    assert f'version="{version}"' in SETUP
    assert vla_ros.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()


def test_package_xml_names_every_ros_package_that_is_imported() -> None:
    declared = {element.text for element in PACKAGE if element.tag.endswith("depend")}
    ros = re.compile(r"rclpy|launch|\w+_(msgs|srvs|interfaces)")
    used = {name for name in imported(ROOT / "vla_ros") | imported(ROOT / "launch") if ros.fullmatch(name)}
    assert used >= {"rclpy", "sensor_msgs", "control_msgs", "launch"}
    # These come with the vendor's workspace and not with the distribution: rosdep has no key for them.
    vendors = {"franka_msgs", "interbotix_xs_msgs", "piper_msgs"}
    assert used - vendors <= declared, used - vendors - declared


def test_the_generators_belong_to_the_wheels() -> None:
    (wheels,) = re.findall(r'"(ros-rclpy\[fastrtps\]==[^"]+)"', SETUP)
    assert wheels in GENERATORS


def test_the_runtime_imports_without_torch() -> None:
    # Only ROS has `launch`.
    modules = [name for name in runtime_modules() if not name.endswith(("__main__", "launch_file"))]
    assert {"vla_ros.nodes.policy_node", "vla_ros.nodes.control_node", "vla_ros.demo"} <= set(modules)
    code = f"""
import importlib, sys
sys.modules["torch"] = None  # an import of it raises
for name in {modules!r}:
    importlib.import_module(name)
"""
    run(code)


def test_control_node_stays_light() -> None:
    heavy = {"onnxruntime", "cv2", "mujoco", "torch", "ruckig"}  # ruckig serves an option that is off
    loaded = run("import sys, vla_ros.nodes.control_node; print(*sys.modules)").split()
    assert not heavy & set(loaded)
