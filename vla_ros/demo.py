"""`vla demo`: the whole graph on the simulated robot, a run of episodes, and what came of it on disk.

DIR/summary.json      the figures of the run
DIR/report.html       the pictures of the run
DIR/episodes.json     one row per episode
DIR/episode_NNN.mcap  one recording per episode
DIR/logs/             what each process printed
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from vla_ros import processes, resources
from vla_ros.errors import VlaRosError
from vla_ros.evaluation.report import Run, write_report
from vla_ros.evaluation.summary import EpisodeResult, NodeReports, summarise
from vla_ros.robot.config import Robot
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.robot.show import effective_yaml
from vla_ros.ros_environment import require_ros
from vla_ros.sim.task import EVALUATION_SEED_START, TIME_LIMIT, draw_scene

if TYPE_CHECKING:  # rclpy is looked for, and its absence explained, before it is imported
    from vla_ros.nodes.episode_recorder import EpisodeRecorder
    from vla_ros.nodes.operator import Operator

NODES = ("sim_node", "control_node", "policy_node")
START_TIMEOUT_S = 60.0
# The task's own time runs from the first command; a policy that never commands ends the episode here.
VERDICT_TIMEOUT_S = TIME_LIMIT + 10.0
NO_VERDICT = "failure: no verdict"
# A machine that slept (a laptop's lid, a virtual machine that was paused) shows it by its clocks.
SLEEP_S = 0.5
ATTEMPTS = 5
# The slowest stream (the gripper's, 15 Hz) is heard again within this, after the policy has forgotten it.
SETTLE_S = 0.2
LOG_TAIL_LINES = 15


class Graph:
    """The processes of a run, each with its output in a file of its own."""

    def __init__(self, table: Sequence[processes.Process], logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self._logs = logs
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        try:
            for process in table:
                with open(logs / f"{process.name}.log", "wb") as log:
                    self._children[process.name] = processes.start(
                        process, stdout=log, stderr=subprocess.STDOUT
                    )
        except BaseException:
            self.end()
            raise

    def watch(self) -> None:
        """Raise VlaRosError with the end of its log if a process has ended."""
        for name, child in self._children.items():
            code = child.poll()
            if code is not None:
                log = self._logs / f"{name}.log"
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
                raise VlaRosError(f"{name} ended {processes.describe_exit(code)}; {log} ends with:\n{tail}")

    def end(self) -> None:
        """End all of them, and wait until they are gone."""
        processes.end(list(self._children.values()))


def run_demo(
    episodes: int,
    seed: int,
    out: Path,
    robot: str = "franka",
    policy: str = "franka_pick",
    console: Console | None = None,
    mode: str | None = None,
) -> int:
    """Run `episodes` evaluation episodes and write DIR's files. Returns the process's exit status.

    seed: episode k plays evaluation seed EVALUATION_SEED_START + seed + k, none of which was ever used
    in training. mode: how chunks follow one another, the nodes' default without it. The status
    says whether the graph held, not whether the policy is good: 0 also when episodes fail.

    Raises VlaRosError when a process dies or does not answer; the episodes before are kept.
    """
    require_ros()
    console = console or Console()
    robot_path, bundle = resources.robot_config(robot), resources.policy_bundle(policy)
    description = load_robot(robot_path)
    out.mkdir(parents=True, exist_ok=True)
    _isolate()
    with processes.interruptible():
        try:
            results, start, end = _run_graph(
                description, str(robot_path), str(bundle), range(seed, seed + episodes), out, console, mode
            )
        except KeyboardInterrupt:
            console.print("[yellow]Interrupted; everything that was started has ended.[/]")
            return 130
    summary = summarise(results, start, end, list(description.cameras))
    (out / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    with console.status("writing the report"):
        forward = {
            name: Kinematics(read_urdf(robot_path, arm), arm.joints, arm.base_frame, arm.tool_frame).forward
            for name, arm in description.arms.items()
        }
        facts = {"robot": description.name, "policy": Path(bundle).name, "seeds": _seeds(results)}
        run = Run(
            f"{len(results)} episodes of {Path(bundle).name}",
            facts,
            summary,
            results,
            start,
            end,
            description,
            forward,
            out,
        )
        write_report(out / "report.html", run)
    _print_summary(console, results, summary, out)
    return 0


def _run_graph(
    description: Robot,
    robot: str,
    policy: str,
    seeds: range,
    out: Path,
    console: Console,
    mode: str | None,
) -> tuple[list[EpisodeResult], NodeReports, NodeReports]:
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from vla_ros.nodes.episode_recorder import EpisodeRecorder
    from vla_ros.nodes.operator import Operator
    from vla_ros.nodes.transport import clean_stale_segments, configure_dds, remove_dead_ports
    from vla_ros.recording.topics import recorded_topics

    clean_stale_segments()
    remove_dead_ports(int(os.environ["ROS_DOMAIN_ID"]))
    configure_dds("received")
    with contextlib.ExitStack() as stack:
        graph = Graph(processes.table(robot, policy, sim=True, mode=mode), out / "logs")
        stack.callback(graph.end)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        stack.callback(rclpy.try_shutdown)
        node = rclpy.create_node("demo_recorder")
        stack.callback(node.destroy_node)
        recorder = EpisodeRecorder(node, recorded_topics(description), effective_yaml(description, robot))
        stack.callback(recorder.close)
        recorder.start()
        operator = Operator(node, graph.watch)
        stack.callback(operator.close)

        began = time.monotonic()
        with console.status("starting simulation, control and policy"):
            for name in NODES:
                operator.wait_active(name, START_TIMEOUT_S)
        console.print(f"graph up after {time.monotonic() - began:.1f} s")
        start = _still_reports(operator, resume=True)
        results = []
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console) as progress:
            bar = progress.add_task("episodes", total=len(seeds))
            for number, seed in enumerate(seeds):
                scene_seed = EVALUATION_SEED_START + seed
                progress.update(bar, description=draw_scene(scene_seed).instruction)
                result = _run_awake(operator, recorder, number, scene_seed, out, progress.console)
                results.append(result)
                # After each one: what was found is kept even if the graph breaks later.
                _write_episodes(out, results)
                colour = "green" if result.success else "red"
                progress.console.print(
                    f"{number:3d}  seed {result.seed}  {result.duration_s:5.1f} s  "
                    f"[{colour}]{result.outcome}[/]  {result.prompt}"
                )
                progress.advance(bar)
        return results, start, _still_reports(operator, resume=False)


def _run_awake(
    operator: Operator, recorder: EpisodeRecorder, number: int, seed: int, out: Path, console: Console
) -> EpisodeResult:
    """An episode during which the machine did not sleep; one during which it did is repeated, whatever
    came of it, since arm and policy alike saw time jump."""
    from vla_ros.nodes.operator import GraphError

    for _ in range(ATTEMPTS):
        before = _clocks_apart_s()
        result, failure = None, None
        try:
            result = _run_episode(operator, recorder, number, seed, out)
        except GraphError as error:
            recorder.drop()
            failure = error
        slept = abs(_clocks_apart_s() - before)
        if slept < SLEEP_S:
            if failure is not None:
                raise failure
            assert result is not None
            return result
        console.print(f"{number:3d}  seed {seed}: the machine slept for {slept:.1f} s; episode repeated")
    raise VlaRosError(f"the machine slept during each of {ATTEMPTS} attempts at episode {number}")


def _clocks_apart_s() -> float:
    """The system clock, which jumps when the machine wakes up, minus the monotonic one, which does not."""
    return (time.time_ns() - time.monotonic_ns()) / 1e9


def _run_episode(
    operator: Operator, recorder: EpisodeRecorder, number: int, seed: int, out: Path
) -> EpisodeResult:
    """One trial: everything stopped, a new scene, the prompt, memories cleared, then go."""
    prompt = draw_scene(seed).instruction
    file = f"episode_{number:03d}.mcap"
    operator.trigger("policy_node/stop")
    operator.trigger("control_node/stop")
    operator.set_integer("sim_node", "seed", seed)
    operator.forget_task()
    operator.trigger("sim_node/reset")
    operator.wait_running(5.0)
    operator.prompt(prompt)
    operator.trigger("policy_node/reset")
    operator.trigger("control_node/reset")
    operator.sleep(SETTLE_S)
    recorder.begin(out / file)
    began = time.monotonic()
    operator.trigger("policy_node/start")
    operator.trigger("control_node/start")
    outcome = operator.wait_verdict(VERDICT_TIMEOUT_S) or NO_VERDICT
    duration_s = time.monotonic() - began
    operator.trigger("policy_node/stop")
    operator.trigger("control_node/stop")
    recorder.finish({"seed": str(seed), "prompt": prompt, "outcome": outcome})
    return EpisodeResult(number, seed, prompt, outcome, round(duration_s, 3), file)


def _write_episodes(out: Path, results: Sequence[EpisodeResult]) -> None:
    rows = [{**asdict(result), "success": result.success} for result in results]
    (out / "episodes.json").write_text(json.dumps(rows, indent=2) + "\n")


def _still_reports(operator: Operator, resume: bool) -> NodeReports:
    """The nodes' diagnostics while the simulation stands still.

    Reports of different nodes are up to half a second apart; with the cameras stopped, what was sent
    and what was received can be compared to the frame.
    """
    operator.set_active("sim_node", False)
    operator.sleep(0.3)
    reports = [operator.fresh_report(name) for name in ("policy_node", "control_node", "sim_node")]
    if resume:
        operator.set_active("sim_node", True)
        operator.sleep(0.5)
    return NodeReports(*reports)


def _isolate() -> None:
    """This machine only, and a domain of this run's own: a demo never meets a robot on the network."""
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 101)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    if os.environ.get("ROS_DISTRO") == "humble":  # older than the discovery range
        os.environ["ROS_LOCALHOST_ONLY"] = "1"


def _seeds(results: Sequence[EpisodeResult]) -> str:
    return f"{results[0].seed} to {results[-1].seed}" if results else "none"


def _print_summary(
    console: Console, results: Sequence[EpisodeResult], summary: dict[str, Any], out: Path
) -> None:
    table = Table(title=f"{summary['successes']} of {summary['episodes']} episodes succeeded")
    for name in ("#", "seed", "prompt", "outcome", "s"):
        table.add_column(name, justify="right" if name in ("#", "seed", "s") else "left")
    for result in results:
        colour = "green" if result.success else "red"
        table.add_row(
            str(result.number),
            str(result.seed),
            result.prompt,
            f"[{colour}]{result.outcome}[/]",
            f"{result.duration_s:.1f}",
        )
    console.print(table)
    low, high = summary["success_interval"]
    console.print(f"success interval (Wilson, 95 %): {100 * low:.0f} % to {100 * high:.0f} %")
    for name in ("inference_ms", "glue_ms", "control_period_error_ms"):
        value = summary[name]
        if value:
            console.print(
                f"{name:24s} p50 {value['p50']:.2f}  p95 {value['p95']:.2f}  p99 {value['p99']:.2f}"
            )
    for camera, frames in summary["frames"].items():
        console.print(f"frames of {camera:14s} {frames['received']} received of {frames['sent']} sent")
    console.print(
        f"observations refused: {summary['refused_observations']}, "
        f"safety interventions: {summary['safety_interventions']}"
    )
    console.print(f"report: {out / 'report.html'}")
