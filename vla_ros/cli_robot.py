"""`vla robot show`, `check` and `new`: for who brings a robot of their own."""

from __future__ import annotations

from pathlib import Path

import typer

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
