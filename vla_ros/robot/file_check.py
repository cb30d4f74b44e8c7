"""What a robot YAML that loads may still have wrong, without a robot: meshes, roles, left and right."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from vla_ros.robot.config import Robot
from vla_ros.robot.graph_check import Line
from vla_ros.robot.load import read_urdf
from vla_ros.robot.topics import named_topics, tokens
from vla_ros.robot.yaml_lines import key_text

_SIDES = {"left": "right", "right": "left"}


def file_lines(robot: Robot, file: Path, environment: Mapping[str, str] = os.environ) -> list[Line]:
    """Lines about a robot that `load_robot(file)` has accepted."""
    lines: list[Line] = []
    for name, arm in robot.arms.items():
        found = (
            f"{len(arm.joints)} joints from {arm.base_frame} to {arm.tool_frame}, limits and home inside the "
            "URDF's"
        )
        lines.append(Line(True, f"arms.{name} {arm.urdf}", found))
        lines += _mesh_lines(name, read_urdf(file, arm), (file.parent / arm.urdf).parent, environment)
    if robot.base is not None:
        forward, turning = robot.base.limits.velocity
        found = f"up to {forward:g} m/s and {turning:g} rad/s on {robot.base.twist.topic}"
        lines.append(Line(True, "base", found + f", measured on {robot.base.odometry.topic}"))
    roles = {camera: role for role, camera in robot.policy.cameras.items()}
    for name, camera in robot.cameras.items():
        found = f"{camera.width}×{camera.height} at {camera.rate_hz:g} Hz, "
        if name in roles:
            lines.append(Line(True, f"cameras.{name}", found + f"the policy's '{roles[name]}'"))
        else:
            fix = f"add it under policy.cameras for policies that need it: {{ROLE: {name}}}"
            lines.append(Line(None, f"cameras.{name}", found + "no policy sees it", fix))
    return [*lines, *_side_lines(robot)]


def _mesh_lines(name: str, xml: str, folder: Path, environment: Mapping[str, str]) -> Iterator[Line]:
    meshes = [mesh.get("filename", "") for mesh in ElementTree.fromstring(xml).iter("mesh")]
    meshes = list(dict.fromkeys(meshes))
    missing = [
        mesh for mesh in meshes if not any(place.is_file() for place in _places(mesh, folder, environment))
    ]
    what = f"arms.{name}.urdf meshes"
    if meshes and not missing:
        yield Line(True, what, f"all {len(meshes)} are there")
    for mesh in missing:
        package = mesh.removeprefix("package://").split("/")[0] if mesh.startswith("package://") else ""
        fix = (
            f"source the workspace that holds the package '{package}', or write the path from the URDF's "
            "folder"
            if package
            else f"put it there, or correct its path in the URDF ({folder} is where it starts from)"
        )
        yield Line(
            False, what, f"no file {mesh}", fix + "; RViz and planners need it, vla_ros itself does not"
        )


def _places(mesh: str, folder: Path, environment: Mapping[str, str]) -> Sequence[Path]:
    if mesh.startswith("package://"):
        prefixes = environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        return [Path(prefix) / "share" / mesh.removeprefix("package://") for prefix in prefixes if prefix]
    return [folder / mesh.removeprefix("file://")]


def _side_lines(robot: Robot) -> Iterator[Line]:
    """Arms and cameras whose name says one side and whose topic says the other."""
    for named in named_topics(robot):
        name = str(named.path[1])
        words = tokens(named.topic)
        for side in set(tokens(name)) & set(_SIDES):
            if _SIDES[side] in words and side not in words:
                fix = f"name the topics of the {side} one here, or call it something else than '{name}'"
                yield Line(False, key_text(named.path), f"{named.topic} for '{name}'", fix)
