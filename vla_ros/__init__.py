"""vla_ros: trained vision-language-action policies on real robots through ROS 2.

The road from camera to command is the folder list: observation, policy, action, safety, robot.
"""

__version__ = "0.1.0"
