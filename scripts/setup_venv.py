"""Make the virtual environment `.venv` with all that `make demo` or `make test` needs.

    python3 scripts/setup_venv.py demo      # to run the demo
    python3 scripts/setup_venv.py test      # the demo's, and the test and lint tools

Standard library only: this runs before anything is installed. Safe to run again: a step that is done is
skipped, and the packages are installed anew only when setup.py or the Python changes.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
EXTRAS = {"demo": ("cpu", "sim"), "test": ("cpu", "sim", "dev")}
STEPS = 4


class SetupError(Exception):
    """Set-up cannot go on; the text says what to do."""


def say(number: int, text: str) -> None:
    """Print one line of progress."""
    print(f"[{number}/{STEPS}] {text}", flush=True)


def run(command: list[str], what: str, env: dict[str, str] | None = None) -> None:
    """Run a command with its output shown; SetupError when it fails."""
    if subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False).returncode:
        raise SetupError(f"{what} failed: {' '.join(command)}")


def run_pip(command: list[str], env: dict[str, str]) -> None:
    """Run pip with its hundreds of lines condensed; SetupError with the last of them when it fails."""
    lines: list[str] = []
    told = 0.0
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if line.startswith("Installing collected packages:"):
                print(f"      unpacking {line.count(',') + 1} packages", flush=True)
            elif line.startswith("Collecting ") and time.monotonic() - told > 2.0:
                told = time.monotonic()
                print(f"      fetching {line.split()[1]}", flush=True)
    if child.returncode:
        raise SetupError(f"pip install failed: {' '.join(command)}\n{''.join(lines[-25:])}")


def system_ros() -> bool:
    """Whether a ROS 2 distribution with rclpy is sourced in this shell."""
    entries = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    marker = "share/ament_index/resource_index/packages/rclpy"
    return any(entry and Path(entry) != VENV and (Path(entry) / marker).is_file() for entry in entries)


def egl_driver() -> bool:
    """Whether EGL has a driver behind it: NVIDIA's, or Mesa's with its software rasteriser."""
    folders = (Path("/usr/share/glvnd/egl_vendor.d"), Path("/etc/glvnd/egl_vendor.d"))
    vendors = {file.name for folder in folders for file in folder.glob("*.json")}
    mesa = ("usr/lib/*/dri/swrast_dri.so", "usr/lib/*/dri/libdril_dri.so", "usr/lib/*/libgallium*.so")
    if any("nvidia" in name for name in vendors):
        return True
    return bool(vendors) and any(any(Path("/").glob(pattern)) for pattern in mesa)


def missing_system_packages(profile: str) -> list[str]:
    """Debian packages that this machine lacks: found by what they provide, not by asking dpkg."""
    missing = []
    if ctypes.util.find_library("EGL") is None:
        missing.append("libegl1")
    if not egl_driver():
        missing += ["libegl-mesa0", "libgl1-mesa-dri"]
    if ctypes.util.find_library("GL") is None:
        missing.append("libgl1")
    if profile == "test" and ctypes.util.find_library("usb-1.0") is None:
        missing.append("libusb-1.0-0")  # pyrealsense2 loads it
    if not system_ros():  # only then control_msgs is compiled
        if not (shutil.which("g++") or shutil.which("c++")) or not (
            shutil.which("gcc") or shutil.which("cc")
        ):
            missing.append("g++")
        if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
            missing.append(_python_package("dev"))
    importlib.invalidate_caches()
    try:
        import ensurepip  # noqa: F401  (Debian splits it off)
        import venv  # noqa: F401
    except ImportError:
        missing.append(_python_package("venv"))
    return missing


def _python_package(kind: str) -> str:
    # A Python newer than the distribution's own has its packages under its full version.
    system = Path("/usr/bin/python3")
    own = system.exists() and os.path.realpath(system) == os.path.realpath(sys.executable)
    return f"python3-{kind}" if own else f"python3.{sys.version_info.minor}-{kind}"


def install_system_packages(profile: str) -> None:
    """Step 1: have the system libraries installed, or say how."""
    missing = missing_system_packages(profile)
    if not missing:
        say(1, "system libraries: there")
        return
    line = f"apt-get update && apt-get install -y --no-install-recommends {' '.join(missing)}"
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"missing on this machine (names of Debian packages): {' '.join(missing)}; install them"
        )
    prefix: list[str] | None = []
    if os.geteuid() != 0:
        asks = (
            shutil.which("sudo") is None
            or subprocess.run(
                ["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False
            ).returncode
        )
        prefix = None if asks else ["sudo", "-n"]
    if prefix is None:
        raise SetupError(
            f"system libraries are missing: {' '.join(missing)}; run\n\n    sudo sh -c '{line}'\n\nthen again"
        )
    say(1, f"system libraries: installing {' '.join(missing)}")
    env = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive"]
    run([*env, "apt-get", "update", "-qq"], "apt-get update")
    run([*env, "apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing], "apt-get install")
    left = missing_system_packages(profile)
    if left:
        raise SetupError(f"installed, and yet missing: {' '.join(left)}; run: sudo sh -c '{line}'")


def make_environment() -> None:
    """Step 2: the virtual environment; made anew when it belongs to another or a vanished Python."""
    if PYTHON.exists():
        found = subprocess.run(
            [str(PYTHON), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2], sep='.')"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout.strip()
        if found == f"{sys.version_info.major}.{sys.version_info.minor}":
            say(2, f"virtual environment: {VENV}")
            return
        say(2, f"virtual environment: was for Python {found or '(gone)'}, made anew")
        shutil.rmtree(VENV)
    say(2, f"virtual environment: making {VENV} with Python {sys.version.split()[0]}")
    # With a sourced ROS its rclpy is used, and that leans on the system's own Python packages.
    options = ["--system-site-packages"] if system_ros() else []
    run([sys.executable, "-m", "venv", *options, str(VENV)], "making the virtual environment")
    # The pip that comes with Ubuntu 22.04 goes astray among pinocchio's wheels for many minutes.
    upgrade = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-q", "pip>=25"]
    run(upgrade, "upgrading pip", environment())


def environment() -> dict[str, str]:
    """The environment for this venv's Python: nothing that another virtual environment left behind."""
    env = dict(os.environ)
    if not system_ros():
        for name in ("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "LD_LIBRARY_PATH", "PYTHONPATH"):
            env.pop(name, None)
    return env


def stamp_of(extras: tuple[str, ...]) -> str:
    """What the installed packages depend on, as one hash."""
    content = [(ROOT / "setup.py").read_bytes(), ",".join(extras).encode(), sys.version.encode()]
    return hashlib.sha256(b"\0".join(content)).hexdigest()


def install_packages(profile: str) -> None:
    """Step 3: vla_ros itself (editable) and the libraries it names in setup.py."""
    extras = (*EXTRAS[profile], *(() if system_ros() else ("ros",)))
    # The test set-up contains the demo's, so its stamp serves both.
    stamps = {name: VENV / f".installed-{name}" for name in EXTRAS}
    wanted = {name: stamp_of((*EXTRAS[name], *extras[len(EXTRAS[profile]) :])) for name in EXTRAS}
    done = [name for name, file in stamps.items() if file.exists() and file.read_text() == wanted[name]]
    if profile in done or "test" in done:
        say(3, "Python packages: there")
        return
    say(3, f"Python packages: installing vla_ros[{','.join(extras)}]")
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--prefer-binary"]
    command += ["--progress-bar", "off", "-e", f"{ROOT}[{','.join(extras)}]"]
    if system_ros():
        command.append("numpy<2")  # the distribution's messages are compiled against numpy 1
    run_pip(command, environment())
    stamps[profile].write_text(wanted[profile])


def build_interfaces() -> None:
    """Step 4: the vendors' interfaces that PyPI does not have."""
    if system_ros():
        check = [str(PYTHON), "-c", "import control_msgs.action"]
        if subprocess.run(check, capture_output=True, check=False).returncode:
            distribution = os.environ.get("ROS_DISTRO", "jazzy")
            raise SetupError(
                f"control_msgs is missing; run: sudo apt-get install -y ros-{distribution}-control-msgs"
            )
        say(4, "interfaces: the system's")
        return
    say(4, "interfaces: control_msgs")
    run([str(PYTHON), "-m", "vla_ros.interfaces.build"], "building the interfaces", environment())


def main() -> int:
    """Run the four steps; 0 when all went well."""
    profile = sys.argv[1] if len(sys.argv) > 1 else ""
    if profile not in EXTRAS:
        print(f"usage: setup_venv.py {{{','.join(EXTRAS)}}}", file=sys.stderr)
        return 2
    begin = time.monotonic()
    try:
        if sys.version_info < (3, 10):  # noqa: UP036  (whatever python3 is called may be older)
            version = sys.version.split()[0]
            raise SetupError(
                f"Python {version} is too old: 3.10 or newer is needed; try make PYTHON=python3.12"
            )
        install_system_packages(profile)
        make_environment()
        install_packages(profile)
        build_interfaces()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"set up in {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
