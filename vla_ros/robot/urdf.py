"""What a URDF says about joints and frames: enough to check a robot YAML against it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import dataclass

from vla_ros.errors import KinematicsError

MOVABLE = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class UrdfJoint:
    """lower, upper: rad or m, infinite when the URDF sets none; velocity (rad/s or m/s) and effort (Nm or N)
    likewise. mimics: the joint that it follows, "" for none."""

    kind: str
    parent: str
    child: str
    lower: float
    upper: float
    velocity: float
    effort: float
    mimics: str = ""


@dataclass(frozen=True)
class Description:
    """Joints by name, and the names of the links (a link's name is its frame's)."""

    joints: Mapping[str, UrdfJoint]
    links: frozenset[str]

    def movable(self) -> tuple[str, ...]:
        """Names of the joints that move, in the file's order."""
        return tuple(name for name, joint in self.joints.items() if joint.kind in MOVABLE)

    def chain(self, base: str, tool: str) -> tuple[str, ...] | None:
        """Names of the movable joints from link `base` to link `tool`; None if tool is not below base."""
        above = {joint.child: (name, joint) for name, joint in self.joints.items()}
        names: list[str] = []
        link = tool
        for _ in range(len(above) + 1):
            if link == base:
                return tuple(reversed(names))
            if link not in above:
                return None
            name, joint = above[link]
            if joint.kind in MOVABLE:
                names.append(name)
            link = joint.parent
        return None


def parse_urdf(xml: str) -> Description:
    """Read the joints and links of a URDF.

    Raises KinematicsError when the text is not XML, not a `<robot>`, or a joint lacks its type, parent
    or child, or has a limit that is no number.
    """
    try:
        root = ElementTree.fromstring(xml)
    except (ElementTree.ParseError, ValueError) as error:
        raise KinematicsError(f"not XML: {error}") from error
    if root.tag != "robot":
        raise KinematicsError(f"the root element is <{root.tag}>, not <robot>")
    joints: dict[str, UrdfJoint] = {}
    for element in root.findall("joint"):
        name = element.get("name", "")
        kind = element.get("type", "")
        parent, child = element.find("parent"), element.find("child")
        if not name or not kind or parent is None or child is None:
            raise KinematicsError(f"joint '{name}' lacks a name, a type, a parent or a child")
        limit = element.find("limit")
        # <limit> without lower or upper means 0 in URDF; a continuous joint has no bounds at all.
        bounded = kind not in ("continuous",) and limit is not None
        lower = _number(name, limit, "lower", 0.0) if bounded else -math.inf
        upper = _number(name, limit, "upper", 0.0) if bounded else math.inf
        # Zero stands for "not known" in many descriptions.
        velocity = _number(name, limit, "velocity", 0.0) or math.inf
        effort = _number(name, limit, "effort", 0.0) or math.inf
        mimic = element.find("mimic")
        mimics = "" if mimic is None else mimic.get("joint", "")
        joints[name] = UrdfJoint(
            kind, parent.get("link", ""), child.get("link", ""), lower, upper, velocity, effort, mimics
        )
    return Description(joints, frozenset(link.get("name", "") for link in root.findall("link")))


def _number(joint: str, limit: ElementTree.Element | None, key: str, default: float) -> float:
    text = None if limit is None else limit.get(key)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise KinematicsError(f"joint '{joint}': {key} is '{text}', not a number")
    return value
