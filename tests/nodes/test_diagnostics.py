import time
from collections.abc import Iterator

import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from hypothesis import given
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from tests.support import wait_for
from vla_ros.nodes.diagnostics import WARN, DiagnosticsPublisher, Samples


@given(st.lists(st.floats(-1e6, 1e6), max_size=50))
def test_samples_keep_the_newest_and_count_all(values) -> None:
    samples = Samples(capacity=10)
    for value in values:
        samples.add(value)
    assert samples.count == len(values)
    assert sorted(samples.values()) == sorted(values[-10:])
    summary = samples.summary()
    if not values:
        assert summary == {"count": 0}
        return
    assert summary["p50"] == pytest.approx(np.percentile(values[-10:], 50))
    assert summary["p99"] == pytest.approx(np.percentile(values[-10:], 99))
    assert summary["max"] == max(values[-10:])
    assert summary["count"] == len(values)


def test_a_sample_is_cheap_and_memory_is_bounded() -> None:
    samples = Samples()
    begin = time.process_time()
    for value in range(100_000):
        samples.add(value)
    assert (time.process_time() - begin) / 100_000 < 20e-6
    assert len(samples.values()) == 20_000


@pytest.fixture
def node(ros_domain: int) -> Iterator[Node]:
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    node = Node("camera", namespace="/left", context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def test_figures_arrive_twice_a_second_under_the_node_s_name(node: Node) -> None:
    heard: list[tuple[float, DiagnosticStatus]] = []
    node.create_subscription(
        DiagnosticArray, "/diagnostics", lambda m: heard.append((time.monotonic(), m.status[0])), 10
    )
    refreshed: list[bool] = []
    diagnostics = DiagnosticsPublisher(node, lambda: refreshed.append(True))
    for value in (1.0, 2.0, 3.0):
        diagnostics.sample("tick_ms", value)
    diagnostics.count("overruns")
    diagnostics.count("overruns", 2)
    diagnostics.value("rate_hz", 29.97)
    diagnostics.state(WARN, "slow")
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    wait_for(lambda: len(heard) >= 3, 20.0, "three reports", lambda: executor.spin_once(0.1))
    status = heard[-1][1]
    assert (status.name, status.level, status.message) == ("left/camera", WARN, "slow")
    values = {pair.key: pair.value for pair in status.values}
    assert values["overruns"] == "3"
    assert values["rate_hz"] == "29.970"
    assert float(values["tick_ms.p50"]) == 2.0
    assert float(values["tick_ms.max"]) == 3.0
    assert values["tick_ms.count"] == "3"
    assert refreshed
    assert heard[-1][0] - heard[0][0] > 0.7
    diagnostics.reset()
    assert diagnostics.counters() == {}
    diagnostics.destroy()
