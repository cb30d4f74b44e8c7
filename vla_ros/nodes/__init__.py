"""One thin rclpy node per process, and what they share."""
