"""The benchmark's code runs and the arms follow; what it measures is nothing for a test."""

from __future__ import annotations

import numpy as np
import pytest

from vla_ros.benchmarks import tick


@pytest.mark.parametrize("kind", tick.WHAT)
def test_both_arms_follow(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "WARM_UP", 20)
    # The raise for arms that did not follow is the check.
    times = tick.measure(kind, "ensemble", 100)
    assert times.shape == (100,) and np.all(times > 0)


def test_arms_that_do_not_follow_are_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "WARM_UP", 10)
    # Beyond first_command_joint: every chunk is refused.
    monkeypatch.setattr(tick, "SWAY_JOINT", 3.0)
    with pytest.raises((tick.VlaRosError,)):
        tick.measure("joints", "ensemble", 50)
