from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.evaluation.synthetic import forward, write_episode
from tests.recording.messages import franka
from vla_ros.evaluation.episode_figures import camera_strips, episode_start_ns
from vla_ros.evaluation.report import Run, write_report
from vla_ros.evaluation.summary import EpisodeResult, NodeReports, summarise
from vla_ros.recording.episode import read_episode
from vla_ros.recording.mcap_file import EpisodeWriter
from vla_ros.recording.topics import recorded_topics


def _latencies(*names: str) -> dict[str, str]:
    values = {"p50": "1.5", "p95": "2.5", "p99": "3.0", "max": "9.0", "count": "100"}
    return {f"{name}.{key}": value for name in names for key, value in values.items()}


def run(folder: Path, episodes: list[EpisodeResult]) -> Run:
    frames = {
        f"frames.{camera}.{what}": "300" for camera in ("front", "wrist") for what in ("sent", "received")
    }
    end = NodeReports(
        policy={**_latencies("inference_ms", "glue_ms"), **frames, "refused.stale": "3"},
        control={**_latencies("control_period_error_ms"), "interventions.velocity": "12"},
        sim=frames,
    )
    start = NodeReports(policy={}, control={}, sim={})
    return Run(
        title="Pick <franka>",
        facts={"robot": "franka", "policy": "franka_pick"},
        summary=summarise(episodes, start, end, ["front", "wrist"]),
        episodes=episodes,
        start=start,
        end=end,
        robot=franka(),
        forward={"arm": forward},
        folder=folder,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    write_episode(folder / "episode_000.mcap", franka())
    with EpisodeWriter(folder / "episode_001.mcap", recorded_topics(franka())) as writer:
        writer.close({})
    prompt = "lift the <red> & block"
    episodes = [
        EpisodeResult(0, 1_000_000, prompt, "success", 6.0, "episode_000.mcap"),
        EpisodeResult(1, 1_000_001, prompt, "failure: time-out", 15.0, "episode_001.mcap"),
    ]
    write_report(folder / "report.html", run(folder, episodes))
    return (folder / "report.html").read_text()


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_beside_it(page: str) -> None:
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    # Two cameras, eight frames each.
    assert len(tags.sources) == 16 and all(s.startswith("data:image/jpeg;base64,") for s in tags.sources)
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(", page)


def test_what_an_operator_typed_stays_text(page: str) -> None:
    assert "lift the &lt;red&gt; &amp; block" in page and "<red>" not in page


def test_every_plot_is_well_formed_and_has_finite_coordinates(page: str) -> None:
    bodies = re.findall(r'<svg class="plot.*?<path class="axis"[^>]*/></svg>', page, re.S)
    # Latency: 3. Each episode: 3 tool axes (0 without chunks), 7 joints, 1 gripper.
    assert len(bodies) == 3 + (3 + 8) + 8
    for body in bodies:
        ElementTree.fromstring(body)
        assert "nan" not in body and "inf" not in body


def test_the_numbers_of_the_summary_are_on_it(page: str) -> None:
    assert "1 / 2" in page and "50 %" in page
    assert "300 / 300" in page
    assert "stale 3" in page and "velocity 12" in page
    assert re.search(r"follow the commands by 40 ms", page)


def test_a_run_without_episodes_still_makes_a_page(tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", run(tmp_path, []))
    assert "0 / 0" in (tmp_path / "report.html").read_text()


def test_a_picture_of_the_scene_before_is_not_shown(tmp_path: Path) -> None:
    write_episode(tmp_path / "episode.mcap", franka())
    episode = read_episode(tmp_path / "episode.mcap", franka())
    zero = episode_start_ns(episode)
    shown = camera_strips(episode, zero)
    early = (zero - 40_000_000, episode.images["front"][-1][1])
    images = {**episode.images, "front": [early, *episode.images["front"]]}
    assert camera_strips(replace(episode, images=images), zero) == shown
