"""What a run of episodes amounts to: `summary.json`.

Counters and latencies come from the nodes' own `/diagnostics` (keys `inference_ms.p50`,
`frames.front.received`, `refused.stale`, ...): the node that did the work measured it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla_ros.evaluation.statistics import wilson_interval

SUCCESS = "success"
Report = Mapping[str, str]


@dataclass(frozen=True)
class EpisodeResult:
    """One trial. outcome: "success" or "failure: <reason>"; file: name of its MCAP file."""

    number: int
    seed: int
    prompt: str
    outcome: str
    duration_s: float
    file: str

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.outcome == SUCCESS


@dataclass(frozen=True)
class NodeReports:
    """The newest diagnostics of each node of the graph, {key: value}."""

    policy: Report
    control: Report
    sim: Report


def read_report(message: Any, node: str) -> dict[str, str] | None:
    """Values of `node` in a diagnostic_msgs/DiagnosticArray, or None when it is about other nodes.

    A status belongs to a node when its name's last path element does (namespaces are allowed for).
    """
    for status in message.status:
        if status.name.split(":")[0].strip().rsplit("/", 1)[-1] == node:
            return {pair.key: pair.value for pair in status.values}
    return None


def summarise(
    episodes: Sequence[EpisodeResult], start: NodeReports, end: NodeReports, cameras: Sequence[str]
) -> dict[str, Any]:
    """The content of summary.json.

    start, end: the nodes' reports before the first and after the last episode; counters are taken as
    the difference. `success_interval` is Wilson's, 95 %. A latency that no node reported is None.

    Raises:
        KeyError: a camera whose frames a node does not report.
    """
    successes = sum(episode.success for episode in episodes)
    interval = wilson_interval(successes, len(episodes))
    return {
        "episodes": len(episodes),
        "successes": successes,
        "success_interval": [round(interval.low, 4), round(interval.high, 4)],
        "inference_ms": latency(end.policy, "inference_ms"),
        "glue_ms": latency(end.policy, "glue_ms"),
        "control_period_error_ms": latency(end.control, "control_period_error_ms"),
        "frames": {
            camera: {
                "sent": _frames(end.sim, start.sim, camera, "sent"),
                "received": _frames(end.policy, start.policy, camera, "received"),
            }
            for camera in cameras
        },
        "refused_observations": sum(counted(end.policy, start.policy, "refused.").values()),
        "safety_interventions": sum(counted(end.control, start.control, "interventions.").values()),
    }


def latency(report: Report, name: str) -> dict[str, float] | None:
    """p50, p95, p99 (and max, where given) of `name` in ms, or None when the node has no sample of it."""
    found = {key: report.get(f"{name}.{key}", "") for key in ("p50", "p95", "p99", "max")}
    values = {key: float(text) for key, text in found.items() if text not in ("", "nan")}
    return {key: round(value, 4) for key, value in values.items()} if "p50" in values else None


def counted(end: Report, start: Report, prefix: str) -> dict[str, int]:
    """{word: count} of every counter `<prefix><word>`, as the difference of two reports; zeros left out."""
    words = [key[len(prefix) :] for key in end if key.startswith(prefix)]
    counts = {word: int(end[prefix + word]) - int(start.get(prefix + word, "0")) for word in words}
    return {word: count for word, count in counts.items() if count}


def _frames(end: Report, start: Report, camera: str, what: str) -> int:
    key = f"frames.{camera}.{what}"
    if key not in end:
        raise KeyError(f"diagnostics hold no '{key}'; keys are {', '.join(sorted(end)) or 'none'}")
    return int(end[key]) - int(start.get(key, "0"))
