"""One setup.py for pip and for ament_python (colcon)."""

import os
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "vla_ros"

# export/, calibration/ and tests/benchmarks/ are top-level folders that import inside vla_ros: links such as
# vla_ros/export -> ../export make that the same under pip, pip -e, colcon and colcon --symlink-install.
packages = find_packages(include=["vla_ros", "vla_ros.*"])

# What the runtime imports. On a robot these come by rosdep key (package.xml) and requirements-robot.txt.
REQUIRES = [
    "numpy>=1.21",
    "scipy>=1.8",
    "pyyaml>=5.4",
    "pydantic>=2.5",
    "opencv-python-headless>=4.5,<5",
    "pin>=3.0",  # pinocchio
    "rosbags>=0.10",
    "mcap>=1.2",
    "ruckig>=0.19",
    "tokenizers>=0.15",
    "typer>=0.9",
    "rich>=13",
]

EXTRAS = {
    # The network's runtime: onnxruntime and onnxruntime-gpu overwrite each other, so one of these two.
    "cpu": ["onnxruntime>=1.17"],
    "gpu": ["onnxruntime-gpu>=1.17", "tensorrt>=10"],
    # ROS 2 Jazzy as wheels, for x86-64 machines without a ROS. Never where a system ROS is sourced. Pinned
    # exactly: one maintainer makes them. vla_ros/interfaces/build.py pins the generators that belong to them.
    "ros": [
        "ros-rclpy[fastrtps]==7.1.6",
        "ros-sensor-msgs==5.3.6",
        "ros-std-msgs==5.3.6",
        "ros-geometry-msgs==5.3.6",
        "ros-nav-msgs==5.3.6",
        "ros-trajectory-msgs==5.3.6",
        "ros-std-srvs==5.3.6",
        "ros-diagnostic-msgs==5.3.6",
    ],
    "sim": ["mujoco>=3.2"],
    "export": ["torch>=2.5", "onnx>=1.16", "onnxscript>=0.3"],
    "realsense": ["pyrealsense2>=2.54"],
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "jsonschema>=4",
        "onnx>=1.16",
        "types-PyYAML",
        "psutil>=5.9",
        # Its software device stands in for the hardware. Elsewhere its tests say why they are skipped.
        "pyrealsense2>=2.54; platform_machine == 'x86_64'",
        "ruff==0.17.5",
        "mypy==2.4.1",
    ],
}


def tree(folder):
    """Every file below `folder` as data_files entries under share/vla_ros, folders kept."""
    return [
        (os.path.join("share", NAME, root), [os.path.join(root, file) for file in sorted(files)])
        for root, _, files in sorted(os.walk(folder))
        if files
    ]


setup(
    name=NAME,
    version="0.1.0",
    description="Trained vision-language-action policies on real robots through ROS 2",
    long_description=(Path(__file__).resolve().parent / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    maintainer="The vla_ros authors",
    maintainer_email="maintainers@vla-ros.invalid",
    packages=packages,
    package_data={
        "vla_ros.nodes": ["dds/*.xml"],
        "vla_ros.evaluation": ["*.html"],
        "vla_ros.interfaces": ["*/msg/*.msg", "*/srv/*.srv", "*/action/*.action", "*/LICENSE"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_ros"]),
        ("share/vla_ros", ["package.xml"]),
        ("share/vla_ros/launch", glob("launch/*.launch.py")),
        *tree("robot_configs"),
        *tree("policies"),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "vla = vla_ros.cli:main",
            "policy_node = vla_ros.nodes.policy_node:main",
            "control_node = vla_ros.nodes.control_node:main",
            "sim_node = vla_ros.nodes.sim_node:main",
            "camera_node = vla_ros.nodes.camera_node:main",
            "record_node = vla_ros.nodes.record_node:main",
        ]
    },
)
