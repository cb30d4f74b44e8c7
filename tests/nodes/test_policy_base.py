"""A real policy_node on a robot with a base: from odometry on its topic to velocities in a chunk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper

from tests.declared_bundle import HISTORY, fields_with, write_declared_bundle
from tests.mobile_base import BASE_ACTION, BASE_STATE, mobile_fields
from tests.nodes.policy_graph import PolicyGraph
from tests.nodes.test_policy_node import CHANNELS, READY, parameters
from tests.observation.messages import image
from tests.support import Starter, wait_for
from tests.tiny_bundle import ROOT
from vla_ros.action.message import from_message
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph

MEASURED = (0.2, -0.4)


@pytest.mark.parametrize("frames", [1, 3])
def test_a_policy_sees_how_fast_the_base_moves_and_says_how_fast_it_shall(
    ros_domain: int, start_process: Starter, tmp_path: Path, frames: int
) -> None:
    """The tiny network is linear in its state: what it adds to each column is known."""
    robot = mobile_fields()
    robot["arms"]["arm"]["urdf"] = str(ROOT / "robot_configs" / robot["arms"]["arm"]["urdf"])
    file = tmp_path / "mobile.yaml"
    file.write_text(yaml.safe_dump(robot))
    past = {"history": {**HISTORY, "frames": frames}} if frames > 1 else {}
    fields = fields_with(state=[BASE_STATE], **past)
    fields["outputs"]["action"] = [*fields["outputs"]["action"], BASE_ACTION]
    fields["normalisation"]["action"] = {"kind": "none"}
    fields["sampler"]["steps"] = 1  # the chunk then does not hang on the noise
    bundle = write_declared_bundle(tmp_path / "tiny", fields, -1.0, 1.0)
    (weights,) = (
        numpy_helper.to_array(item)
        for item in onnx.load(bundle.directory / "prefix.onnx").graph.initializer
        if item.name == "state.w"
    )
    added = (np.tile(MEASURED, frames) @ weights).reshape(16, 12)[:, 10:]
    graph = PolicyGraph(load_robot(file))

    def velocities() -> np.ndarray:
        chunk = from_message(graph.wait_for_chunk(), (*CHANNELS, *BASE_CHANNELS))
        assert chunk.channels[-2:] == BASE_CHANNELS
        return chunk.targets[:, -2:]

    try:
        graph.drivers.silent.add("odometry")
        process = start_process.node("policy_node", *parameters(bundle.directory, file, prompt="lift it"))
        process.wait_for_text(READY, 60)
        graph.trigger("start")
        graph.wait_for_refusal("incomplete", "base/odometry: nothing received on /mobile_base/odom")
        graph.drivers.silent.clear()
        still = velocities()
        graph.drivers.velocity = MEASURED
        wait_for(lambda: np.abs(velocities() - still - added).max() < 5e-3, 30)
        assert np.abs(added).max() > 5e-2
        # Half as fast, it sees this base as twice as fast, and half of what it then says is asked for.
        assert graph.set_parameter("speed", 0.5).successful
        wait_for(lambda: np.abs(velocities() - still / 2 - added).max() < 5e-3, 30)
        assert np.abs(still / 2).max() > 5e-2
        assert graph.set_parameter("speed", 1.0).successful
        graph.drivers.silent.add("odometry")
        graph.wait_for_refusal("stale", "base/odometry: newest sample on /mobile_base/odom")
        graph.drivers.silent.clear()
        wait_for(lambda: np.abs(velocities() - still - added).max() < 5e-3, 30)
        assert process.returncode is None
    finally:
        graph.end()


def test_a_frozen_camera_is_noticed_while_the_base_alone_moves(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    """By a policy that neither drives the base nor is told how fast it moves."""
    robot = mobile_fields()
    robot["arms"]["arm"]["urdf"] = str(ROOT / "robot_configs" / robot["arms"]["arm"]["urdf"])
    file = tmp_path / "mobile.yaml"
    file.write_text(yaml.safe_dump(robot))
    fields = fields_with(state=[{"arm": "arm", "signal": "tcp_position", "size": 3}])
    bundle = write_declared_bundle(tmp_path / "tiny", fields, 0.0, 0.6)
    graph = PolicyGraph(load_robot(file))
    changing = graph.drivers.image_message

    def frozen(camera: str, stamp_ns: int) -> bytes:
        if camera == "front":
            return image(stamp_ns, np.zeros((480, 640, 3), np.uint8), "rgb8")
        return changing(camera, stamp_ns)

    try:
        process = start_process.node("policy_node", *parameters(bundle.directory, file, prompt="lift it"))
        process.wait_for_text(READY, 60)
        graph.trigger("start")
        graph.drivers.image_message = frozen  # type: ignore[method-assign]
        for _ in range(5):
            graph.wait_for_chunk()
        graph.drivers.velocity = MEASURED
        graph.wait_for_refusal("frozen", "though the base drove")
        graph.drivers.image_message = changing  # type: ignore[method-assign]
        graph.wait_for_chunk()
        assert process.returncode is None
    finally:
        graph.end()
