from __future__ import annotations

import copy
import time
from pathlib import Path

import numpy as np
import pytest
from trajectory_msgs.msg import JointTrajectory

from tests.declared_bundle import HISTORY, fields_with, images_with, write_declared_bundle
from tests.nodes.policy_graph import PolicyGraph, stamp_ns
from tests.nodes.test_policy_node import CHANNELS, READY, ROBOT_FILE, parameters
from tests.support import Starter, wait_for
from vla_ros.action.message import from_message
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph


def test_a_policy_that_sees_its_past_waits_for_it_and_anew_after_a_reset(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    """Five images over 2 s, its own last prediction as the state, X-VLA's domain and a view it may lack."""
    fields = copy.deepcopy(
        fields_with(
            history={**HISTORY, "frames": 5, "stride_s": 0.5, "of": ["images"], "before": "refuse"},
            state=[{"arm": "arm", "signal": "tcp_position", "size": 3}],
            proprioception="last_prediction",
            domain_id=5,
            images=images_with(optional=True),
        )
    )
    folder = write_declared_bundle(tmp_path / "tiny", fields, 0.0, 0.6).directory
    graph = PolicyGraph(load_robot(ROBOT_FILE))
    try:
        arguments = parameters(folder, prompt="lift it")
        process = start_process.node("policy_node", *arguments)
        process.wait_for_text(READY, 60)
        # Long enough before the start for any window: but that was before the episode.
        wait_for(lambda: graph.drivers.sent["front"] > 90, 30)
        for command in ("start", "reset"):
            began = time.time_ns()
            assert graph.trigger(command).success
            if command == "start":
                graph.wait_for_refusal("history_short", "the policy needs 2000 ms before it may act")
            wait_for(lambda since=began: any(stamp_ns(m) > since for m in list(graph.chunks)), 30)
            later = [stamp_ns(message) for message in graph.chunks if stamp_ns(message) > began]
            assert later[0] - began > 1_900_000_000
        wait_for(lambda: len(graph.chunks) > 10, 30)
        assert (np.diff([stamp_ns(message) for message in graph.chunks]) > 0).all()
        assert graph.values["views_missing"] == ""
        # The wrist camera is the one without which it can do.
        graph.drivers.silent.add("wrist")
        wait_for(lambda: graph.values["views_missing"] == "wrist", 30)
        graph.wait_for_chunk()
        assert process.returncode is None
    finally:
        graph.end()


@pytest.mark.parametrize(("proprioception", "moved"), [("measured", False), ("last_prediction", True)])
def test_only_a_policy_that_says_so_is_shown_its_own_last_prediction(
    ros_domain: int, start_process: Starter, tmp_path: Path, proprioception: str, moved: bool
) -> None:
    """The arm stays where it is, far from what this network asks for, which hangs on the state."""
    state = [{"arm": "arm", "signal": "tcp_position", "size": 3}]
    fields = fields_with(state=state, proprioception=proprioception)
    fields["sampler"]["steps"] = 1  # the chunk then does not hang on the noise
    folder = write_declared_bundle(tmp_path / "tiny", fields, 0.0, 0.6).directory
    graph = PolicyGraph(load_robot(ROBOT_FILE))
    try:
        arguments = parameters(folder, prompt="lift it")
        start_process.node("policy_node", *arguments).wait_for_text(READY, 60)
        graph.trigger("start")
        graph.wait_for_chunk()
        first = from_message(graph.chunks[0], CHANNELS)
        wait_for(lambda: stamp_ns(graph.chunks[-1]) > first.due_ns[4], 30)
        later = from_message(graph.chunks[-1], CHANNELS)
        apart = np.abs(later.targets[:, :3] - first.targets[:, :3]).max()
        assert (apart > 5e-3) == moved, apart
    finally:
        graph.end()


def test_a_history_begins_anew_when_the_clock_was_set_back(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    """Else the episode would lie in the future, and the policy would wait for it for ten seconds."""
    fields = fields_with(history={**HISTORY, "before": "refuse"})
    fields["inputs"]["state"] = fields["inputs"]["state"][:1]
    folder = write_declared_bundle(tmp_path / "tiny", fields, 0.0, 0.6).directory
    clock = {"ahead": 0}

    def age_of(message: JointTrajectory) -> int:
        return time.time_ns() + clock["ahead"] - stamp_ns(message)

    graph = PolicyGraph(load_robot(ROBOT_FILE), clock_ns=lambda: time.time_ns() + clock["ahead"])
    try:
        arguments = parameters(folder, prompt="lift it")
        process = start_process.node("policy_node", *arguments, "-p", "use_sim_time:=true")
        process.wait_for_text(READY, 60)
        graph.trigger("start")
        graph.wait_for_chunk()
        for step in (-10, 20, -20):
            clock["ahead"] += step * 1_000_000_000
            begin = time.monotonic()
            wait_for(lambda: abs(age_of(graph.wait_for_chunk())) < 2_000_000_000, 20)
            assert time.monotonic() - begin < 8
        assert process.returncode is None
    finally:
        graph.end()
