"""A starting robot YAML out of a URDF: what the URDF tells is filled in, the rest is TODO, which the loader
refuses line by line until a person has looked it up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml

from vla_ros.errors import ConfigError, KinematicsError
from vla_ros.robot.config_drivers import Drivers
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.schema_words import TODO
from vla_ros.robot.urdf import Description, UrdfJoint, parse_urdf
from vla_ros.robot.words import advice, quoted

# Inside the bound that catches degrees: a joint that turns further is limited to one turn either way.
_TURN = 6.2831
# rad/s: no arm is faster, so the URDF does not know.
_FASTEST = 50.0
# m: so small a box around the tool at home is safe to begin with.
_REACH = 0.1


def starting_yaml(
    name: str, urdf: Path, urdf_key: str, schema: str, base: str | None = None, tool: str | None = None
) -> str:
    """The text of a robot YAML with one arm.

    urdf_key: the URDF's path as the YAML is to say it; schema: that of the JSON Schema. base, tool: links; by
    default the URDF's root and its only end.

    Raises ConfigError when the URDF cannot be read, or does not tell which links are meant.
    """
    xml = _read(urdf)
    try:
        description = parse_urdf(xml)
    except KinematicsError as error:
        raise ConfigError(f"{urdf}: found no URDF ({error}); expected one; correct the file") from None
    base = _base(urdf, description, base)
    tool, chain = _tool(urdf, description, base, tool)
    joints = [description.joints[joint] for joint in chain]
    home = [_home(joint) for joint in joints]
    try:
        pose = Kinematics(xml, chain, base, tool).forward(home)
    except KinematicsError as error:
        raise ConfigError(f"{urdf}: found a chain that cannot be used ({error}); correct the URDF") from None
    position = [round(float(value), 2) for value in pose[:3, 3]]
    others = [joint for joint in description.movable() if joint not in chain]
    return _TEXT.format(
        schema=schema,
        name=name,
        urdf=_plain(urdf_key),
        base=_plain(base),
        tool=_plain(tool),
        joints=_names(chain),
        home=_numbers(home),
        position="\n".join(
            f"        - {_limits(name, joint)}" for name, joint in zip(chain, joints, strict=True)
        ),
        velocity=_numbers([joint.velocity if joint.velocity <= _FASTEST else None for joint in joints]),
        drivers=", ".join(Drivers.model_fields),
        gripper=_gripper(others),
        low=_numbers([value - _REACH for value in position]),
        high=_numbers([value + _REACH for value in position]),
    )


def _read(urdf: Path) -> str:
    try:
        xml = urdf.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{urdf}: found a file that cannot be read ({error}); expected a URDF") from None
    if urdf.suffix == ".xacro" or "www.ros.org/wiki/xacro" in xml:
        raise ConfigError(
            f"{urdf}: found a xacro file; expected a URDF; make one: xacro {urdf.name} > "
            f"{urdf.name.split('.')[0]}.urdf"
        )
    return xml


def _base(urdf: Path, description: Description, base: str | None) -> str:
    if base is not None:
        return _link(urdf, description, "--base", base)
    children = {joint.child for joint in description.joints.values()}
    roots = sorted(description.links - children)
    if len(roots) != 1:
        raise ConfigError(
            f"{urdf}: found {len(roots)} links that hang on none ({quoted(roots)}); expected one; give --base"
        )
    return roots[0]


def _tool(urdf: Path, description: Description, base: str, tool: str | None) -> tuple[str, tuple[str, ...]]:
    """The tool's link and the joints on the way to it."""
    parents = {joint.parent for joint in description.joints.values()}
    ends = {link: description.chain(base, link) for link in sorted(description.links - parents)}
    reached = {link: chain for link, chain in ends.items() if chain}
    if tool is None:
        if len(reached) != 1:
            known = ", ".join(f"'{link}' ({len(chain)} joints)" for link, chain in reached.items())
            raise ConfigError(
                f"{urdf}: found {len(reached)} ends below '{base}' ({known or 'none that moves'}); expected "
                "one; give --tool: the link between the finger tips, without the fingers' own joints"
            )
        tool = next(iter(reached))
    chain = description.chain(base, _link(urdf, description, "--tool", tool))
    if not chain:
        raise ConfigError(
            f"{urdf}: found no joint that moves between '{base}' and '{tool}'; expected the arm's; give "
            "--base and --tool of one arm"
        )
    for joint in chain:
        if description.joints[joint].mimics:
            raise ConfigError(
                f"{urdf}: found '{joint}' on the way to '{tool}', which mimics "
                f"'{description.joints[joint].mimics}'; expected joints that each move by themselves; choose "
                "other links with --base and --tool"
            )
    return tool, chain


def _link(urdf: Path, description: Description, option: str, link: str) -> str:
    if link not in description.links:
        raise ConfigError(
            f"{option}: found '{link}', which is no link of {urdf}; expected one of "
            f"{quoted(sorted(description.links))}; {advice(link, description.links, 'choose one')}"
        )
    return link


def _bounds(joint: UrdfJoint) -> tuple[float, float]:
    return max(joint.lower, -_TURN), min(joint.upper, _TURN)


def _home(joint: UrdfJoint) -> float:
    """0 where the joint can be there, else the middle of its range."""
    low, high = _bounds(joint)
    return 0.0 if low < 0.0 < high else round((low + high) / 2, 4)


def _limits(name: str, joint: UrdfJoint) -> str:
    low, high = _bounds(joint)
    note = name
    if (low, high) != (joint.lower, joint.upper):
        note += ": the URDF lets it turn further"
    elif joint.kind == "prismatic":
        note += ", m"
    return f"{_numbers([low, high]):<24} # {note}"


def _numbers(values: Iterable[float | None]) -> str:
    return "[" + ", ".join(TODO if value is None else repr(round(value, 6) + 0.0) for value in values) + "]"


def _names(names: Iterable[str]) -> str:
    return "[" + ", ".join(_plain(name) for name in names) + "]"


def _plain(text: str) -> str:
    """Text as YAML, in quotes only where it needs them."""
    return str(yaml.safe_dump(text, width=10_000, allow_unicode=True)).splitlines()[0]


def _gripper(others: Sequence[str]) -> str:
    """The gripper's block, as a comment: the URDF does not tell which of the other joints are its fingers."""
    if not others:
        return "    # gripper: the URDF has no joint for one."
    return f"""\
    # The URDF's other joints are {", ".join(others)}. Where they are a gripper's:
    # gripper:
    #   joints: {_names(others)}
    #   width: [0.0, TODO]        # m, closed and open
    #   speed: TODO               # m/s of width
    #   states: {{topic: TODO, rate_hz: TODO, max_age_ms: TODO}}
    #   action: {{action: TODO, max_effort: TODO}}   # N; or another way, see docs/robot_yaml.md"""


_TEXT = """\
# yaml-language-server: $schema={schema}
# Begun from a URDF, which does not know what is marked TODO: look it up. docs/robot_yaml.md goes through the
# keys; `vla robot check` says what is left to do, and with --live compares the file with the running robot.
schema_version: 1
name: {name}
embodiment: {name}                # as the policies for this robot call it

arms:
  arm:
    urdf: {urdf}
    # robot_description: /robot_description   # where the driver publishes its URDF
    base_frame: {base}
    tool_frame: {tool}
    joints: {joints}
    # 0, or the middle of the range: no URDF knows a good place to begin. Go there by hand before you keep it.
    home: {home}
    limits:
      # The URDF's: tighten them, and the velocities above all.
      position:
{position}
      velocity: {velocity}
      acceleration: TODO          # rad/s^2 for each joint; from the arm's data sheet
      jerk: TODO                  # rad/s^3 for each joint
    # sensor_msgs/JointState of the arm: `ros2 topic hz` and `ros2 topic info -v` tell rate and reliability.
    states: {{topic: TODO, rate_hz: TODO, max_age_ms: TODO}}
    # One of {drivers}.
    driver: TODO
    drivers: {{}}                   # its entry, such as {{joint_position: {{topic: /commands}}}}
    # link_radius: 0.08           # m; needed with safety.forbidden or a second arm
{gripper}

cameras:
  front: {{topic: TODO, camera_info: TODO, width: TODO, height: TODO, rate_hz: TODO, max_age_ms: TODO}}

# Where the arm stands on a base that drives:
# base:
#   odometry: {{topic: TODO, rate_hz: TODO, max_age_ms: TODO}}
#   limits: {{velocity: [TODO, TODO], acceleration: [TODO, TODO]}}   # forward and turning, m and rad
#   twist: {{topic: TODO}}

observation:
  max_skew_ms: 60

control:
  rate_hz: 100

# Slow, and near home: widen it as trust grows.
safety:
  workspace: {{min: {low}, max: {high}}}
  first_command_joint: 0.2
  first_command_position: 0.05
  first_command_rotation: 0.3
  tool_speed: 0.1
  tool_rotation_speed: 0.5
  chunk_timeout_ms: 500
  joint_states_timeout_ms: 100

# policy:
#   cameras: {{role: front}}        # {{the policy's name of a view: camera}}; `vla check` tells the roles
"""
