"""The build of the vendors' interfaces: what it writes, what it refuses, and that its result works."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from vla_ros.interfaces import build
from vla_ros.ros_environment import require_ros


def test_the_definitions_of_control_msgs() -> None:
    (package,) = [package for package in build.packages() if package.name == "control_msgs"]
    assert build.definitions(package) == ["action/GripperCommand.action", "msg/GripperCommand.msg"]
    assert build.dependencies(package) == ["action_msgs"]


def test_every_package_is_restated_with_its_licence() -> None:
    assert [package.name for package in build.packages()] == [
        "control_msgs",
        "controller_manager_msgs",
        "franka_msgs",
        "interbotix_xs_msgs",
        "piper_msgs",
    ]
    for package in build.packages():
        words = ["zero", "one", "two", "three", "four", "five", "six"][len(build.definitions(package))]
        licence = (package / "LICENSE").read_text()
        assert licence.startswith(f"The {words} interface definition") and "Copyright (c)" in licence
        assert "licence" in licence and "https://github.com/" in licence


def test_a_service_needs_what_describes_services() -> None:
    (package,) = [package for package in build.packages() if package.name == "piper_msgs"]
    assert build.definitions(package) == ["msg/PosCmd.msg", "srv/Enable.srv"]
    assert build.dependencies(package) == ["service_msgs"]


def test_the_generators_are_fetched_once_for_all_packages(tmp_path: Path, monkeypatch) -> None:
    fetched, built = [], []
    monkeypatch.setattr(build, "check_compiler", lambda: None)
    monkeypatch.setattr(build, "build_environment", lambda folder: fetched.append(folder) or folder)
    monkeypatch.setattr(build, "write_sources", lambda package, sources: None)
    monkeypatch.setattr(build, "compile_package", lambda sources, prefix, folder: folder)
    monkeypatch.setattr(build, "make_wheel", lambda name, staging, folder: folder / name)
    monkeypatch.setattr(build, "run", lambda command, what: built.append(what))
    build.build(build.packages())
    assert len(fetched) == 1
    assert built == [f"installing {package.name}" for package in build.packages()]


def test_the_vendors_types_say_what_the_vendors_do() -> None:
    """As in interbotix_ros_core and Piper_ros, branches humble; the order goes on the wire."""
    require_ros()
    pytest.importorskip("interbotix_xs_msgs.msg", reason="a system ROS without the vendors' workspaces")
    pytest.importorskip("piper_msgs.msg", reason="a system ROS without the vendors' workspaces")
    from interbotix_xs_msgs.msg import JointGroupCommand, JointSingleCommand
    from interbotix_xs_msgs.srv import OperatingModes, Reboot, RegisterValues, TorqueEnable
    from piper_msgs.msg import PosCmd
    from piper_msgs.srv import Enable

    def fields(kind) -> list[tuple[str, str]]:
        return list(kind.get_fields_and_field_types().items())

    assert fields(JointGroupCommand) == [("name", "string"), ("cmd", "sequence<float>")]
    assert fields(JointSingleCommand) == [("name", "string"), ("cmd", "float")]
    assert fields(TorqueEnable.Request) == [("cmd_type", "string"), ("name", "string"), ("enable", "boolean")]
    texts = [(name, "string") for name in ("cmd_type", "name", "mode", "profile_type")]
    numbers = [(name, "int32") for name in ("profile_velocity", "profile_acceleration")]
    assert fields(OperatingModes.Request) == [*texts, *numbers]
    assert fields(RegisterValues.Request) == [
        *[(name, "string") for name in ("cmd_type", "name", "reg")],
        ("value", "int32"),
    ]
    assert fields(RegisterValues.Response) == [("values", "sequence<int32>")]
    switches = [(name, "boolean") for name in ("enable", "smart_reboot")]
    assert fields(Reboot.Request) == [("cmd_type", "string"), ("name", "string"), *switches]
    axes = [(name, "double") for name in ("x", "y", "z", "roll", "pitch", "yaw", "gripper")]
    assert fields(PosCmd) == [*axes, ("mode1", "int32"), ("mode2", "int32")]
    assert fields(Enable.Request) == [("enable_request", "boolean")]
    assert fields(Enable.Response) == [("enable_response", "boolean")]


def test_controllers_are_switched_as_on_jazzy() -> None:
    """Humble's request has more fields, and the real package; those that are set are in both."""
    require_ros()
    pytest.importorskip("controller_manager_msgs.srv", reason="a system ROS without ros2_control")
    from controller_manager_msgs.srv import SetHardwareComponentState, SwitchController

    request = SwitchController.Request.get_fields_and_field_types()
    assert {"activate_controllers", "deactivate_controllers", "strictness", "timeout"} <= set(request)
    assert "ok" in SwitchController.Response.get_fields_and_field_types()
    assert list(SetHardwareComponentState.Request.get_fields_and_field_types().items()) == [
        ("name", "string"),
        ("target_state", "lifecycle_msgs/State"),
    ]


def test_a_package_that_was_built_of_other_definitions_is_built_anew(tmp_path: Path, monkeypatch) -> None:
    (package,) = [package for package in build.packages() if package.name == "interbotix_xs_msgs"]
    pytest.importorskip(package.name)
    monkeypatch.setattr(build.sys, "prefix", str(tmp_path))
    built = tmp_path / "share" / package.name
    shutil.copytree(package, built)
    monkeypatch.setattr(build.importlib.metadata, "distribution", lambda name: name)
    assert build.is_there(package)
    (built / "srv" / "Reboot.srv").unlink()
    assert not build.is_there(package), "it grew since"

    def none(name: str) -> None:
        raise build.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(build.importlib.metadata, "distribution", none)
    assert build.is_there(package), "the robot's own is left alone"


def test_the_sources_name_every_file_and_dependency(tmp_path: Path) -> None:
    package = tmp_path / "vendor_msgs"
    (package / "msg").mkdir(parents=True)
    (package / "msg" / "Group.msg").write_text(
        "# my_msgs/Not\nstd_msgs/Header header\nvendor_msgs/One[] all\n"
    )
    (package / "msg" / "One.msg").write_text("string name\nfloat32[] cmd\n")
    target = tmp_path / "out"
    target.mkdir()
    build.write_sources(package, target)
    cmake = (target / "CMakeLists.txt").read_text()
    assert '"msg/Group.msg" "msg/One.msg" DEPENDENCIES std_msgs)' in cmake
    assert "find_package(std_msgs REQUIRED)" in cmake and "action_msgs" not in cmake
    assert "<depend>std_msgs</depend>" in (target / "package.xml").read_text()
    assert (target / "msg" / "One.msg").read_text() == "string name\nfloat32[] cmd\n"


def test_paths_of_the_wheels_build_host_are_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "share" / "x" / "cmake" / "export.cmake"
    file.parent.mkdir(parents=True)
    other = file.with_name("other.cmake")
    host = "/opt/python/cp312-cp312"
    file.write_text(
        f'INCLUDES "{host}/include/python3.12;{host}/lib/python3.12/site-packages/numpy/_core/include;/usr/x"'
    )
    other.write_text("nothing of that kind")
    assert build.rewrite_build_host_paths(tmp_path, "/usr/include/python3.12", "/v/numpy") == 1
    assert file.read_text() == 'INCLUDES "/usr/include/python3.12;/v/numpy;/usr/x"'
    assert other.read_text() == "nothing of that kind"


def test_a_missing_compiler_gives_the_apt_line(tmp_path: Path) -> None:
    code = (
        "import sys; from vla_ros.interfaces import build\n"
        "build.importlib.util.find_spec = lambda name: None\n"  # as where no control_msgs is there yet
        "sys.exit(build.main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PATH": str(tmp_path), "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "a C++ compiler and a C compiler" in done.stderr
    assert "    sudo apt-get install -y g++ python3-dev python3-venv\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheel_records_what_it_holds(tmp_path: Path) -> None:
    staging = tmp_path / "staging"
    for name, content in {
        "lib/python3.11/site-packages/vendor_msgs/__init__.py": "",
        "lib/python3.11/site-packages/vendor_msgs/vendor_msgs_s__x.so": "library",
        "lib/libvendor_msgs__y.so": "other library",
        "share/ament_index/resource_index/packages/vendor_msgs": "",
        "share/vendor_msgs/msg/One.msg": "string name",
        "share/vendor_msgs/srv/Do.srv": "---",
        "share/vendor_msgs/package.xml": "<package/>",
    }.items():
        (staging / name).parent.mkdir(parents=True, exist_ok=True)
        (staging / name).write_text(content)
    wheel = build.make_wheel("vendor_msgs", staging, tmp_path)
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = [name for name in names if name.endswith("/RECORD")]
        lines = dict(line.split(",", 1) for line in archive.read(record).decode().split())
        assert set(lines) == names
        for name in names - {record}:
            digest = urlsafe_b64encode(hashlib.sha256(archive.read(name)).digest()).rstrip(b"=").decode()
            assert lines[name] == f"sha256={digest},{len(archive.read(name))}"
    assert "vendor_msgs/vendor_msgs_s__x.so" in names
    data = "vla_ros_vendor_msgs-0.1.0.data/data"
    assert {f"{data}/lib/libvendor_msgs__y.so", f"{data}/share/vendor_msgs/package.xml"} <= names
    assert f"{data}/share/vendor_msgs/srv/Do.srv" in names


def test_the_gripper_action_works_end_to_end(ros_domain: int) -> None:
    require_ros()
    import rclpy
    from control_msgs.action import GripperCommand
    from rclpy.action import ActionClient, ActionServer

    def execute(handle):
        handle.succeed()
        position = handle.request.command.position
        return GripperCommand.Result(position=position, reached_goal=True)

    rclpy.init()
    try:
        node = rclpy.create_node("gripper_test")
        server = ActionServer(node, GripperCommand, "gripper_action", execute)
        client = ActionClient(node, GripperCommand, "gripper_action")
        assert client.wait_for_server(10.0)
        goal = GripperCommand.Goal()
        goal.command.position = 0.03
        accepted = client.send_goal_async(goal)
        rclpy.spin_until_future_complete(node, accepted, timeout_sec=10)
        finished = accepted.result().get_result_async()
        rclpy.spin_until_future_complete(node, finished, timeout_sec=10)
        assert finished.result().result == GripperCommand.Result(position=0.03, reached_goal=True)
        server.destroy()
        client.destroy()
        node.destroy_node()
    finally:
        rclpy.shutdown()


def test_what_is_there_already_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for package in build.packages():  # a system ROS may lack the vendors' workspaces
        pytest.importorskip(package.name)
    assert build.main() == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{package.name}: already installed" for package in build.packages()]
