from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from std_msgs.msg import String

from tests.nodes.policy_graph import LATCHED, PolicyGraph
from tests.nodes.test_policy_node import CHANNELS, READY, ROBOT_FILE, parameters
from tests.support import Starter, wait_for
from tests.tiny_bundle import manifest_fields, write_tiny_bundle
from vla_ros.action.last_targets import LastTargets, asked_at
from vla_ros.action.message import from_message
from vla_ros.robot.load import load_robot

pytestmark = pytest.mark.graph

# The tiny bundle's statistics: no row asks for more, and the gripper has no mask.
MOST = 0.05 + 1e-6


def test_deltas_go_on_from_the_last_target_while_it_is_followed(
    ros_domain: int, start_process: Starter, tmp_path: Path
) -> None:
    """Bridge's convention on an arm that does not move: chunk after chunk the target leaves it behind, by one
    row's delta from where the chunk before was; once the robot does something else it starts at the arm."""
    fields = manifest_fields()
    fields["sampler"]["steps"] = 1  # the chunk then does not hang on the noise
    position, rotation, _ = fields["outputs"]["action"]
    position |= {"reference": "world_delta", "delta_base": "last_target"}
    rotation |= {"reference": "absolute"}
    bundle = write_tiny_bundle(tmp_path / "tiny", **fields)
    graph = PolicyGraph(load_robot(ROBOT_FILE))
    sources = graph.node.create_publisher(String, "vla/control_source", LATCHED)
    try:
        arguments = parameters(bundle.directory, prompt="lift it", execute_steps=4)
        start_process.node("policy_node", *arguments).wait_for_text(READY, 60)
        graph.trigger("start")

        def left_behind() -> bool:
            first, newest = (from_message(graph.chunks[at], CHANNELS).targets[0, :3] for at in (0, -1))
            return bool(np.abs(newest - first).max() > 3 * MOST)

        # How many chunks that takes hangs on how fast they come.
        wait_for(lambda: len(graph.chunks) >= 25 and left_behind(), 60)
        seen = [from_message(message, CHANNELS) for message in list(graph.chunks)]
        # A first row is one delta from the measured pose, so within MOST of it.
        start = seen[0].targets[0, :3]
        last = LastTargets(bundle.manifest.outputs)
        last.published(seen[0], {"arm/tcp_pose": [*start, 0, 0, 0, 1]})
        for chunk in seen[1:]:
            assert last.rows is not None
            before = asked_at(last.rows, chunk.stamp_ns).vector(CHANNELS[:3])
            assert np.abs(chunk.targets[0, :3] - before).max() < MOST
            last.published(chunk, {})
        sources.publish(String(data="hold"))

        def back_at_the_arm() -> bool:
            chunk = from_message(graph.chunks[-1], CHANNELS)
            return bool(np.abs(chunk.targets[0, :3] - start).max() < 2 * MOST)

        count = len(graph.chunks)
        wait_for(lambda: len(graph.chunks) > count + 3 and back_at_the_arm(), 30)
    finally:
        graph.end()
