"""ros2 launch vla_ros widowx.launch.py policy:=BUNDLE [sim:=true] [prompt:="..."] [record:=true]

WidowX 250 S, as in BridgeData V2 (robot_configs/widowx.yaml).

`--show-args` tells all arguments. The arm does not move before `ros2 service call /policy_node/start
std_srvs/srv/Trigger` and the same for /control_node/start.
"""

from launch import LaunchDescription

from vla_ros.launch_file import robot_launch


def generate_launch_description() -> LaunchDescription:
    return robot_launch("widowx")
