from __future__ import annotations

import numpy as np
import pytest

from tests.safety.plant import FILE, MS
from vla_ros.robot.load import load_robot
from vla_ros.safety.joints import Measured
from vla_ros.safety.senses import Senses

ROBOT = load_robot(FILE.with_name("franka_dual.yaml"))


def way(time_ns: int) -> np.ndarray:
    return np.array(0.2 * np.sin(2.0 * time_ns / 1e9) + np.arange(7))


# States that come at every second tick all come at the same ones.
@pytest.mark.parametrize("states_every", [1, 2])
def test_each_arm_has_its_own_latency_found(states_every: int) -> None:
    senses = Senses(ROBOT)
    late = dict(zip(ROBOT.arms, (90 * MS, 130 * MS), strict=True))
    measured: dict[str, Measured] = {}
    for tick in range(1200):
        now_ns = 10**12 + tick * 10 * MS
        if tick % states_every == 0:
            measured = {name: Measured(way(now_ns - late[name]), now_ns) for name in late}
        assert senses.take(measured, True) == []
        for name in late:
            senses.sent(name, now_ns, way(now_ns))
    assert senses.latencies_ns == pytest.approx(late, abs=4 * MS)
    assert senses.ahead_ns == max(senses.latencies_ns.values())
