"""One setup.py for pip and for ament_python (colcon)."""

from glob import glob

from setuptools import find_packages, setup

NAME = "vla_ros"

# export/, calibration/ and tests/benchmarks/ are top-level folders but import inside vla_ros.
packages = find_packages(include=["vla_ros", "vla_ros.*"])
package_dir = {"vla_ros.export": "export", "vla_ros.export.demo": "export/demo"}

setup(
    name=NAME,
    version="0.1.0",
    packages=packages + list(package_dir),
    package_dir=package_dir,
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
