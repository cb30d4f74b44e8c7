"""Which prompt a real policy_node follows, told and recorded whole however it was given."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mcap.reader import make_reader
from std_msgs.msg import String

from tests.nodes.policy_graph import LATCHED, PolicyGraph
from tests.nodes.test_policy_node import READY, ROBOT_FILE, parameters
from tests.support import Starter, wait_for
from tests.tiny_bundle import write_tiny_bundle
from vla_ros.nodes.episode_recorder import EpisodeRecorder
from vla_ros.recording.mcap_file import typestore
from vla_ros.recording.topics import POLICY_PROMPT, PROMPT, recorded_topics
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph

LONG = "lift the " + "x" * 150


def test_a_recording_holds_the_whole_prompt_though_it_was_a_parameter(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    """From before the recording, on the topic, as a parameter again; and an empty one, which it refuses."""
    folder = write_tiny_bundle(tmp_path / "tiny").directory
    robot = load_robot(ROBOT_FILE)
    graph = PolicyGraph(robot)
    told: list[str] = []

    def say(prompt: str) -> None:
        graph.say(prompt)
        wait_for(lambda: told[-1:] == [prompt], 10, f"{told}")

    recorder = EpisodeRecorder(graph.node, recorded_topics(robot), "name: franka")
    recorder.start()
    graph.node.create_subscription(String, "vla/policy_prompt", lambda m: told.append(m.data), LATCHED)
    try:
        process = start_process.node("policy_node", *parameters(folder, prompt=LONG))
        process.wait_for_text(READY, 60)
        wait_for(lambda: told == [LONG], 10, f"{told}")
        time.sleep(0.3)  # until the recorder has read it too
        recorder.begin(tmp_path / "run.mcap")
        say("pick up the red block")
        assert graph.set_parameter("prompt", "grab the green cube").successful
        wait_for(lambda: told[-1] == "grab the green cube", 10, f"{told}")
        assert not graph.set_parameter("prompt", "").successful
        say("")
        time.sleep(0.3)
        recorder.finish({})
        # Latched: for whoever comes later.
        later: list[str] = []
        graph.node.create_subscription(String, "vla/policy_prompt", lambda m: later.append(m.data), LATCHED)
        wait_for(lambda: later == [""], 10, f"{later}")
        assert process.returncode is None
    finally:
        recorder.close()
        graph.end()
    followed = [LONG, "pick up the red block", "grab the green cube", ""]
    assert recorded(tmp_path / "run.mcap", POLICY_PROMPT) == followed == told
    assert recorded(tmp_path / "run.mcap", PROMPT) == ["pick up the red block", ""]


def recorded(file: Path, topic: str) -> list[str]:
    with open(file, "rb") as stream:
        found = [message.data for _, _, message in make_reader(stream).iter_messages(topics=[topic])]
    return [typestore().deserialize_cdr(cdr, "std_msgs/msg/String").data for cdr in found]
