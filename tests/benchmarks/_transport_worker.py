"""One process of the transport benchmark: `publish` or `subscribe`, then `ours` or `plain`."""

from __future__ import annotations

import array
import json
import sys
import time
from functools import partial
from typing import Any

import numpy as np

CAMERAS, WIDTH, HEIGHT, RATE_HZ = 3, 1280, 720, 30
SECONDS, WARM_UP_S = 20.0, 2.0
_FRAMES = round((SECONDS + WARM_UP_S) * RATE_HZ)
_WARM_UP_FRAMES = round(WARM_UP_S * RATE_HZ)
_QUIET_S = 6.0


def publish(node: Any, ours: bool) -> dict[str, Any]:
    """Publish all frames at their times; what was sent after the warm-up."""
    from sensor_msgs.msg import Image

    from vla_ros.nodes.cdr import ImageWriter

    publishers = [node.create_publisher(Image, f"bench/camera{index}", 10) for index in range(CAMERAS)]
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    writers = [ImageWriter("camera", WIDTH, HEIGHT, "rgb8") for _ in publishers]
    typed = [Image(width=WIDTH, height=HEIGHT, encoding="rgb8", step=WIDTH * 3) for _ in publishers]
    for message in typed:
        # Outside of the measured time, although a camera node would have to do it for every image.
        message.data = array.array("B", pixels.tobytes())
    while any(publisher.get_subscription_count() == 0 for publisher in publishers):
        time.sleep(0.05)
    time.sleep(0.5)
    begin = time.monotonic()
    cpu_begin = 0.0
    stamps = []
    for frame in range(_FRAMES):
        for camera in range(CAMERAS):
            if frame == _WARM_UP_FRAMES and camera == 0:
                measured_from, cpu_begin = time.monotonic(), time.process_time()
            due = begin + (frame + camera / CAMERAS) / RATE_HZ
            time.sleep(max(0.0, due - time.monotonic()))
            stamp = time.time_ns()
            if ours:
                publishers[camera].publish(writers[camera].serialise(stamp, pixels))
            else:
                header = typed[camera].header
                header.stamp.sec, header.stamp.nanosec = divmod(stamp, 1_000_000_000)
                publishers[camera].publish(typed[camera])
            if frame >= _WARM_UP_FRAMES:
                stamps.append((camera, stamp))
    cpu = (time.process_time() - cpu_begin) / (time.monotonic() - measured_from)
    # Reliable: what is still on its way may need this process to send it again.
    time.sleep(_QUIET_S)
    return {"stamps": stamps, "cpu_percent": 100 * cpu}


def subscribe(node: Any, ours: bool) -> dict[str, Any]:
    """Receive until nothing has come for a while; latencies and processor time after the warm-up."""
    from rclpy.executors import SingleThreadedExecutor
    from sensor_msgs.msg import Image

    from vla_ros.nodes.transport import RawReceiver
    from vla_ros.observation.decode import decode_image

    arrivals: list[tuple[int, int, float]] = []
    cpu: list[tuple[float, float]] = []

    def note(camera: int, stamp: int, pixels: np.ndarray) -> None:
        assert pixels.shape == (HEIGHT, WIDTH, 3)
        arrivals.append((camera, stamp, (time.time_ns() - stamp) / 1e6))
        cpu.append((time.monotonic(), time.process_time()))

    def take_serialised(camera: int, data: bytes) -> None:
        frame = decode_image(data)
        note(camera, frame.stamp_ns, frame.rgb())

    def take_typed(camera: int, message: Image) -> None:
        pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        stamp = message.header.stamp
        note(camera, stamp.sec * 1_000_000_000 + stamp.nanosec, pixels)

    topics = [f"bench/camera{index}" for index in range(CAMERAS)]

    def over() -> bool:
        return bool(cpu) and time.monotonic() - cpu[-1][0] > _QUIET_S - 2.0

    if ours:
        receiver = RawReceiver(node)
        for index, topic in enumerate(topics):
            receiver.subscribe(Image, topic, 10, partial(take_serialised, index))
        receiver.start()
        while not over():
            time.sleep(0.5)
        receiver.stop()
    else:
        for index, topic in enumerate(topics):
            node.create_subscription(Image, topic, partial(take_typed, index), 10)
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        while not over():
            executor.spin_once(timeout_sec=0.5)
    measured = [index for index, item in enumerate(arrivals) if item[1] >= arrivals[0][1] + WARM_UP_S * 1e9]
    first, last = cpu[measured[0]], cpu[measured[-1]]
    latencies = [arrivals[index][2] for index in measured]
    p50, p99 = np.percentile(latencies, [50, 99])
    return {
        "stamps": [(camera, stamp) for camera, stamp, _ in arrivals],
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "cpu_percent": 100 * (last[1] - first[1]) / (last[0] - first[0]),
    }


def main() -> None:
    """Run one side and print its figures as one line of JSON."""
    role, contender = sys.argv[1:]
    ours = contender == "ours"
    from vla_ros.nodes import transport

    if ours:
        images: transport.Images = "sent" if role == "publish" else "received"
        transport.configure_dds(images)
    import rclpy

    rclpy.init()
    node = rclpy.create_node(f"bench_{role}")
    if ours:
        report = transport.check_dds(images)
        if not report.in_effect:
            raise RuntimeError(report.text)
    result = publish(node, ours) if role == "publish" else subscribe(node, ours)
    node.destroy_node()
    rclpy.shutdown()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
