"""ros2 launch vla_ros franka_dual.launch.py policy:=BUNDLE [sim:=true] [prompt:="..."] [record:=true]

Two Franka FR3 side by side (robot_configs/franka_dual.yaml).

`--show-args` tells all arguments. The arm does not move before `ros2 service call /policy_node/start
std_srvs/srv/Trigger` and the same for /control_node/start.
"""

from launch import LaunchDescription

from vla_ros.launch_file import robot_launch


def generate_launch_description() -> LaunchDescription:
    return robot_launch("franka_dual")
