"""One setup.py for pip and for ament_python (colcon)."""

from glob import glob

from setuptools import find_packages, setup

NAME = "vla_ros"

# export/, calibration/ and tests/benchmarks/ are top-level folders that import inside vla_ros: links
# vla_ros/export -> ../export make that the same under pip, pip -e, colcon and colcon --symlink-install.
packages = find_packages(include=["vla_ros", "vla_ros.*"])

setup(
    name=NAME,
    version="0.1.0",
    packages=packages,
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/vla_ros"]),
        ("share/vla_ros", ["package.xml"]),
        ("share/vla_ros/robot_configs", glob("robot_configs/*.yaml")),
        ("share/vla_ros/robot_configs/urdf", glob("robot_configs/urdf/*.urdf")),
        ("share/vla_ros/launch", glob("launch/*.launch.py")),
    ],
    python_requires=">=3.10",
    entry_points={"console_scripts": ["vla = vla_ros.cli:main"]},
)
