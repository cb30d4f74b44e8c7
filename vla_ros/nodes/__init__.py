"""One thin rclpy node per process, and what they share."""

from vla_ros.ros_environment import require_ros

# Before any module here imports rclpy: two ROS installations fail deep inside C, with a riddle for a message.
require_ros()
