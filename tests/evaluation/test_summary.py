from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from vla_ros.evaluation.summary import (
    EpisodeResult,
    NodeReports,
    counted,
    latency,
    read_report,
    summarise,
)


def _episode(number: int, outcome: str) -> EpisodeResult:
    return EpisodeResult(number, 1_000_000 + number, "lift", outcome, 7.0, f"episode_{number:03d}.mcap")


def _reports(frames: int, refused: int) -> NodeReports:
    latencies = {
        f"{name}.{key}": str(value)
        for name in ("inference_ms", "glue_ms")
        for key, value in (("p50", 1.5), ("p95", 2.5), ("p99", 3.0), ("max", 9.0), ("count", 100))
    }
    control = {f"control_period_error_ms.{key}": "0.25" for key in ("p50", "p95", "p99", "max")}
    return NodeReports(
        policy={**latencies, "frames.front.received": str(frames), "refused.stale": str(refused)},
        control={**control, "interventions.velocity": "4", "interventions.workspace": "1"},
        sim={"frames.front.sent": str(frames + 2)},
    )


def test_summary_has_the_agreed_fields() -> None:
    outcomes = ["success", "success", "failure: wrong block blue", "failure: time-out"]
    episodes = [_episode(k, outcome) for k, outcome in enumerate(outcomes)]
    found = summarise(episodes, _reports(10, 3), _reports(110, 5), ["front"])
    assert list(found) == [
        "episodes",
        "successes",
        "success_interval",
        "inference_ms",
        "glue_ms",
        "control_period_error_ms",
        "frames",
        "refused_observations",
        "safety_interventions",
    ]
    assert (found["episodes"], found["successes"]) == (4, 2)
    assert found["success_interval"] == [0.15, 0.85]
    assert found["inference_ms"] == {"p50": 1.5, "p95": 2.5, "p99": 3.0, "max": 9.0}
    assert found["control_period_error_ms"]["p99"] == 0.25
    # Differences over the run, not since the nodes came up.
    assert found["frames"] == {"front": {"sent": 100, "received": 100}}
    assert found["refused_observations"] == 2
    assert found["safety_interventions"] == 0
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_camera_nobody_counted_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"frames\.wrist\.sent"):
        summarise([], _reports(0, 0), _reports(0, 0), ["wrist"])


def test_no_sample_is_none_and_not_zero() -> None:
    assert latency({}, "inference_ms") is None
    assert latency({"inference_ms.p50": "nan", "inference_ms.count": "0"}, "inference_ms") is None


def test_counters_that_appear_later_count_from_zero() -> None:
    assert counted(
        {"refused.stale": "2", "refused.skew": "3", "chunks": "9"}, {"refused.skew": "3"}, "refused."
    ) == {"stale": 2}


@pytest.mark.parametrize("name", ["policy_node", "/left/policy_node", "policy_node: timing"])
def test_a_nodes_status_is_found_by_name(name: str) -> None:
    pair = SimpleNamespace(key="chunks", value="7")
    other = SimpleNamespace(name="control_node", values=[])
    message = SimpleNamespace(status=[other, SimpleNamespace(name=name, values=[pair])])
    assert read_report(message, "policy_node") == {"chunks": "7"}
    assert read_report(message, "sim_node") is None
