"""ros2 launch vla_ros franka.launch.py policy:=franka_pick [sim:=true] [prompt:="..."] [namespace:=/left]

Starts the table of processes that `vla up` starts; when one ends, all end, but a policy_node that dies is
started again while control_node holds the arm. The arm does not move before
`ros2 service call /policy_node/start std_srvs/srv/Trigger` and the same for /control_node/start.
"""

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration

from vla_ros.processes import table
from vla_ros.resources import policy_bundle, robot_config

ARGUMENTS = {
    "robot": ("franka", "A robot by name, or the path of its YAML."),
    "policy": ("franka_pick", "A policy bundle by name, or its folder."),
    "sim": ("false", "true: the simulated robot in place of the real driver."),
    "prompt": ("", "The instruction to begin with."),
    "mode": ("ensemble", "How chunks follow one another: sync, newest, crossfade, ensemble or rtc."),
    "namespace": ("", "Namespace of the nodes, such as /left."),
    "use_sim_time": ("false", "true: time comes from /clock."),
}


def _start(context: LaunchContext) -> list[ExecuteProcess]:
    value = {name: LaunchConfiguration(name).perform(context) for name in ARGUMENTS}
    extra = ["-p", f"use_sim_time:={value['use_sim_time'].lower()}"]
    if value["namespace"]:
        extra += ["-r", f"__ns:={value['namespace']}"]
    processes = table(
        str(robot_config(value["robot"])),
        str(policy_bundle(value["policy"])),
        value["sim"].lower() in ("true", "1"),
        extra,
        value["prompt"] or None,
        value["mode"],
    )
    return [
        ExecuteProcess(
            cmd=list(process.argv),
            name=process.name,
            additional_env=dict(process.env),
            output="screen",
            respawn=process.restart,
            respawn_delay=2.0,
            on_exit=None if process.restart else Shutdown(reason=f"{process.name} ended"),
        )
        for process in processes
    ]


def generate_launch_description() -> LaunchDescription:
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start)])
