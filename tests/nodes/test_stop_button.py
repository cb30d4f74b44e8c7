"""What `vla estop` tells of the way to rest, from commands on real topics."""

from __future__ import annotations

import pytest
import rclpy
from rclpy.context import Context
from sensor_msgs.msg import JointState
from std_msgs.msg import String

from tests.support import wait_for
from vla_ros.nodes.qos import LATCHED
from vla_ros.nodes.stop_button import StopButton

NAMES = ["left/joint1", "left/gripper", "base/vx", "base/wz", "left/joint1/wanted"]


@pytest.mark.graph
def test_a_bases_velocity_is_no_way_of_an_arm(ros_domain: int) -> None:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node, other = (rclpy.create_node(name, context=context) for name in ("button", "control"))
    source = other.create_publisher(String, "vla/control_source", LATCHED)
    commands = other.create_publisher(JointState, "vla/command", 100)
    button = StopButton(node)
    try:
        button.listen()
        source.publish(String(data="estop"))
        wait_for(lambda: button.source == "estop", 10.0, "the stop", step=button.look)
        wait_for(commands.get_subscription_count, 10.0, "the button to listen")
        # The arm comes to rest 2 mrad further, and the base from 0.5 m/s.
        for k in range(40):
            left = max(20 - k, 0) / 20
            way = [0.002 * (1 - left), 0.08 * left, 0.5 * left, 0.8 * left, 9.0 * left]
            commands.publish(JointState(name=NAMES, position=way))
            button.look(0.01)
        assert button.rest().endswith("s, within 2.0 mrad, the base too")
    finally:
        button.close()
        node.destroy_node()
        other.destroy_node()
        rclpy.try_shutdown(context=context)
