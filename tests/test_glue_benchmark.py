"""The benchmark's code runs and adds up; what it measures is nothing for a test."""

from __future__ import annotations

import pytest

from vla_ros.benchmarks import glue

pytestmark = pytest.mark.graph


def test_a_few_rounds(ros_domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glue, "ROUNDS", 6)
    monkeypatch.setattr(glue, "WARM_UP", 2)
    bench = glue.run(lambda text: None)
    total, *rest = bench.rows
    assert total["what"] == "vla_ros, frames to command"
    assert [row["what"] for row in rest] == [
        *(f"  {stage}" for stage in glue.STAGES),
        "bare copy and bilinear resize to 224x224",
        "bare copy and area resize to 224x224",
    ]
    assert all(0 < float(row["p50_ms"] or 0) <= float(row["max_ms"] or 0) for row in bench.rows)
    assert isinstance(total["met"], bool)
