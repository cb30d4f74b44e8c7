"""`vla robot show`, `check` and `new`: for who brings a robot of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from vla_ros.robot.config import Robot
    from vla_ros.robot.graph_check import Line

robot_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="rich",
    help="Bring a robot of your own: start its YAML from a URDF, see it whole, check it.",
)

ROBOT = typer.Argument(..., metavar="ROBOT", help="A robot by name (franka), or the path of its YAML.")


@robot_app.command()
def show(robot: str = ROBOT) -> None:
    """Print the effective robot YAML: with what it extends, and with every default.

    What is printed loads as the same robot.

        vla robot show franka_dual > everything.yaml
    """
    from vla_ros import resources
    from vla_ros.robot.load import load_robot
    from vla_ros.robot.show import effective_yaml

    path = resources.robot_config(robot)
    typer.echo(effective_yaml(load_robot(path), path), nl=False)


@robot_app.command()
def new(
    name: str = typer.Argument(
        ..., metavar="NAME", help="What to call the robot: NAME.yaml is written here."
    ),
    from_urdf: Path = typer.Option(..., "--from-urdf", metavar="FILE", help="The arm's URDF (no xacro)."),
    base: str | None = typer.Option(None, "--base", help="The arm's base link; otherwise the URDF's root."),
    tool: str | None = typer.Option(None, "--tool", help="The tool's link; otherwise the URDF's only end."),
) -> None:
    """Write a starting robot YAML: joints, limits, frames and home from a URDF, and TODO for the rest.

    vla robot new my_arm --from-urdf my_arm.urdf --tool gripper_tip
    """
    import re

    from vla_ros import resources
    from vla_ros.errors import ConfigError
    from vla_ros.robot.new import starting_yaml
    from vla_ros.robot.schema import FILE

    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError(f"NAME: found '{name}'; expected letters, digits and _, a letter first; rename it")
    file = Path(f"{name}.yaml")
    if file.exists():
        raise ConfigError(
            f"{file}: found a file of that name; expected none; choose another name or remove it"
        )
    urdf, here = from_urdf.expanduser().resolve(), Path.cwd()
    key = str(urdf.relative_to(here)) if urdf.is_relative_to(here) else str(urdf)
    schema = resources.roots()[0] / "robot_configs" / FILE.parent.name / FILE.name
    file.write_text(starting_yaml(name, urdf, key, str(schema), base, tool), encoding="utf-8")
    typer.echo(f"{file}: fill in what is marked TODO; `vla robot check ./{file}` lists it")


@robot_app.command()
def check(
    robot: str = ROBOT,
    live: bool = typer.Option(False, "--live", help="Also compare with the robot that runs; nothing moves."),
    namespace: str = typer.Option("/", "--namespace", help="With --live: where the robot's nodes are."),
) -> None:
    """Check a robot YAML against its URDF, and with --live against the running robot; each line says the fix.

    The file alone needs no ROS. --live needs the arm's driver and the cameras running: it looks for the
    topics and their types, qualities of service, rates and contents, the URDF on robot_description, and
    whether the tool is where the joints put it. The exit status is 1 when something is wrong.

        vla robot check ./my_arm.yaml --live
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from vla_ros import resources
    from vla_ros.errors import VlaRosError
    from vla_ros.robot.file_check import file_lines
    from vla_ros.robot.load import load_robot

    path = resources.robot_config(robot)
    description = load_robot(path)
    lines = file_lines(description, path)
    if live:
        lines += _live_lines(description, path, namespace)
    table = Table(title=f"robot {description.name} ({path})", title_justify="left")
    for column in ("", "what", "found", "what to do"):
        table.add_column(column, overflow="fold")
    marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "[yellow]?[/]"}
    for line in lines:
        table.add_row(marks[line.ok], escape(line.what), escape(line.found), escape(line.fix))
    console = Console(highlight=False)
    console.print(table)
    wrong = sum(line.ok is False for line in lines)
    if wrong:
        raise VlaRosError(f"{wrong} of {len(lines)} lines are wrong ({path})")
    console.print(f"nothing wrong in {len(lines)} lines")


def _live_lines(robot: Robot, path: Path, namespace: str) -> list[Line]:
    from vla_ros.ros_environment import require_ros

    require_ros()
    import rclpy

    from vla_ros.nodes.graph_look import look
    from vla_ros.nodes.transport import configure_dds

    configure_dds("received")
    rclpy.init(args=[])
    try:
        node = rclpy.create_node("vla_robot_check", namespace=namespace)
        try:
            return look(node, robot, path)
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
