"""A process that plays the faults of one graph, in the namespaces that it was started in.

Arguments: group, folder for logs, JSON list of fault names (null: all). Writes JSON lines: {"progress": text}
and {"row": row}.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from vla_ros.benchmarks import _faults_list as faults
from vla_ros.benchmarks._faults_case import NOT, START, Fault, broken, play
from vla_ros.benchmarks._faults_stage import Stage, Stream, isolate
from vla_ros.errors import VlaRosError
from vla_ros.processes import interruptible
from vla_ros.resources import robot_config

ROBOT = "franka"
SHM, DISK = Path("/dev/shm"), "disk"
# Room for the segments of a graph, not much more.
SHM_BYTES, DISK_BYTES = 160 << 20, 4 << 20
CUT_S = 3.0

CAMERAS = [
    Stream("front", "sensor_msgs/msg/Image", "/front/color/image_raw"),
    Stream("wrist", "sensor_msgs/msg/Image", "/wrist/color/image_raw"),
]
JOINTS = [
    Stream(
        "joints", "sensor_msgs/msg/JointState", "/franka_robot_state_broadcaster/measured_joint_states", False
    ),
    Stream("fingers", "sensor_msgs/msg/JointState", "/franka_gripper/joint_states"),
]
COMMANDS = Stream(
    "commands",
    "trajectory_msgs/msg/JointTrajectory",
    "/joint_trajectory_controller/joint_trajectory",
    command=True,
)
CLOCK = Stream("clock", "rosgraph_msgs/msg/Clock", "/clock")

UDP_ONLY = """<?xml version="1.0" encoding="UTF-8"?>
<dds xmlns="http://www.eprosima.com"><profiles>
<transport_descriptors><transport_descriptor><transport_id>udp</transport_id><type>UDPv4</type>
<sendBufferSize>4194304</sendBufferSize><receiveBufferSize>4194304</receiveBufferSize></transport_descriptor>
</transport_descriptors>
<participant profile_name="udp" is_default_profile="true"><rtps>
<userTransports><transport_id>udp</transport_id></userTransports>
<useBuiltinTransports>false</useBuiltinTransports>
<builtin><discovery_config><leaseDuration><sec>10</sec></leaseDuration>
<leaseAnnouncement><sec>0</sec><nanosec>500000000</nanosec></leaseAnnouncement></discovery_config></builtin>
</rtps></participant></profiles></dds>
"""


def plain(folder: Path) -> Stage:
    return Stage(robot_config(ROBOT), folder)


def relayed(folder: Path) -> Stage:
    return Stage(robot_config(ROBOT), folder, relayed=[CAMERAS, [*JOINTS, COMMANDS]])


def clock(folder: Path) -> Stage:
    return Stage(robot_config(ROBOT), folder, relayed=[CAMERAS, [CLOCK, *JOINTS, COMMANDS]], sim_time=True)


def network(folder: Path) -> Stage:
    """The policy in the network namespace that $VLA_FAULTS_PEER names, the rest in this one."""
    folder.mkdir(parents=True, exist_ok=True)
    profile = folder / "udp.xml"
    profile.write_text(UDP_ONLY)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(profile)
    # Both ends are in namespaces that nothing else is in.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "SUBNET"
    shipped = robot_config(ROBOT)
    content = yaml.safe_load(shipped.read_text())
    for camera in content["cameras"].values():
        camera["transport"] = "compressed"  # as over any network
        camera["topic"] += "/compressed"
    (folder / "urdf").symlink_to(shipped.parent / "urdf")
    robot = folder / "robot.yaml"
    robot.write_text(yaml.safe_dump(content))
    return Stage(
        robot, folder, prefix={"policy_node": ("ip", "netns", "exec", os.environ["VLA_FAULTS_PEER"])}
    )


def full(folder: Path) -> Stage:
    """In a mount namespace of its own: /dev/shm and the logs' disk are small."""
    disk = folder / DISK
    disk.mkdir(parents=True)
    for where, size in ((SHM, SHM_BYTES), (disk, DISK_BYTES)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(where)], check=True)
    os.environ["ROS_LOG_DIR"] = str(disk / "ros")
    return Stage(robot_config(ROBOT), disk)


def link(state: str, stage: Stage) -> None:
    """Pull the cable, or put it back."""
    subprocess.run(["ip", "link", "set", os.environ["VLA_FAULTS_LINK"], state], check=True)


def fill(where: Path) -> None:
    """Write until nothing more fits."""
    with open(where / "filler", "wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def empty(where: Path) -> None:
    (where / "filler").unlink(missing_ok=True)


def network_faults() -> list[Fault]:
    words = "policy_gone|stale_chunk"
    return [
        Fault(
            "network cut between policy and control", partial(link, "down"), partial(link, "up"), CUT_S,
            "holds", faults.chunk_timeout, words,
        )
    ]  # fmt: skip


def full_faults() -> list[Fault]:
    def restart_in_full(stage: Stage) -> None:
        fill(SHM)
        faults.kill_and_start_policy(stage)

    def after(stage: Stage) -> None:
        faults.policy_ready(stage)
        empty(SHM)

    return [
        Fault("/dev/shm full", lambda stage: fill(SHM), lambda stage: empty(SHM), 3.0, "moves", None),
        Fault(
            "/dev/shm full, policy started in it", restart_in_full, after, 3.0, "holds", faults.chunk_timeout,
            "policy_gone|stale_chunk", (START,),
        ),
        Fault(
            "disk full", lambda stage: fill(stage.logs), lambda stage: empty(stage.logs), 3.0, "moves", None
        ),
    ]  # fmt: skip


GROUPS: dict[str, tuple[Callable[[Path], Stage], Callable[[], list[Fault]]]] = {
    "plain": (plain, faults.plain),
    "relayed": (relayed, faults.relayed),
    "clock": (clock, faults.clock),
    "network": (network, network_faults),
    "full": (full, full_faults),
}


def tell(**what: Any) -> None:
    """One line for the parent."""
    print(json.dumps(what), flush=True)


def run_group(name: str, folder: Path, wanted: list[str] | None) -> None:
    """Play the faults; after one that broke the graph it is started anew."""
    make, listed = GROUPS[name]
    stage: Stage | None = None
    starts = 0
    try:
        for fault in listed():
            if wanted is not None and fault.name not in wanted:
                continue
            tell(progress=fault.name)
            if stage is None:
                stage = make(folder / f"{name}.{starts}")
                starts += 1
            try:
                row = play(fault, stage)
            except VlaRosError as error:
                row = broken(fault, error)
            tell(row=row)
            if row["recovered"] == NOT:
                end(stage)
                stage = None
    finally:
        if stage is not None:
            end(stage)


def end(stage: Stage) -> None:
    """Close it; logs on the small disk, which goes with its namespace, are kept."""
    stage.close()
    if stage.logs.name == DISK:
        shutil.copytree(stage.logs, stage.logs.with_name("kept"), ignore=shutil.ignore_patterns("filler"))


def main() -> None:
    """See the module."""
    name, folder, wanted = sys.argv[1:]
    try:
        with interruptible():
            isolate()
            run_group(name, Path(folder), json.loads(wanted))
    except KeyboardInterrupt:
        sys.exit(130)
    except VlaRosError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
