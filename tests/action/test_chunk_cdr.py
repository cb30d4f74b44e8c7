from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rclpy.serialization import deserialize_message, serialize_message
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vla_ros.action.chunk_cdr import from_cdr, to_cdr
from vla_ros.action.message import from_message, to_message
from vla_ros.errors import Refused
from vla_ros.types import ActionChunk

NAMES = st.lists(
    # A part of a tool pose alone is refused, and not what these tests are about.
    st.text(st.characters(categories=["L", "Nd"], include_characters="/."), min_size=1, max_size=20).filter(
        lambda name: "/tcp/" not in name
    ),
    min_size=1,
    max_size=9,
    unique=True,
)


@st.composite
def chunks(draw: st.DrawFn) -> ActionChunk:
    names = tuple(draw(NAMES))
    rows = draw(st.integers(1, 20))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    stamp = draw(st.integers(1, 2**31 * 10**9 - 1))
    after = np.cumsum(rng.integers(1, 10**9, rows))
    return ActionChunk(names, rng.normal(size=(rows, len(names))), stamp + after, stamp)


@pytest.mark.complaint("lerobot 4368")
@given(chunk=chunks())
def test_it_is_what_ros_itself_writes_and_reads(chunk: ActionChunk) -> None:
    cdr = to_cdr(chunk)
    assert deserialize_message(cdr, JointTrajectory) == to_message(chunk)
    # rclpy's buffer has slack behind the message, and its padding holds anything.
    for sent in (cdr, bytes(serialize_message(to_message(chunk)))):
        read, expected = from_cdr(sent, chunk.channels), from_message(to_message(chunk), chunk.channels)
        assert read.channels == expected.channels
        assert read.stamp_ns == expected.stamp_ns
        assert np.array_equal(read.due_ns, expected.due_ns)
        assert np.array_equal(read.targets, expected.targets)


def test_other_fields_of_the_message_are_passed_over() -> None:
    message = JointTrajectory(joint_names=["a", "bcd"])
    message.header.frame_id = "somewhere"
    message.header.stamp.sec = 7
    for k in range(3):
        point = JointTrajectoryPoint(
            positions=[k, 2.0], velocities=[3.0] * k, accelerations=[1.0], effort=[0.5]
        )
        point.time_from_start.sec = k + 1
        message.points.append(point)
    read = from_cdr(bytes(serialize_message(message)), ["a", "bcd"])
    assert read.targets.tolist() == [[0, 2], [1, 2], [2, 2]]
    assert (read.due_ns - read.stamp_ns).tolist() == [10**9, 2 * 10**9, 3 * 10**9]


def test_big_endian_is_read() -> None:
    text = b"\0\0\0\2a\0\0\0"
    point = b"\0\0\0\1\0\0\0\0" + np.array([1.5], ">f8").tobytes() + b"\0" * 12 + b"\0\0\0\1\0\0\0\2"
    cdr = b"\0\0\0\0" + b"\0\0\0\5\0\0\0\6" + b"\0\0\0\1\0\0\0\0" + b"\0\0\0\1" + text + b"\0\0\0\1" + point
    read = from_cdr(cdr, ["a"])
    assert read.stamp_ns == 5 * 10**9 + 6
    assert read.targets.tolist() == [[1.5]]
    assert (read.due_ns - read.stamp_ns).tolist() == [10**9 + 2]


def sample() -> ActionChunk:
    return ActionChunk(("a", "bcd"), np.ones((3, 2)), np.array([2, 3, 4]) * 10**9, 10**9)


def test_every_truncation_is_refused() -> None:
    cdr = to_cdr(sample())
    for length in range(len(cdr)):
        with pytest.raises(Refused):
            from_cdr(cdr[:length], ["a", "bcd"])


@given(rubbish=st.binary(max_size=200))
def test_rubbish_is_refused(rubbish: bytes) -> None:
    with pytest.raises(Refused):
        from_cdr(rubbish, ["a", "bcd"])
    with pytest.raises(Refused):
        from_cdr(b"\0\1\0\0" + rubbish, ["a", "bcd"])


@pytest.mark.parametrize(
    ("channels", "targets", "due", "reason"),
    [
        (("a", "x"), np.ones((3, 2)), [2, 3, 4], "channels"),
        (("a", "a"), np.ones((3, 2)), [2, 3, 4], "channels"),
        (("a", "bcd"), np.full((3, 2), np.nan), [2, 3, 4], "nan"),
        (("a", "bcd"), np.full((3, 2), np.inf), [2, 3, 4], "nan"),
        (("a", "bcd"), np.ones((3, 1)), [2, 3, 4], "shape"),
        (("a", "bcd"), np.ones((3, 2)), [2, 4, 3], "order"),
        (("a", "bcd"), np.ones((0, 2)), [], "empty"),
    ],
)
def test_what_a_chunk_may_not_hold_is_refused(channels, targets, due, reason) -> None:
    chunk = ActionChunk(channels, targets, np.array(due, dtype=np.int64) * 10**9, 10**9)
    with pytest.raises(Refused) as caught:
        from_cdr(to_cdr(chunk), ["a", "bcd"])
    assert caught.value.reason == reason
