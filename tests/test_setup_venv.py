"""The set-up script: what it finds missing, and what it then does or says."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "setup_venv.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_venv", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(module, "PYTHON", tmp_path / ".venv" / "bin" / "python")
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    return module


@pytest.fixture
def bare(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine without EGL, GL and compilers but with apt; returns the commands that were run."""
    installed = {"apt-get": "/usr/bin/apt-get"}
    libraries: dict[str, str] = {}
    commands: list[list[str]] = []

    def run(command: list[str], what: str, env: dict[str, str] | None = None) -> None:
        commands.append(command)
        if "install" in command:
            installed.update({"g++": "/usr/bin/g++", "gcc": "/usr/bin/gcc"})
            libraries.update({"EGL": "libEGL.so.1", "GL": "libGL.so.1"})

    monkeypatch.setattr(script.shutil, "which", installed.get)
    monkeypatch.setattr(script.ctypes.util, "find_library", libraries.get)
    monkeypatch.setattr(script, "run", run)
    monkeypatch.setattr(script, "run_pip", lambda command, env: commands.append(command))
    return commands


def test_root_has_them_installed(script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script.os, "geteuid", lambda: 0)
    script.install_system_packages("demo")
    update, install = bare
    assert update[:3] == ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    assert {"libegl1", "libgl1", "g++"} <= set(install) and "-y" in install


def test_only_the_tests_need_the_library_of_realsense_cameras(
    script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "libusb-1.0-0" not in script.missing_system_packages("demo")
    assert "libusb-1.0-0" in script.missing_system_packages("test")
    monkeypatch.setattr(script.ctypes.util, "find_library", {"usb-1.0": "libusb-1.0.so.0"}.get)
    assert "libusb-1.0-0" not in script.missing_system_packages("test")


def test_without_root_and_sudo_the_exact_line_is_given(
    script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.os, "geteuid", lambda: 1000)
    missing = " ".join(script.missing_system_packages("demo"))
    line = f"sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends {missing}'"
    with pytest.raises(script.SetupError) as caught:
        script.install_system_packages("demo")
    assert line in str(caught.value)
    assert bare == []


def test_what_is_still_missing_after_the_install_is_named(
    script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script.os, "geteuid", lambda: 0)
    monkeypatch.setattr(script.ctypes.util, "find_library", lambda name: None)
    with pytest.raises(script.SetupError, match="installed, and yet missing: libegl1"):
        script.install_system_packages("demo")


def test_with_a_sourced_ros_no_compiler_and_no_wheels(
    script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    marker = tmp_path / "ros" / "share" / "ament_index" / "resource_index" / "packages" / "rclpy"
    marker.parent.mkdir(parents=True)
    marker.touch()
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / "ros"))
    assert "g++" not in script.missing_system_packages("demo")
    (tmp_path / ".venv").mkdir()
    script.install_packages("demo")
    (command,) = bare
    assert command[-2].endswith("[cpu,sim]") and command[-1] == "numpy<2"


def test_packages_are_installed_once_and_the_tests_contain_the_demos(script: ModuleType, bare: list) -> None:
    script.VENV.mkdir()
    for profile, runs in (("demo", 1), ("demo", 1), ("test", 2), ("test", 2), ("demo", 2)):
        script.install_packages(profile)
        assert len(bare) == runs, profile
    assert bare[0][-1].endswith("[cpu,sim,ros]") and bare[1][-1].endswith("[cpu,sim,dev,ros]")


def test_a_changed_setup_py_installs_again(
    script: ModuleType, bare: list, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script.VENV.mkdir()
    monkeypatch.setattr(script, "ROOT", tmp_path)
    for content in ("a", "a", "b"):
        (tmp_path / "setup.py").write_text(content)
        script.install_packages("demo")
    assert len(bare) == 2


def test_the_environment_is_made_anew_for_another_python(
    script: ModuleType, bare: list, tmp_path: Path
) -> None:
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 3.9\n")
    python.chmod(0o755)
    script.make_environment()
    assert not python.exists()
    made, upgraded = bare
    assert made == [sys.executable, "-m", "venv", str(tmp_path / ".venv")]
    assert upgraded[0] == str(python) and upgraded[-1] == "pip>=25"


def test_a_failed_pip_shows_its_last_lines(script: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    code = "print('Collecting a (from b)'); print('ERROR: no such thing'); raise SystemExit(1)"
    with pytest.raises(script.SetupError, match=r"pip install failed[^$]*ERROR: no such thing"):
        script.run_pip([sys.executable, "-u", "-c", code], {})
    assert capfd.readouterr().out == "      fetching a\n"


def test_an_unknown_profile_is_refused() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT), "all"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "usage" in done.stderr
