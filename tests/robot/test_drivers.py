"""What each driver is sent, as the driver's own sources read it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from vla_ros.errors import Refused
from vla_ros.robot.config import Arm
from vla_ros.robot.drivers import LATE_NS, SETTLE_NS, driver_for
from vla_ros.robot.load import load_robot
from vla_ros.robot.spline import coefficients, position
from vla_ros.safety.limits import JointLimiter
from vla_ros.types import FloatArray, Motion

pytest.importorskip("trajectory_msgs.msg", reason="needs the ROS 2 message packages")

FRANKA = load_robot(Path(__file__).parents[2] / "robot_configs" / "franka.yaml").arms["arm"]
Q = np.array([0.1, -0.7, 0.2, -2.3, 0.3, 1.5, 0.8])
STAMP = 1_700_000_000_123_456_789
PERIOD = 10_000_000
STILL = Motion(np.array([0.01, 0.02]), np.stack([Q, Q]), np.zeros((2, 7)), np.zeros((2, 7)))
DRIVERS = ["joint_trajectory", "joint_position", "cartesian_pose"]


def with_driver(name: str) -> Arm:
    return FRANKA.model_copy(update={"driver": name})


def pose(rotation: Rotation | None = None) -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, 3] = [0.4, -0.1, 0.3]
    if rotation is not None:
        matrix[:3, :3] = rotation.as_matrix()
    return matrix


def moving_limiter(period_s: float = 0.01) -> JointLimiter:
    limiter = JointLimiter(FRANKA.limits, period_s)
    limiter.reset(Q)
    return limiter


def points_of(message: Any) -> tuple[list[int], FloatArray]:
    """When each point is due, and [P, 3, J]: positions, velocities, accelerations."""
    start = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    after = [point.time_from_start for point in message.points]
    rows = [[point.positions, point.velocities, point.accelerations] for point in message.points]
    return [start + time.sec * 10**9 + time.nanosec for time in after], np.array(rows)


def place(said: tuple[list[int], FloatArray], time: int) -> FloatArray:
    """Where a controller is at `time` that is inside the trajectory."""
    times, rows = said
    after = next(index for index, due in enumerate(times) if due >= time)
    start, end = tuple(rows[after - 1]), tuple(rows[after])
    polynomial = coefficients(start, end, (times[after] - times[after - 1]) / 1e9)
    return position(polynomial, (time - times[after - 1]) / 1e9)


def test_joint_trajectory_says_a_motion_with_the_knots_before_it() -> None:
    driver = driver_for(with_driver("joint_trajectory"))
    assert driver.topic == "/joint_trajectory_controller/joint_trajectory"
    limiter = moving_limiter()
    motions = []
    for tick in range(30):
        limiter.tick(STAMP + tick * PERIOD)
        limiter.commit(limiter.plan(Q + 0.5, np.zeros(7)))
        motions.append(limiter.motion())
        message = driver.message(motions[-1], pose(), None, STAMP + tick * PERIOD)
    assert type(message) is driver.message_type
    assert type(message).__name__ == "JointTrajectory"
    assert list(message.joint_names) == FRANKA.joints
    times, rows = points_of(message)
    # The first point is past, so that the controller need not come to it from anywhere.
    now = STAMP + 29 * PERIOD
    assert times[0] <= now < times[1]
    newest = times.index(now + 2 * PERIOD + LATE_NS)
    assert np.diff(times[: newest + 2]).tolist() == [PERIOD] * (newest + 1)
    for back in range(newest + 1):
        knot = motions[-1 - back]
        np.testing.assert_array_equal(rows[newest - back], [knot.q[0], knot.v[0], knot.a[0]])
    np.testing.assert_array_equal(rows[newest:, 0], motions[-1].q)
    np.testing.assert_array_equal(rows[-1][1:], 0)


@pytest.mark.parametrize("rate", [50, 100, 200, 1000])
def test_all_messages_say_the_same_until_the_one_after_the_next_is_late(rate: int) -> None:
    """So that it matters neither when one is taken up nor whether it comes at all."""
    period = 1_000_000_000 // rate
    driver, limiter = driver_for(with_driver("joint_trajectory")), moving_limiter(1.0 / rate)
    rng = np.random.default_rng(rate)
    last = None
    for tick in range(120):
        now = STAMP + tick * period
        limiter.tick(now + int(rng.uniform(0, 0.8) * period))
        limiter.commit(limiter.plan(Q + rng.uniform(-9, 9, 7), np.zeros(7)))
        message = driver.message(limiter.motion(), pose(), None, now + round(limiter._beat.late_s * 1e9))
        said = points_of(message)
        if last is not None:
            for after in np.linspace(1, 2 * period + LATE_NS, 23).astype(int).tolist():
                time = now - period + after
                if time >= now:
                    np.testing.assert_allclose(place(said, time), place(last, time), atol=1e-9)
        last = said


def test_knots_are_evenly_spaced_though_stamps_are_not() -> None:
    """Stamps are read some 0.1 ms after the loop woke up, and their clock is 300 ppm faster than its."""
    driver, limiter = driver_for(with_driver("joint_trajectory")), moving_limiter()
    rng = np.random.default_rng(0)
    newest, apart = [], []
    for tick in range(1500):
        stamp = STAMP + round(tick * PERIOD * 1.0003 + rng.uniform(0, 400_000))
        limiter.commit(limiter.plan(Q + 0.1 * np.sin((tick + 1) / 20), np.zeros(7)))
        message = driver.message(limiter.motion(), pose(), None, stamp)
        times, rows = points_of(message)
        at = next(i for i, row in enumerate(rows) if np.array_equal(row[0], limiter.motion().q[0]))
        newest.append(times[at])
        apart.append(times[at] - stamp - 2 * PERIOD - LATE_NS)
    assert np.abs(np.diff(newest) - PERIOD).max() <= PERIOD // 1000
    assert np.abs(apart).max() < 1_500_000


def test_a_clock_slower_than_the_loop_makes_no_step() -> None:
    driver, limiter = driver_for(with_driver("joint_trajectory")), moving_limiter()
    last = None
    for tick in range(100):
        limiter.commit(limiter.plan(Q + 0.9, np.zeros(7)))
        stamp = STAMP + tick * PERIOD * 7 // 10
        said = points_of(driver.message(limiter.motion(), pose(), None, stamp))
        if last is not None:
            time = max(stamp, said[0][0]) + 1
            np.testing.assert_allclose(place(said, time), place(last, time), atol=1e-3)
        last = said


def test_missed_ticks_are_said_as_the_way_to_rest_that_the_arm_was_on() -> None:
    driver, limiter = driver_for(with_driver("joint_trajectory")), moving_limiter()
    now, last = STAMP, None
    for tick in range(60):
        now += PERIOD * (3 if tick in (20, 41) else 1)
        limiter.tick(now)
        limiter.commit(limiter.plan(Q + 0.9, np.zeros(7)))
        said = points_of(driver.message(limiter.motion(), pose(), None, now))
        if last is not None:
            newest = now + 2 * PERIOD + LATE_NS
            for time in np.linspace(now, newest - PERIOD, 20).astype(int).tolist():
                np.testing.assert_allclose(place(said, time), place(last, time), atol=1e-9)
        last = said


def test_a_stream_begins_with_time_for_the_controller_to_settle() -> None:
    driver = driver_for(with_driver("joint_trajectory"))
    first = driver.message(STILL, pose(), None, STAMP)
    times, rows = points_of(first)
    assert times == [STAMP + SETTLE_NS]
    np.testing.assert_array_equal(rows[0], [Q, 0 * Q, 0 * Q])
    later = [driver.message(STILL, pose(), None, STAMP + tick * PERIOD) for tick in range(1, 40)]
    silent = [message is None for message in later]
    assert silent == [True] * 11 + [False] * 28
    times, rows = points_of(later[-1])
    # Held from now on, whatever the controller believes to be at.
    assert times[0] <= STAMP + 39 * PERIOD < times[-1]
    assert (rows[:, 0] == Q).all()
    # After a silence it is asked to come there again.
    assert points_of(driver.message(STILL, pose(), None, STAMP + 60 * 10**9))[0] == [
        STAMP + 60 * 10**9 + SETTLE_NS
    ]


def test_an_arm_that_was_moved_after_a_stream_is_not_sent_back_to_where_that_one_ended() -> None:
    driver = driver_for(with_driver("joint_trajectory"))
    for tick in range(40):
        driver.message(STILL, pose(), None, STAMP + tick * PERIOD)
    moved = Motion(STILL.after_s, STILL.q + 0.2, STILL.v, STILL.a)
    now = STAMP + 140 * PERIOD
    times, rows = points_of(driver.message(moved, pose(), None, now))
    assert times == [now + SETTLE_NS]
    np.testing.assert_array_equal(rows[0, 0], Q + 0.2)


@pytest.mark.parametrize("step_s", [-10.0, -2.0, 2.0, 10.0])
def test_a_clock_that_is_set_in_the_middle_of_a_motion_only_shifts_it(step_s: float) -> None:
    driver, limiter = driver_for(with_driver("joint_trajectory")), moving_limiter()
    last = None
    for tick in range(40):
        time = STAMP + tick * PERIOD
        limiter.tick(time)
        limiter.commit(limiter.plan(Q + 0.5, np.zeros(7)))
        was_set = round(step_s * 1e9) if tick >= 25 else 0
        said = points_of(driver.message(limiter.motion(), pose(), None, time + was_set))
        if last is not None:
            set_now = was_set if tick == 25 else 0
            for ago in range(0, PERIOD + LATE_NS, 1_000_000):
                now = time + was_set + ago
                np.testing.assert_allclose(place(said, now), place(last, now - set_now), atol=1e-6)
        last = said


def test_joint_position() -> None:
    driver = driver_for(with_driver("joint_position"))
    assert driver.topic == "/forward_position_controller/commands"
    message = driver.message(STILL, pose(), None, STAMP)
    assert type(message).__name__ == "Float64MultiArray"
    assert list(message.data) == Q.tolist()


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 1e-3))
def test_cartesian_pose(quaternion: list[float]) -> None:
    rotation = Rotation.from_quat(quaternion)
    message = driver_for(with_driver("cartesian_pose")).message(STILL, pose(rotation), None, STAMP)
    assert type(message).__name__ == "PoseStamped"
    assert message.header.frame_id == "base"
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP
    position, o = message.pose.position, message.pose.orientation
    assert [position.x, position.y, position.z] == [0.4, -0.1, 0.3]
    # The quaternion is xyzw (scipy's order too) and of unit length.
    assert (Rotation.from_quat([o.x, o.y, o.z, o.w]) * rotation.inv()).magnitude() < 1e-7
    assert math.hypot(o.x, o.y, o.z, o.w) == pytest.approx(1.0)


@pytest.mark.parametrize("name", DRIVERS)
def test_messages_survive_serialisation(name: str) -> None:
    """Every field has the type that the middleware wants."""
    serialization = pytest.importorskip("rclpy.serialization")
    driver = driver_for(with_driver(name))
    message = driver.message(STILL, pose(), None, STAMP)
    data = serialization.serialize_message(message)
    assert serialization.deserialize_message(data, driver.message_type) == message


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_not_finite_is_refused(name: str, row: int, bad: float) -> None:
    motion = Motion(STILL.after_s, STILL.q.copy(), STILL.v, STILL.a)
    motion.q[row, 4] = bad
    with pytest.raises(Refused) as caught:
        driver_for(with_driver(name)).message(motion, pose(), None, STAMP)
    assert caught.value.reason == "nan"


@pytest.mark.parametrize("name", DRIVERS)
@pytest.mark.parametrize("count", [0, 6, 8])
def test_a_command_for_too_few_or_many_joints_is_refused(name: str, count: int) -> None:
    rows = np.zeros((2, count))
    with pytest.raises(Refused) as caught:
        driver_for(with_driver(name)).message(Motion(STILL.after_s, rows, rows, rows), pose(), None, STAMP)
    assert caught.value.reason == "incomplete"


def test_cartesian_pose_refuses_a_bad_pose() -> None:
    driver = driver_for(with_driver("cartesian_pose"))
    for wrong, reason in ((np.eye(3), "incomplete"), (np.full((4, 4), math.nan), "nan")):
        with pytest.raises(Refused) as caught:
            driver.message(STILL, wrong, None, STAMP)
        assert caught.value.reason == reason
