from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.nodes.policy_graph import PolicyGraph
from tests.nodes.test_policy_node import CHANNELS, READY, ROBOT_FILE, expect_recovery, parameters
from tests.support import Starter
from tests.token_bundle import write_token_bundle
from vla_ros.action.message import from_message
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf

pytestmark = pytest.mark.graph


def test_tokens_become_motion_and_words_do_not(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    robot = load_robot(ROBOT_FILE)
    arm = robot.arms["arm"]
    kinematics = Kinematics(read_urdf(ROBOT_FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
    tool = kinematics.forward(arm.home)
    bundle = write_token_bundle(tmp_path / "tiny", word="grab")
    graph = PolicyGraph(robot)
    try:
        arguments = parameters(bundle.directory, prompt="lift it", mode="rtc")
        process = start_process.node("policy_node", *arguments)
        process.wait_for_text(READY, 60)
        process.wait_for_text("has no real-time chunking: mode rtc acts as crossfade", 10)
        graph.trigger("start")
        chunk = from_message(graph.wait_for_chunk(), CHANNELS)
        # The policy's own numbers again: each the middle of one of 255 bins of 10 cm.
        bins = ((chunk.targets[:, :3] - tool[:3, 3]) @ tool[:3, :3] + 0.05) / 0.1 * 255 - 0.5
        assert np.abs(bins - np.rint(bins)).max() < 1e-6
        assert len(set(np.rint(bins).ravel().tolist())) > 10
        graph.say("grab it")
        graph.wait_for_refusal("token", "[2.0] for an action, in columns [9]; its tokens are 31744 to 31999")
        assert process.returncode is None
        graph.say("lift it")
        expect_recovery(graph)
    finally:
        graph.end()
