"""What the files in launch/ share: one robot's graph, from the same table of processes as `vla up`.

Needs ROS's `launch`. When one process ends, all end, but a policy_node that dies is started again while
control_node holds the arm.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration

from vla_ros.processes import table
from vla_ros.recording.folder import prepare
from vla_ros.resources import policy_bundle, robot_config

# {argument: (default, what it is)}; the robot and the policy are the file's own.
ARGUMENTS = {
    "sim": ("false", "true: the simulated robot in place of the real driver."),
    "prompt": ("", "The instruction to begin with."),
    "record": ("false", "true: record each run, from its start to the stop, as one MCAP file."),
    "record_folder": ("recordings", "Where recordings go; a relative folder is below the one you are in."),
    "mode": ("ensemble", "How chunks follow one another: sync, newest, crossfade, ensemble or rtc."),
    "namespace": ("", "Namespace of the nodes, such as /left."),
    "use_sim_time": ("false", "true: time comes from /clock."),
}
TRUE = ("true", "1")
RESPAWN_S = 2.0
# `launch` leaves its processes running where it is killed, or ended by SIGTERM: a robot that nobody watches.
# (util-linux; the nodes bring the arms to a hold on SIGTERM.)
END_WITH_LAUNCH = ("setpriv", "--pdeathsig", "TERM")


def robot_launch(robot: str, policy: str = "") -> LaunchDescription:
    """The launch description of a robot's file.

    robot: the default of the argument `robot`, a name or a YAML's path. policy: likewise, a bundle's name or
    folder; empty runs no policy_node.
    """
    own = {
        "robot": (robot, "A robot by name, or the path of its YAML."),
        "policy": (policy, "A policy bundle by name, or its folder; empty: no policy_node."),
    }
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in {**own, **ARGUMENTS}.items()
    ]
    start = OpaqueFunction(function=partial(_start, names=tuple({**own, **ARGUMENTS})))
    return LaunchDescription([*declared, start])


def _start(context: LaunchContext, names: tuple[str, ...]) -> list[ExecuteProcess]:
    value = {name: LaunchConfiguration(name).perform(context) for name in names}
    extra = ["-p", f"use_sim_time:={value['use_sim_time'].lower()}"]
    if value["namespace"]:
        extra += ["-r", f"__ns:={value['namespace']}"]
    processes = table(
        str(robot_config(value["robot"])),
        str(policy_bundle(value["policy"])) if value["policy"] else None,
        value["sim"].lower() in TRUE,
        extra,
        value["prompt"] or None,
        value["mode"],
        str(prepare(Path(value["record_folder"]))) if value["record"].lower() in TRUE else None,
    )
    return [
        ExecuteProcess(
            cmd=[*END_WITH_LAUNCH, *process.argv],
            name=process.name,
            additional_env=dict(process.env),
            output="screen",
            respawn=process.restart,
            respawn_delay=RESPAWN_S,
            on_exit=None if process.restart else Shutdown(reason=f"{process.name} ended"),
        )
        for process in processes
    ]
