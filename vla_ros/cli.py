"""The command line: `vla up`, `sim`, `check`, `bench`, `demo`; for a graph that runs `start`, `stop`,
`estop`, `reset` and `recover`.

Everything heavy is imported inside the command that needs it, so that `vla --help` answers at once and
`vla check` works where there is no ROS.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vla_ros.cli_robot import robot_app
from vla_ros.errors import VlaRosError

if TYPE_CHECKING:
    from vla_ros.nodes.operator import Operator

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Run a trained vision-language-action policy on a robot, through ROS 2.

A first run, on a simulated Franka, in two terminals:

    vla check --robot franka --policy franka_pick
    vla up    --robot franka --policy franka_pick --sim --prompt "pick up the red"
    vla start            (in a second terminal: the arm begins to move)
    vla stop
    vla estop --keyboard (in a third: any key is the emergency stop)

On the real robot leave out --sim, with the arm's own driver and cameras running.
With a ROS 2 distribution, this starts the same processes:

    ros2 launch vla_ros franka.launch.py policy:=franka_pick""",
)

app.add_typer(robot_app, name="robot")

ROBOT = typer.Option(..., "--robot", help="A robot by name (franka), or the path of its YAML.")
POLICY = typer.Option(..., "--policy", help="A policy bundle by name (franka_pick), or its folder.")
MODE = typer.Option(
    None, "--mode", help="How chunks follow one another: sync, newest, crossfade, ensemble (default) or rtc."
)
EXTRA_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}
# What a node that is there takes at most until it is active.
ACTIVE_S = 20.0
COLOURS = ("cyan", "magenta", "yellow", "green", "blue")


@app.command(context_settings=EXTRA_ARGUMENTS)
def up(
    context: typer.Context,
    robot: str = ROBOT,
    policy: str | None = typer.Option(
        None, "--policy", help="A policy bundle by name (franka_pick) or folder; without: no policy_node."
    ),
    sim: bool = typer.Option(False, "--sim", help="Add the simulated robot in place of the real driver."),
    prompt: str | None = typer.Option(None, "--prompt", help="The instruction to begin with."),
    mode: str | None = MODE,
    record: Path | None = typer.Option(
        None,
        "--record",
        metavar="DIR",
        help="Record each run, start to stop, as a file in DIR.",
    ),
) -> None:
    """Start the graph of ROS 2 nodes and keep it until Ctrl-C, or until one of them ends.

    The arm does not move before `vla start`. The contract between policy and robot is checked first.
    ROS arguments for every node may follow, such as `-r __ns:=/left` or `-p use_sim_time:=true`.

        vla up --robot franka --policy franka_pick --sim --prompt "pick up the red block"

    With `--record recordings` each run becomes an MCAP file there, for Foxglove, PlotJuggler or `ros2 bag`.
    """
    from vla_ros import processes, resources
    from vla_ros.policy import contract
    from vla_ros.policy.bundle import load_bundle
    from vla_ros.recording.folder import prepare
    from vla_ros.robot.load import load_robot
    from vla_ros.ros_environment import require_ros

    _check_mode(mode)
    require_ros()
    robot_path = resources.robot_config(robot)
    description = load_robot(robot_path)
    bundle = None
    if policy is not None:
        bundle = str(resources.policy_bundle(policy))
        contract.require(load_bundle(bundle), description)
    folder = None if record is None else str(prepare(record))
    table = processes.table(str(robot_path), bundle, sim, tuple(context.args), prompt, mode, folder)
    console = Console(highlight=False, soft_wrap=True)
    width = max(len(process.name) for process in table)
    colours = {process.name: COLOURS[i % len(COLOURS)] for i, process in enumerate(table)}

    def write(name: str, line: str) -> None:
        console.print(f"[{colours[name]}]{name:<{width}}[/] {escape(line)}")

    ended = processes.Supervisor(table, write).run()
    if ended is not None:
        raise VlaRosError(f"{ended}; all other processes were ended")


@app.command(context_settings=EXTRA_ARGUMENTS)
def sim(
    context: typer.Context,
    robot: str = ROBOT,
    seed: int = typer.Option(0, "--seed", help="Which scene: the same seed gives the same scene."),
    clock: bool = typer.Option(False, "--clock", help="Publish /clock, for nodes with use_sim_time."),
) -> None:
    """Run only the simulated robot: the topics, rates and quirks of the real driver, and its cameras.

    ROS arguments may follow, as for `vla up`.

        vla sim --robot franka --seed 7
    """
    from vla_ros import processes, resources
    from vla_ros.ros_environment import require_ros

    require_ros()
    extra = ["-p", f"seed:={seed}", "-p", f"publish_clock:={str(clock).lower()}", *context.args]
    node = processes.table(str(resources.robot_config(robot)), sim=True, extra=extra)[0]
    os.execve(node.argv[0], node.argv, {**os.environ, **node.env})


@app.command()
def check(
    robot: str = ROBOT,
    policy: str = POLICY,
    parity: bool = typer.Option(False, "--parity", help="Rerun the inferences recorded at export."),
) -> None:
    """Say line by line whether a policy fits a robot; the exit status is 1 when it does not.

    Needs no ROS and moves nothing.

        vla check --robot franka --policy franka_pick --parity
    """
    from vla_ros import resources
    from vla_ros.policy.bundle import load_bundle
    from vla_ros.policy.contract import match
    from vla_ros.robot.load import load_robot

    console = Console(highlight=False)
    robot_path, bundle_path = resources.robot_config(robot), resources.policy_bundle(policy)
    description = load_robot(robot_path)
    bundle = load_bundle(bundle_path)
    lines = match(bundle, description)
    table = Table(title=f"policy {bundle.manifest.name} on robot {description.name}", title_justify="left")
    for column in ("", "what", "policy says", "robot says"):
        table.add_column(column, overflow="fold")
    for line in lines:
        mark = "[green]ok[/]" if line.ok else "[red]no[/]"
        table.add_row(mark, escape(line.what), escape(line.policy_says), escape(line.robot_says))
    console.print(table)
    broken = [line for line in lines if not line.ok]
    for line in broken:
        console.print(f"[red]{escape(line.what)}[/]: {escape(line.fix)}", soft_wrap=True)
    if broken:
        raise VlaRosError(f"{len(broken)} of {len(lines)} lines do not match ({robot_path}, {bundle_path})")
    console.print(f"all {len(lines)} lines match")
    if parity:
        from vla_ros.policy.onnx_backend import OnnxPolicy
        from vla_ros.policy.parity import run_parity

        result = run_parity(bundle, OnnxPolicy(bundle))
        figures = (
            f"{result.cases} recorded inferences rerun: largest difference {result.max_error:.2e} "
            f"(allowed {result.tolerance:.0e}), smallest cosine {result.cosine:.6f}"
        )
        if not result.ok:
            raise VlaRosError(f"parity broken: {figures}. This runtime does not compute what was trained")
        console.print(f"parity holds: {figures}")


@app.command()
def bench(
    name: str = typer.Argument("", metavar="NAME", help="Which benchmark; without it they are listed."),
    json: Path | None = typer.Option(None, "--json", metavar="FILE", help="Also write the rows here."),
) -> None:
    """Measure; without a name, say what can be measured. Leave the machine alone meanwhile.

    vla bench transport --json transport.json
    """
    import importlib

    from vla_ros.benchmarks import bench as benches

    # A file has room for a wide table.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    known = benches.names()
    if name not in known:
        for each in known:
            module = importlib.import_module(f"vla_ros.benchmarks.{each}")
            console.print(f"{each:12s} {(module.__doc__ or '').strip().splitlines()[0]}", soft_wrap=True)
        if name:
            raise VlaRosError(f"benchmark {name!r}: not known; known are {', '.join(known)}")
        return
    module = importlib.import_module(f"vla_ros.benchmarks.{name}")
    with console.status(f"{name}: measuring") as status:
        progress: Callable[[str], None] = (
            (lambda text: status.update(f"{name}: {escape(text)}"))
            if console.is_terminal
            else (lambda text: console.print(f"{name}: {text}", markup=False))
        )
        result = module.run(progress)
    benches.show(result, console)
    if json is not None:
        benches.save(result, json)


@app.command()
def demo(
    episodes: int = typer.Option(3, "--episodes", min=1, help="How many times the robot tries."),
    seed: int = typer.Option(0, "--seed", min=0, help="First scene; none was ever used in training."),
    out: Path = typer.Option(Path("demo_out"), "--out", help="Folder for the report and the recordings."),
    mode: str | None = MODE,
) -> None:
    """Let the demo policy pick blocks on the simulated Franka, and write a report of it.

    Writes summary.json, report.html and one MCAP recording per episode.

        vla demo --episodes 10 --out demo_out
    """
    from vla_ros.demo import run_demo

    _check_mode(mode)
    status = run_demo(episodes, seed, out, mode=mode)
    if status:
        raise typer.Exit(status)


def _check_mode(mode: str | None) -> None:
    """Raise VlaRosError for a word that both nodes would refuse, before any of them is started."""
    from vla_ros.action.schedule import MODES

    if mode is not None and mode not in MODES:
        raise VlaRosError(f"--mode: found '{mode}'; expected one of {', '.join(MODES)}")


@app.command()
def start(
    prompt: str | None = typer.Option(None, "--prompt", help="A new instruction first."),
    namespace: str = typer.Option("/", "--namespace", help="Where `vla up` put the nodes."),
) -> None:
    """Let the policy move the arm of a graph that runs (from another terminal).

    vla start --prompt "pick up the red block"
    """
    with _operator(namespace) as operator:
        if prompt is not None:
            operator.prompt(prompt)
        for node in _running(operator, "policy_node", "control_node"):
            typer.echo(f"{node}: {operator.trigger(f'{node}/start') or 'started'}")


@app.command()
def stop(namespace: str = typer.Option("/", "--namespace", help="Where `vla up` put the nodes.")) -> None:
    """Bring the arm to a hold; the graph keeps running (from another terminal).

    `vla start` lets it go on; for an emergency there is `vla estop`.
    """
    with _operator(namespace) as operator:
        for node in _running(operator, "control_node", "policy_node"):
            typer.echo(f"{node}: {operator.trigger(f'{node}/stop') or 'stopped'}")


@app.command()
def reset(namespace: str = typer.Option("/", "--namespace", help="Where `vla up` put the nodes.")) -> None:
    """Release the emergency stop and forget what was seen and planned; the arm stays where it is.

    Then `vla start` lets it move again.
    """
    with _operator(namespace) as operator:
        for node in _running(operator, "control_node", "policy_node"):
            typer.echo(f"{node}: {operator.trigger(f'{node}/reset')}")


@app.command()
def estop(
    keyboard: bool = typer.Option(False, "--keyboard", help="Stay, and stop whenever a key is pressed."),
    namespace: str = typer.Option("/", "--namespace", help="Where `vla up` put the nodes."),
) -> None:
    """Emergency stop: brake within the limits and hold, until `vla reset`. No substitute for the red button.

    vla estop --keyboard    (in a terminal that keeps the focus: any key stops)
    """
    from vla_ros.ros_environment import require_ros

    require_ros()
    from vla_ros.nodes.stop_button import stop_button, stop_by_keyboard, stop_once

    with stop_button(namespace) as button:
        if keyboard:
            stop_by_keyboard(button)
            return
        for line in stop_once(button):
            typer.echo(line)


@app.command()
def recover(
    robot: str = ROBOT,
    yes: bool = typer.Option(False, "--yes", help="Do not ask where the arm may fall or move."),
    namespace: str = typer.Option("/", "--namespace", help="Where `vla up` put the nodes."),
) -> None:
    """Have a driver obey again after a fault, such as a Franka's reflex, by what the robot's YAML says.

    Look first why the robot stopped, and clear its way: nothing here finds that out. Each step is told.
    Refused while anybody commands the robot; afterwards `vla reset` and `vla start` let it move.

        vla recover --robot franka
    """
    from vla_ros import resources
    from vla_ros.robot.load import load_robot
    from vla_ros.ros_environment import require_ros

    require_ros()
    description = load_robot(resources.robot_config(robot))
    from vla_ros.nodes import recovery

    found = recovery.recoveries(description)
    for name, (_, each) in found.items():
        for step in each.steps:
            typer.echo(f"{name}: will {step.what}")
        if each.warning:
            typer.echo(f"{name}: mind, {each.warning}")
    if any(each.warning for _, each in found.values()) and not yes:
        typer.confirm("Go on?", abort=True)
    with _operator(namespace) as operator:
        recovery.recover(operator.node, found, typer.echo)
    typer.echo("recovered; `vla reset` and `vla start` let it move again")


@contextlib.contextmanager
def _operator(namespace: str) -> Iterator[Operator]:
    from vla_ros.ros_environment import require_ros

    require_ros()
    import rclpy

    from vla_ros.nodes.operator import Operator
    from vla_ros.nodes.transport import configure_dds

    configure_dds()
    rclpy.init(args=[])
    try:
        node = rclpy.create_node("vla_operator", namespace=namespace)
        operator = Operator(node, lambda: None)
        try:
            yield operator
        finally:
            operator.close()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _running(operator: Operator, *nodes: str) -> Iterator[str]:
    """Those of `nodes` that run, in turn. Without policy_node (`vla up` without --policy) the robot follows
    chunks from elsewhere; that is said. Raises VlaRosError where there is no control_node."""
    if not operator.runs("control_node"):
        raise VlaRosError(
            f"no control_node in namespace {operator.node.get_namespace()} (ROS_DOMAIN_ID "
            f"{os.environ.get('ROS_DOMAIN_ID', '0')}): is `vla up` running there? (--namespace)"
        )
    for node in nodes:
        if not operator.runs(node):
            # It may be starting still, with control_node, and is there when that is active.
            operator.wait_active("control_node", ACTIVE_S)
        if operator.runs(node):
            yield node
        else:
            typer.echo(f"{node}: does not run; only chunks that something else publishes are followed")


def main() -> None:
    """Console script `vla`: errors that we raise on purpose are printed bare, with exit status 1."""
    try:
        app()
    except VlaRosError as error:
        typer.echo(f"vla: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
