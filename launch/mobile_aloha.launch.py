"""ros2 launch vla_ros mobile_aloha.launch.py policy:=BUNDLE [sim:=true] [prompt:="..."] [record:=true]

Mobile ALOHA: two ViperX 300 S followers and three cameras on a SLATE base (robot_configs/mobile_aloha.yaml).

`--show-args` tells all arguments. Nothing moves before `ros2 service call /policy_node/start
std_srvs/srv/Trigger` and the same for /control_node/start.
"""

from launch import LaunchDescription

from vla_ros.launch_file import robot_launch


def generate_launch_description() -> LaunchDescription:
    return robot_launch("mobile_aloha")
