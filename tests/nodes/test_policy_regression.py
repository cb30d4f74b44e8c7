"""A policy whose one graph gives the chunk itself, and that takes no prompt, in a real policy_node."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.nodes.policy_graph import PolicyGraph
from tests.nodes.test_policy_node import CHANNELS, READY, ROBOT_FILE, expect_recovery, parameters
from tests.regression_bundle import write_regression_bundle
from tests.support import Starter
from vla_ros.action.message import from_message
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.preprocess import Preprocessor
from vla_ros.robot.kinematics import Kinematics
from vla_ros.robot.load import load_robot, read_urdf
from vla_ros.types import Observation

pytestmark = pytest.mark.graph


def test_it_moves_without_a_prompt_and_cannot_be_told(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    robot = load_robot(ROBOT_FILE)
    arm = robot.arms["arm"]
    kinematics = Kinematics(read_urdf(ROBOT_FILE, arm), arm.joints, arm.base_frame, arm.tool_frame)
    tool = kinematics.forward(arm.home)
    pose = np.concatenate([tool[:3, 3], Rotation.from_matrix(tool[:3, :3]).as_quat()])
    bundle = write_regression_bundle(tmp_path / "tiny", fails_in_the_dark=True)
    graph = PolicyGraph(robot)
    try:
        process = start_process.node("policy_node", *parameters(bundle.directory, mode="rtc"))
        process.wait_for_text(READY, 60)
        process.wait_for_text("has no real-time chunking: mode rtc acts as crossfade", 10)
        assert graph.trigger("start").message == "started: the policy takes no prompt"
        chunk = from_message(graph.wait_for_chunk(), CHANNELS)
        # The network's own numbers, scaled to 5 cm, from the tool on.
        state = {"arm/tcp_pose": pose, "arm/gripper": np.array([0.08])}
        seen = Observation(graph.drivers.pixels, state, "", {}, 1)
        raw = OnnxPolicy(bundle).infer(Preprocessor(bundle, robot)(seen)).values
        found = (chunk.targets[:, :3] - tool[:3, 3]) @ tool[:3, :3]
        assert found == pytest.approx(0.05 * raw[:, :3], abs=1e-4)
        assert np.ptp(found) > 0.05
        graph.drivers.pixels["front"] = np.zeros_like(graph.drivers.pixels["front"])
        graph.wait_for_refusal("nan", "the network returned 160 values not finite")
        expect_recovery(graph)
        graph.say("lift it")
        graph.wait_for_refusal("prompt_not_taken", "was trained without language")
        refused = graph.set_parameter("prompt", "lift it")
        assert not refused.successful and "was trained without language" in refused.reason
        graph.say("")
        expect_recovery(graph)
        assert process.returncode is None
    finally:
        graph.end()


def test_a_prompt_from_the_start_is_an_error(ros_domain: int, start_process: Starter, tmp_path: Path) -> None:
    bundle = write_regression_bundle(tmp_path / "tiny")
    process = start_process.node("policy_node", *parameters(bundle.directory, prompt="lift it"))
    assert process.wait(60) == 1
    assert "was trained without language" in process.output
    assert "leave the prompt out" in process.output
    assert "Traceback" not in process.output
