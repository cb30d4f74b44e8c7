"""`report.html`: one self-contained page about a run of episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from vla_ros.evaluation.episode_figures import (
    Forward,
    camera_strips,
    chunk_plots,
    episode_start_ns,
    joint_plots,
)
from vla_ros.evaluation.statistics import percentiles
from vla_ros.evaluation.summary import EpisodeResult, NodeReports, counted, latency
from vla_ros.evaluation.svg import histogram
from vla_ros.evaluation.trajectories import chunk_disagreement, tracking_lag_s
from vla_ros.recording.episode import Episode, read_episode
from vla_ros.robot.channels import joint_channels, tool_channels
from vla_ros.robot.config import Robot

# What each node times, in the order in which an observation passes through.
STAGES = {
    "policy_node": ("align_ms", "preprocess_ms", "inference_ms", "decode_ms", "glue_ms"),
    "control_node": ("tick_ms", "control_period_error_ms", "chunk_age_ms"),
}


@dataclass(frozen=True)
class Run:
    """Everything a report is made of. `folder` holds the MCAP files that `episodes` name."""

    title: str
    facts: Mapping[str, str]
    summary: Mapping[str, Any]
    episodes: Sequence[EpisodeResult]
    start: NodeReports
    end: NodeReports
    robot: Robot
    forward: Mapping[str, Forward]
    folder: Path


@dataclass
class _Gathered:
    """Samples over all episodes, for the latency plots."""

    chunk_age_ms: list[float]
    command_interval_ms: list[float]
    disagreement_mm: list[float]
    lag_ms: list[float]


def write_report(path: Path, run: Run) -> None:
    """Write the page; it needs nothing beside it and no network."""
    gathered = _Gathered([], [], [], [])
    sections = []
    for result in run.episodes:
        episode = read_episode(run.folder / result.file, run.robot)
        _gather(episode, run.robot, gathered)
        sections.append(_episode_section(result, episode, run))
    body = "\n".join(
        [
            _head(run),
            "<h2>Latency</h2>",
            _latency_table(run.end),
            _latency_plots(gathered),
            "<h2>Episodes</h2>",
            _episode_table(run.episodes),
            *sections,
            _counters(run),
        ]
    )
    page = Template((files("vla_ros.evaluation") / "report.html").read_text(encoding="utf-8"))
    path.write_text(page.substitute(title=escape(run.title), body=body), encoding="utf-8")


def _head(run: Run) -> str:
    summary = run.summary
    count, good = summary["episodes"], summary["successes"]
    low, high = summary["success_interval"]
    rate = f"{100 * good / count:.0f} %" if count else "–"
    tiles = [(f"{good} / {count}", f"success, {rate} (95 % Wilson: {100 * low:.0f}–{100 * high:.0f} %)")]
    for name, text in (
        ("inference_ms", "inference, ms p50 / p99"),
        ("glue_ms", "rest of the policy node, ms p50 / p99"),
        ("control_period_error_ms", "control period error, ms p50 / p99"),
    ):
        value = summary[name]
        tiles.append((f"{_short(value['p50'])} / {_short(value['p99'])}" if value else "no sample", text))
    for camera, frames in summary["frames"].items():
        tiles.append((f"{frames['received']} / {frames['sent']}", f"frames received / sent, {camera}"))
    tiles.append((str(summary["refused_observations"]), "observations refused"))
    tiles.append((str(summary["safety_interventions"]), "safety interventions (ticks)"))
    cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(text)}</span></div>" for value, text in tiles)
    facts = " · ".join(f"{escape(key)} <code>{escape(value)}</code>" for key, value in run.facts.items())
    return f'<h1>{escape(run.title)}</h1><p class="soft">{facts}</p><div class="tiles">{cells}</div>'


def _short(value: float) -> str:
    """About three digits, without an exponent."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _latency_table(end: NodeReports) -> str:
    rows = []
    for node, names in STAGES.items():
        report = end.policy if node == "policy_node" else end.control
        for name in names:
            value = latency(report, name)
            cells = [
                f"{value[key]:.3f}" if value and key in value else "–" for key in ("p50", "p95", "p99", "max")
            ]
            count = report.get(f"{name}.count", "–")
            numbers = "".join(f'<td class="n">{cell}</td>' for cell in [*cells, count])
            rows.append(f"<tr><td>{node}</td><td>{name}</td>{numbers}</tr>")
    head = "".join(f'<th class="n">{name}</th>' for name in ("p50", "p95", "p99", "max", "samples"))
    return (
        f"<table><tr><th>node</th><th>stage, ms</th>{head}</tr>{''.join(rows)}</table>"
        '<p class="soft">Measured inside the node that does the work, from its <code>/diagnostics</code>. '
        "glue is align + preprocess + decode + publish: all of the policy node but the network.</p>"
    )


def _latency_plots(gathered: _Gathered) -> str:
    plots = [
        histogram(gathered.chunk_age_ms, "observation to chunk received", "ms", "var(--measured)"),
        histogram(
            gathered.command_interval_ms, "interval between commands (their stamps)", "ms", "var(--commanded)"
        ),
        histogram(
            gathered.disagreement_mm,
            "how far neighbouring chunks disagree",
            "mm",
            "var(--planned)",
        ),
    ]
    lag = percentiles(gathered.lag_ms)
    text = (
        f"<p>Measured joints follow the commands by {lag.p50:.0f} ms (median over episodes).</p>"
        if lag
        else ""
    )
    return f'<div class="grid wide">{"".join(plots)}</div>{text}'


def _episode_table(episodes: Sequence[EpisodeResult]) -> str:
    rows = "".join(
        f'<tr><td class="n">{e.number}</td><td class="n">{e.seed}</td><td>{escape(e.prompt)}</td>'
        f'<td class="{"good" if e.success else "bad"}">{escape(e.outcome)}</td>'
        f'<td class="n">{e.duration_s:.1f}</td><td><code>{escape(e.file)}</code></td></tr>'
        for e in episodes
    )
    return (
        '<table><tr><th class="n">#</th><th class="n">seed</th><th>prompt</th><th>outcome</th>'
        f'<th class="n">s</th><th>recording</th></tr>{rows}</table>'
    )


def _episode_section(result: EpisodeResult, episode: Episode, run: Run) -> str:
    zero = episode_start_ns(episode)
    chunks = chunk_plots(episode, run.robot, run.forward, zero)
    colour = "good" if result.success else "bad"
    opened = " open" if result.number == run.episodes[0].number or not result.success else ""
    return (
        f"<details{opened}><summary>Episode {result.number}: {escape(result.prompt)} "
        f'<span class="{colour}">{escape(result.outcome)}</span><small>seed {result.seed}, '
        f"{result.duration_s:.1f} s, {len(episode.chunks)} chunks</small></summary>"
        f"{camera_strips(episode, zero)}"
        f"<h3>Chunks as planned, and what the arm did</h3>{chunks}"
        f"<h3>Commanded against measured</h3>{joint_plots(episode, run.robot, zero)}</details>"
    )


def _counters(run: Run) -> str:
    rows = []
    for title, end, start, prefix in (
        ("observations refused", run.end.policy, run.start.policy, "refused."),
        ("chunks refused", run.end.control, run.start.control, "refused_chunks."),
        ("safety interventions (ticks)", run.end.control, run.start.control, "interventions."),
    ):
        found = counted(end, start, prefix)
        text = ", ".join(f"{word} {count}" for word, count in sorted(found.items())) or "none"
        rows.append(f"<tr><td>{title}</td><td>{escape(text)}</td></tr>")
    scheduling = run.end.control.get("scheduling", "not reported")
    rows.append(f"<tr><td>scheduling of the control thread</td><td>{escape(scheduling)}</td></tr>")
    return f"<h2>Counters</h2><table>{''.join(rows)}</table>"


def _gather(episode: Episode, robot: Robot, gathered: _Gathered) -> None:
    gathered.chunk_age_ms += [(chunk.received_ns - chunk.stamp_ns) / 1e6 for chunk in episode.chunks]
    gathered.command_interval_ms += (np.diff(episode.command.stamps_ns) / 1e6).tolist()
    for name, arm in robot.arms.items():
        overlap = chunk_disagreement(episode.chunks, tool_channels(name)[:3])
        gathered.disagreement_mm += (overlap * 1e3).tolist()
        channels = joint_channels(name, len(arm.joints))
        if set(channels) <= set(episode.command.names):
            pairs = list(zip(channels, arm.joints, strict=True))
            lag = tracking_lag_s(episode.command, episode.joints[name], pairs)
            if lag is not None:
                gathered.lag_ms.append(lag * 1e3)
