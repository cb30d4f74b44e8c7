import dataclasses

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from trajectory_msgs.msg import JointTrajectory

from vla_ros.action.message import MOST_ROWS, from_message, to_message
from vla_ros.errors import Refused
from vla_ros.robot.channels import gripper_channel, joint_channels, tool_channels
from vla_ros.types import ActionChunk

CHANNELS = (*tool_channels("arm"), gripper_channel("arm"))
KNOWN = {*CHANNELS, *joint_channels("arm", 7)}
STAMP = 1_700_000_000_999_999_999


def chunk() -> ActionChunk:
    rng = np.random.default_rng(0)
    targets = rng.normal(size=(6, 8))
    targets[:, 3:7] /= np.linalg.norm(targets[:, 3:7], axis=1, keepdims=True)
    return ActionChunk(CHANNELS, targets, STAMP + np.arange(1, 7) * 133_333_333, STAMP)


def test_round_trip_through_the_wire_is_exact() -> None:
    sent = chunk()
    wire = serialize_message(to_message(sent))
    back = from_message(deserialize_message(wire, JointTrajectory), KNOWN)
    assert back.channels == sent.channels
    assert back.stamp_ns == sent.stamp_ns
    assert back.due_ns.tolist() == sent.due_ns.tolist()
    assert np.allclose(back.targets, sent.targets, rtol=0, atol=1e-15)


def change(**changes) -> JointTrajectory:
    return to_message(dataclasses.replace(chunk(), **changes))


def with_value(row: int, column: int, value: float) -> JointTrajectory:
    targets = chunk().targets.copy()
    targets[row, column] = value
    return change(targets=targets)


def broken(reason: str) -> JointTrajectory:
    if reason == "empty":
        message = to_message(chunk())
        message.points = []
    elif reason == "channels":
        message = change(channels=(*CHANNELS[:-1], "left/gripper"))
    elif reason == "shape":
        message = to_message(chunk())
        message.points[3].positions = [0.0] * 7
    elif reason == "nan":
        message = with_value(5, 7, float("nan"))
    elif reason == "order":
        message = change(due_ns=STAMP + np.array([1, 2, 2, 3, 4, 5]))
    else:
        message = with_value(2, 3, 3.0)
    return message


@pytest.mark.parametrize("reason", ["empty", "channels", "shape", "nan", "order", "rotation"])
def test_refused_by_name(reason) -> None:
    with pytest.raises(Refused) as caught:
        from_message(broken(reason), KNOWN)
    assert caught.value.reason == reason


def test_the_first_number_that_is_none_is_named() -> None:
    with pytest.raises(Refused, match=f"row 5 of the chunk has nan for {CHANNELS[7]}"):
        from_message(with_value(5, 7, float("nan")), KNOWN)


def test_infinity_no_stamp_a_channel_twice_and_half_a_pose_are_refused() -> None:
    cases = {
        "nan": with_value(0, 0, float("-inf")),
        "shape": change(stamp_ns=0, due_ns=np.arange(1, 7)),
        "channels": change(channels=(*CHANNELS[:-1], CHANNELS[0])),
        "rotation": change(channels=CHANNELS[:3], targets=np.zeros((6, 3))),
    }
    for reason, message in cases.items():
        with pytest.raises(Refused) as caught:
            from_message(message, KNOWN)
        assert caught.value.reason == reason


def test_no_more_rows_than_can_be_prepared_between_two_ticks() -> None:
    def rows(count: int) -> ActionChunk:
        return ActionChunk(("arm/gripper",), np.zeros((count, 1)), np.arange(1, count + 1) + STAMP, STAMP)

    assert len(from_message(to_message(rows(MOST_ROWS)), {"arm/gripper"}).targets) == MOST_ROWS
    with pytest.raises(Refused, match="257 rows") as refused:
        from_message(to_message(rows(MOST_ROWS + 1)), {"arm/gripper"})
    assert refused.value.reason == "shape"
