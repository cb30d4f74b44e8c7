from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.action.manifests import gripper_part, manifest, pose_parts, robot
from vla_ros.action.decode import decode
from vla_ros.action.last_targets import LastTargets, asked_at
from vla_ros.action.normalise import unscaled
from vla_ros.robot.channels import BASE_CHANNELS, gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk, Observation, RawChunk

MS = 1_000_000
STAMP = 1_700_000_000_000 * MS
JOINT = joint_channels("arm", 1)
OUTPUTS = manifest(pose_parts()).outputs


def chunk(stamp_ms: int, values: list[float]) -> ActionChunk:
    """One joint, rows 100 ms apart from 100 ms after the stamp on."""
    due = STAMP + (stamp_ms + 100 * np.arange(1, len(values) + 1)) * MS
    return ActionChunk(JOINT, np.array(values)[:, None], due, STAMP + stamp_ms * MS)


def at(last: LastTargets, ms: int) -> float:
    assert last.rows is not None
    return asked_at(last.rows, STAMP + ms * MS).targets[JOINT[0]]


def test_a_first_chunk_begins_at_what_was_measured() -> None:
    last = LastTargets(OUTPUTS)
    assert last.rows is None
    last.published(chunk(0, [1.0, 2.0]), {"arm/joint_position": np.array([0.5])})
    assert [at(last, ms) for ms in (0, 50, 100, 150, 200, 900)] == [0.5, 0.75, 1.0, 1.5, 2.0, 2.0]


def test_a_chunk_takes_over_where_it_begins_and_what_was_before_stays_known() -> None:
    last = LastTargets(OUTPUTS)
    last.published(chunk(0, [1.0, 2.0, 3.0, 4.0]), {"arm/joint_position": np.array([0.0])})
    last.published(chunk(150, [10.0, 11.0]), {"arm/joint_position": np.array([99.0])})
    # Rows of the old one until 250 ms, where the new one's first is due.
    assert [at(last, ms) for ms in (100, 150, 200, 225, 250, 350)] == [1.0, 1.5, 2.0, 6.0, 10.0, 11.0]


def test_what_is_forgotten_is_measured_again() -> None:
    last = LastTargets(OUTPUTS)
    last.published(chunk(0, [1.0]), {"arm/joint_position": np.array([0.0])})
    last.forget()
    assert last.rows is None
    last.published(chunk(300, [7.0]), {"arm/joint_position": np.array([5.0])})
    assert at(last, 300) == 5.0


def test_a_clock_set_back_forgets_what_is_to_come() -> None:
    last = LastTargets(OUTPUTS)
    last.published(chunk(60_000, [1.0, 2.0]), {"arm/joint_position": np.array([0.0])})
    last.published(chunk(0, [7.0]), {"arm/joint_position": np.array([5.0])})
    assert [at(last, ms) for ms in (0, 100, 70_000)] == [5.0, 7.0, 7.0]


def test_no_more_rows_are_kept_than_are_asked_for() -> None:
    sticky = manifest([gripper_part(unit="width_m", binary={"threshold": 0.04, "sticky_steps": 5})]).outputs
    for outputs, kept in ((OUTPUTS, 2), (sticky, 7)):
        last = LastTargets(outputs)
        for index in range(40):
            last.published(chunk(50 * index, [1.0, 2.0, 3.0]), {"arm/joint_position": np.zeros(1)})
        assert last.rows is not None
        assert len(last.rows.due_ns) <= kept + 3
        assert np.all(np.diff(last.rows.due_ns) > 0)


def test_a_base_begins_at_its_measured_velocity_and_is_not_followed_as_a_gripper() -> None:
    due = STAMP + np.array([100, 200]) * MS
    rows = ActionChunk(BASE_CHANNELS, np.array([[0.2, 0.4], [0.4, 0.0]]), due, STAMP)
    last = LastTargets(OUTPUTS)
    last.published(rows, {"base/velocity": np.array([0.1, -0.4])})
    assert last.rows is not None
    found = [asked_at(last.rows, STAMP + ms * MS).vector(BASE_CHANNELS) for ms in (0, 50, 150, 900)]
    assert np.array(found) == pytest.approx(np.array([[0.1, -0.4], [0.15, 0.0], [0.3, 0.2], [0.4, 0.0]]))


def test_orientations_turn_and_grippers_wait() -> None:
    channels = (*tool_channels("arm"), gripper_channel("arm"))
    turns = Rotation.from_euler("z", [[0.0], [1.0], [1.0]]).as_quat().reshape(3, 4)
    turns[1] *= -1  # the same rotation
    targets = np.column_stack([np.zeros((3, 3)), turns, [0.08, 0.0, 0.0]])
    rows = ActionChunk(channels, targets, STAMP + np.array([0, 100, 200]) * MS, STAMP)
    asked = asked_at(rows, STAMP + 25 * MS)
    turn = asked.vector(channels[3:7])
    assert turn is not None
    assert Rotation.from_quat(turn).as_euler("xyz")[2] == pytest.approx(0.25)
    assert asked.targets["arm/gripper"] == 0.08
    assert asked.gripper_rows == {}
    assert asked_at(rows, STAMP + 150 * MS).gripper_rows == {"arm/gripper": 1}
    assert asked_at(rows, STAMP + 250 * MS).gripper_rows == {"arm/gripper": 2}
    assert asked.vector(("arm/joint1",)) is None


@pytest.mark.parametrize(("period_ms", "rows"), [(500, 5), (200, 5), (40, 5)])
def test_deltas_go_on_at_their_own_speed_however_often_is_inferred(period_ms: int, rows: int) -> None:
    """1 cm every 100 ms, inferred every 500 ms or 40 ms, on an arm that stays 3 cm behind: the target moves
    by 10 cm/s. Composed on the first row of the chunk before, at 40 ms it would run off at 25 cm/s."""
    described = manifest(pose_parts("world_delta", "world_delta", "axis_angle", 3), rows)
    last, targets = LastTargets(described.outputs), []
    for stamp_ms in range(0, 2000, period_ms):
        behind = max(0.0, 0.1 * stamp_ms / 1000 - 0.03)
        pose = np.array([behind, 0, 0, 0, 0, 0, 1.0])
        seen = Observation({}, {"arm/tcp_pose": pose}, "", {}, STAMP + stamp_ms * MS)
        raw = RawChunk(np.tile([0.01, 0, 0, 0, 0, 0], (rows, 1)))
        out = decode(raw, seen, described, unscaled(6), robot("arm"), last=last.rows)
        last.published(out, seen.state)
        targets.append((stamp_ms + 100, out.targets[0, 0]))
    for due_ms, x in targets:
        assert x == pytest.approx(0.1 * due_ms / 1000, abs=1e-9)
