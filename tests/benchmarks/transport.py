"""Three 1280x720 cameras at 30 Hz from one process to another, against rclpy as it comes.

One way: from just before an image's pixels are made into a message until the subscriber has them as an array.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from vla_ros.benchmarks._transport_worker import CAMERAS, HEIGHT, RATE_HZ, SECONDS, WARM_UP_S, WIDTH
from vla_ros.benchmarks.bench import Bench, Progress, Value

TARGET_P50_MS, TARGET_FACTOR, TARGET_CPU = 3.0, 5.0, 15.0
TARGET = f"0 lost, p50 <= {TARGET_P50_MS:.0f} ms, {TARGET_FACTOR:.0f} x faster, cpu <= {TARGET_CPU:.0f} %"
OURS, PLAIN = "ours", "plain"
_PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "CYCLONEDDS_URI")


def run(progress: Progress) -> Bench:
    """Both contenders, one after the other."""
    figures = {}
    for contender, text in ((PLAIN, "rclpy as it comes"), (OURS, "vla_ros")):
        progress(f"{text}, {SECONDS + WARM_UP_S:.0f} s")
        figures[contender] = _measure(contender)
    plain, ours = figures[PLAIN], figures[OURS]
    factor = plain["p50_ms"] / ours["p50_ms"]
    met = (
        ours["lost"] == 0
        and ours["p50_ms"] <= TARGET_P50_MS
        and factor >= TARGET_FACTOR
        and ours["cpu_percent"] <= TARGET_CPU
    )
    rows: list[dict[str, Value]] = [
        {"contender": "vla_ros", **ours, "faster": factor, "target": TARGET, "met": met},
        {"contender": "plain rclpy", **plain, "faster": 1.0, "target": None, "met": None},
    ]
    return Bench(
        f"transport: {CAMERAS} x {WIDTH}x{HEIGHT} rgb8 at {RATE_HZ} Hz between two processes",
        rows,
        (
            f"{SECONDS:.0f} s after {WARM_UP_S:.0f} s of warm-up; cameras run freely, evenly spread in time.",
            "plain rclpy: typed messages, filled before the run; QoS depth 10; no DDS profile.",
            "cpu: the subscriber's, of one core; faster: p50 of plain rclpy over this p50.",
            f"middleware: {ours_rmw()}, {os.cpu_count()} cores shared by both processes.",
        ),
    )


def ours_rmw() -> str:
    """The middleware that both contenders ran on."""
    return os.environ.get("RMW_IMPLEMENTATION", "the default of this ROS (rmw_fastrtps_cpp)")


def _measure(contender: str) -> dict[str, float]:
    env = {name: value for name, value in os.environ.items() if name not in _PROFILE_VARIABLES}
    env["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    command = [sys.executable, "-m", "vla_ros.benchmarks._transport_worker"]
    with (
        subprocess.Popen([*command, "subscribe", contender], env=env, stdout=subprocess.PIPE) as subscriber,
        subprocess.Popen([*command, "publish", contender], env=env, stdout=subprocess.PIPE) as publisher,
    ):
        try:
            sent = _result(publisher)
            received = _result(subscriber)
        finally:
            publisher.kill()
            subscriber.kill()
    lost = set(map(tuple, sent["stamps"])) - set(map(tuple, received["stamps"]))
    return {
        "frames": len(sent["stamps"]),
        "lost": len(lost),
        "p50_ms": received["p50_ms"],
        "p99_ms": received["p99_ms"],
        "cpu_percent": received["cpu_percent"],
    }


def _result(process: subprocess.Popen[bytes]) -> dict:
    output, _ = process.communicate(timeout=SECONDS + WARM_UP_S + 60)
    if process.returncode != 0:
        raise RuntimeError(f"a process of the benchmark ended with {process.returncode}")
    result: dict = json.loads(output.splitlines()[-1])
    return result
