"""The transport on the real middleware: every ROS process here is a process of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vla_ros.nodes.transport import (
    IMAGE_SEGMENT_BYTES,
    PROFILES,
    SHARED_MEMORY,
    clean_stale_segments,
    configure_dds,
    remove_dead_ports,
)

FAST_DDS = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")

CHECK = """
import contextlib, json, os, socket, sys
from vla_ros.nodes import transport
images = sys.argv[1]
def udp_receive_buffer():
    largest = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:"):
                with socket.socket(fileno=os.dup(int(descriptor))) as copy:
                    if copy.type == socket.SOCK_DGRAM and copy.family == socket.AF_INET:
                        # Linux reports twice what was asked for.
                        largest = max(largest, copy.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2)
    return largest
if sys.argv[2] == "configure":
    transport.configure_dds(images)
import rclpy
rclpy.init()
node = rclpy.create_node("probe")
report = transport.check_dds(images)
print(json.dumps({"in_effect": report.in_effect, "text": report.text, "rmw": report.rmw,
                  "segments": sorted(transport.own_segments().values()),
                  "udp": udp_receive_buffer()}))
"""


def environment(domain: int, **extra: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if name not in (*FAST_DDS, "CYCLONEDDS_URI")}
    return env | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"} | extra


def python(code: str, *arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(kind: str, how: str, env: dict[str, str]) -> dict:
    import json

    return json.loads(python(CHECK, kind, how, env=env).splitlines()[-1])


@pytest.mark.parametrize("kind", ["none", "received", "sent"])
@pytest.mark.parametrize("reach", ["LOCALHOST", "SUBNET"])
def test_profile_takes_effect(kind: str, reach: str, ros_domain: int) -> None:
    report = check(kind, "configure", environment(ros_domain, ROS_AUTOMATIC_DISCOVERY_RANGE=reach))
    assert report["in_effect"], report
    wanted = {"none": 0, "received": 1 << 20, "sent": IMAGE_SEGMENT_BYTES}[kind]
    assert wanted <= max(report["segments"], default=0) <= wanted * 1.5
    limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
    assert report["udp"] >= min(4 << 20, limit)


def test_missing_profile_is_reported(ros_domain: int) -> None:
    report = check("sent", "leave", environment(ros_domain))
    assert not report["in_effect"]
    assert "configure_dds()" in report["text"]


def test_shared_memory_without_images_is_reported(ros_domain: int) -> None:
    """It would wait for a process that was killed, with the commanding thread behind it."""
    report = check("none", "leave", environment(ros_domain))
    assert not report["in_effect"]
    assert "no profile is set" in report["text"] and "fastdds.xml" in report["text"]


def test_a_users_smaller_profile_is_kept_and_reported(tmp_path: Path, ros_domain: int) -> None:
    own = tmp_path / "own.xml"
    own.write_text((PROFILES / "fastdds_send_images.xml").read_text().replace("67108864", "2097152"))
    # Named only in the variable that this Fast DDS does not read: still the one that counts.
    env = environment(ros_domain, FASTDDS_DEFAULT_PROFILES_FILE=str(own))
    report = check("sent", "configure", env)
    assert not report["in_effect"]
    assert str(own) in report["text"] and "2.1 MB" in report["text"]


def test_a_profile_that_is_not_there_is_reported(ros_domain: int) -> None:
    env = environment(ros_domain, FASTRTPS_DEFAULT_PROFILES_FILE="/nowhere/profile.xml")
    report = check("sent", "configure", env)
    assert not report["in_effect"]
    assert "/nowhere/profile.xml is not there" in report["text"]


def test_too_little_shared_memory_is_reported(ros_domain: int) -> None:
    """A container's /dev/shm has 64 MB: Fast DDS then does without, silently."""
    script = 'mount -t tmpfs -o size=20m tmpfs /dev/shm && exec "$0" -c "$1" sent configure'
    done = subprocess.run(
        ["unshare", "-m", "bash", "-c", script, sys.executable, CHECK],
        env=environment(ros_domain),
        capture_output=True,
        text=True,
        timeout=60,
    )
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip("needs the right to make a mount namespace")
    assert '"in_effect": false' in done.stdout, done.stdout + done.stderr
    assert "--shm-size=1g" in done.stdout


def test_both_variables_are_set_and_a_parents_choice_of_ours_is_replaced() -> None:
    env: dict[str, str] = {}
    configure_dds("sent", environment=env)
    assert {env[name] for name in FAST_DDS} == {str(PROFILES / "fastdds_send_images.xml")}
    assert env["CYCLONEDDS_URI"] == (PROFILES / "cyclonedds.xml").as_uri()
    configure_dds(environment=env)
    assert {env[name] for name in FAST_DDS} == {str(PROFILES / "fastdds.xml")}


def test_segments_of_the_dead_are_removed_and_of_the_living_kept(ros_domain: int) -> None:
    code = CHECK + "\nsys.stdout.flush()\nimport time; time.sleep(60)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, "sent", "configure"],
            env=environment(ros_domain),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert "in_effect" in process.stdout.readline()
        doomed, living = (segments_of(process.pid) for process in processes)
        assert doomed and living
        processes[0].send_signal(signal.SIGKILL)
        processes[0].wait()
        assert all(path.exists() for path in doomed), "Fast DDS cleans up by itself now: drop ours"
        time.sleep(2.1)  # younger locks are left alone
        removed = clean_stale_segments()
        assert doomed <= set(removed)
        assert not any(path.exists() or path.with_name(path.name + "_el").exists() for path in doomed)
        assert all(path.exists() for path in living)
    finally:
        for process in processes:
            process.kill()
            process.wait()


def segments_of(pid: int) -> set[Path]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        target = os.readlink(descriptor)
        if target.startswith(f"{SHARED_MEMORY}/fast") and target.endswith("_el") and "port" not in target:
            found.add(Path(target.removesuffix("_el")))
    return found


def test_only_segments_are_touched(tmp_path: Path) -> None:
    old = time.time() - 100
    names = ["fastrtps_port7411", "fastrtps_port7411_el", "sem.fastrtps_port7411_mutex", "other_el"]
    stale, held = "fastdds_0123456789abcdef", "fastrtps_fedcba9876543210"
    for name in [*names, stale, f"{stale}_el", held, f"{held}_el"]:
        (tmp_path / name).write_bytes(b"")
        os.utime(tmp_path / name, (old, old))
    with open(tmp_path / f"{held}_el") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clean_stale_segments(tmp_path) == [tmp_path / stale]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names, held, f"{held}_el"])


PUBLISH = """
import time
import numpy as np
from vla_ros.nodes import cdr, transport
transport.configure_dds("sent")
import rclpy
from sensor_msgs.msg import Image, JointState
rclpy.init()
node = rclpy.create_node("talker")
images = node.create_publisher(Image, "image", 50)
joints = node.create_publisher(JointState, "joints", 50)
while images.get_subscription_count() < 2 or joints.get_subscription_count() < 1:
    time.sleep(0.02)
time.sleep(0.3)
image = cdr.ImageWriter("camera", 64, 48, "rgb8")
state = cdr.JointStateWriter("base", ["a", "bcd"])
for k in range(40):
    pixels = np.full((48, 64, 3), k, np.uint8)
    pixels[0, 0] = (1, 2, 3)
    images.publish(image.serialise(1_000_000_000 * k + 5, pixels))
    joints.publish(state.serialise(1_000_000_000 * k + 7, [k, 0.5], [1.0, 2.0], [3.0, 4.0]))
    time.sleep(0.01)
time.sleep(1.0)
"""

LISTEN = """
import json, time
from vla_ros.nodes import transport
transport.configure_dds("received")
import rclpy
from rosbags.typesys import Stores, get_typestore
from sensor_msgs.msg import Image, JointState
store = get_typestore(Stores.ROS2_HUMBLE)
rclpy.init()
node = rclpy.create_node("listener")
raw, typed, joints = [], [], []
node.create_subscription(Image, "image", raw.append, 50, raw=True)
node.create_subscription(Image, "image", typed.append, 50)
polled = transport.polled_subscription(node, JointState, "joints", 50)
until = time.monotonic() + 30
while (len(raw) < 40 or len(typed) < 40 or len(joints) < 40) and time.monotonic() < until:
    rclpy.spin_once(node, timeout_sec=0.2)
    joints += transport.take_all(polled)
assert transport.take_latest(polled) is None
images = [store.deserialize_cdr(data, "sensor_msgs/msg/Image") for data in raw]
joints = [store.deserialize_cdr(data, "sensor_msgs/msg/JointState") for data in joints]
def same(a, b):
    return (a.header.stamp.sec == b.header.stamp.sec and a.header.frame_id == b.header.frame_id
            and (a.width, a.height, a.step, a.encoding) == (b.width, b.height, b.step, b.encoding)
            and bytes(a.data) == bytes(b.data))
print(json.dumps({
    "equal": [same(a, b) for a, b in zip(images, typed)],
    "stamps": [[m.header.stamp.sec, m.header.stamp.nanosec] for m in images],
    "first_pixels": images[3].data[:6].tolist(),
    "joints": [[m.header.stamp.sec, m.header.stamp.nanosec, m.name, m.position.tolist(),
                m.velocity.tolist(), m.effort.tolist()] for m in joints],
}))
"""


def test_serialised_messages_arrive_complete_and_equal_to_typed_ones(ros_domain: int) -> None:
    import json

    env = environment(ros_domain)
    talker = subprocess.Popen([sys.executable, "-c", PUBLISH], env=env)
    try:
        heard = json.loads(python(LISTEN, env=env).splitlines()[-1])
    finally:
        talker.kill()
        talker.wait()
    assert heard["equal"] == [True] * 40
    assert heard["stamps"] == [[k, 5] for k in range(40)]
    assert heard["first_pixels"] == [1, 2, 3, 3, 3, 3]
    assert heard["joints"] == [
        [k, 7, ["a", "bcd"], [float(k), 0.5], [1.0, 2.0], [3.0, 4.0]] for k in range(40)
    ]


SEND_LARGE = """
import time
import numpy as np
from vla_ros.nodes import cdr, transport
transport.configure_dds("sent")
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("talker")
publisher = node.create_publisher(Image, "image", 10)
writer = cdr.ImageWriter("camera", 1280, 720, "rgb8")
pixels = np.zeros((720, 1280, 3), np.uint8)
for k in range(1, 100000):
    publisher.publish(writer.serialise(k, pixels))
    time.sleep(0.03)
"""

RECEIVE = """
import json, resource, sys, time
from vla_ros.nodes import transport
transport.configure_dds("received")
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("listener")
stamps, faults = [], []
held = []  # several images are held and let go, as buffers do
def take(data):
    held.append(data)
    if len(held) == 4:
        held.clear()
    stamps.append(int.from_bytes(data[8:12], "little"))
    faults.append(resource.getrusage(resource.RUSAGE_THREAD).ru_minflt)
    if len(stamps) == 5:
        raise RuntimeError("a callback that fails")
receiver = transport.RawReceiver(node)
receiver.subscribe(Image, "image", 10, take)
receiver.start()
until = time.monotonic() + 40
while len(stamps) < 60 and time.monotonic() < until:
    time.sleep(0.05)
receiver.stop()
stopped_at = len(stamps)
time.sleep(0.3)
print(json.dumps({"stamps": stamps, "faults": faults, "after_stop": len(stamps) - stopped_at}))
"""


def test_a_receiver_thread_gets_every_image_and_keeps_its_memory(ros_domain: int) -> None:
    import json

    env = environment(ros_domain)
    talker = subprocess.Popen([sys.executable, "-c", SEND_LARGE], env=env)
    try:
        heard = json.loads(python(RECEIVE, env=env).splitlines()[-1])
    finally:
        talker.kill()
        talker.wait()
    stamps, faults = heard["stamps"], heard["faults"]
    assert len(stamps) >= 60, "a failing callback ended the thread"
    assert stamps == sorted(set(stamps))
    assert heard["after_stop"] == 0
    # 2.7 MB are 675 pages; memory that is given back after each image would be faulted in again.
    assert (faults[-1] - faults[20]) / (len(faults) - 21) < 100


def test_a_late_process_is_discovered_soon(ros_domain: int) -> None:
    """Fast DDS announces itself again only every 3 s by default."""
    env = environment(ros_domain)
    talker = subprocess.Popen([sys.executable, "-c", SEND_LARGE], env=env)
    try:
        time.sleep(2.5)
        waits = sorted(float(python(LISTEN_FOR_ONE, env=env).splitlines()[-1]) for _ in range(3))
    finally:
        talker.kill()
        talker.wait()
    assert waits[1] < 1.5


LISTEN_FOR_ONE = """
import time
from vla_ros.nodes import transport
transport.configure_dds("received")
import rclpy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node("late")
begin = time.monotonic()
subscription = transport.polled_subscription(node, Image, "image", 10)
while transport.take_latest(subscription) is None and time.monotonic() < begin + 20:
    time.sleep(0.01)
print(time.monotonic() - begin)
"""


def test_ports_of_killed_processes_are_removed_and_those_of_living_ones_are_kept(tmp_path: Path) -> None:
    dead, alive, elsewhere = (f"fastrtps_port{port}" for port in (8150, 8161, 8400))
    for name in (dead, alive, elsewhere):
        for each in (name, f"{name}_el", f"sem.{name}_mutex"):
            (tmp_path / each).touch()
    with open(tmp_path / f"{alive}_el") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_dead_ports(3, tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert not any(dead in name for name in left)
    assert sum(alive in name for name in left) == sum(elsewhere in name for name in left) == 3
