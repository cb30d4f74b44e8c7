"""A base under the control loop's rules: driven by chunks that name it, and otherwise brought to a stand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.safety.base_bench import ALOHA, ARMS, KINEMATICS, MS, ROBOT, Bench
from vla_ros.action.schedule import make_scheduler
from vla_ros.errors import Refused
from vla_ros.robot.channels import BASE_CHANNELS
from vla_ros.safety import modes
from vla_ros.safety.intake import channels_of, gripper_ranges
from vla_ros.safety.supervisor import Measured, Supervisor
from vla_ros.types import ActionChunk


def brought_to_a_stand(bench: Bench) -> None:
    """It slows down from the next tick on and is still sent zero when it stands."""
    before = np.abs(bench.newest)
    assert before[0] > 0.3
    bench.tick()
    assert (np.abs(bench.newest) < before).all()
    # 0.4 m/s at 0.5 m/s^2.
    bench.tick(41)
    assert not bench.newest.any()
    assert bench.sent[-1] is not None and bench.sent[-1].wanted.tolist() == [0.0, 0.0]
    bench.assert_limits()


def test_a_chunk_drives_the_base_within_its_limits() -> None:
    bench = Bench()
    bench.drive(0.4, -0.3)
    assert bench.newest.tolist() == pytest.approx([0.4, -0.3])
    command = bench.sent[-1]
    assert command is not None and command.source == "policy" and command.interventions == ()
    assert command.wanted.tolist() == pytest.approx([0.4, -0.3])
    assert bench.reasons() == []
    bench.assert_limits()


def test_velocities_beyond_the_limits_are_cut_off_and_told() -> None:
    bench = Bench()
    bench.drive(3.0, -0.3)
    command = bench.sent[-1]
    assert command is not None and command.sent.tolist() == pytest.approx([0.5, -0.3])
    assert command.wanted.tolist() == pytest.approx([3.0, -0.3])
    assert command.interventions == ("velocity",)
    told = {word for each in bench.sent if each is not None for word in each.interventions}
    assert told == {"velocity", "acceleration"}


@pytest.mark.parametrize("what", ["stop", "estop", "home", "reset"])
def test_whatever_ends_the_policy_s_motion_brings_the_base_to_a_stand(what: str) -> None:
    bench = Bench()
    bench.drive()
    bench.request(what)
    brought_to_a_stand(bench)
    if what == "estop":
        bench.tick(200)
        assert bench.supervisor.mode == modes.ESTOP and not bench.newest.any(), "and is held there"


def test_a_stop_ends_the_stream_only_when_the_base_stands() -> None:
    bench = Bench()
    bench.drive()
    bench.request("stop")
    moving = 0
    while bench.supervisor.mode != modes.IDLE:
        bench.tick()
        moving += bool(bench.sent[-1] is not None and bench.sent[-1].sent.any())
    assert moving == 39, "0.4 m/s at 0.5 m/s^2 are 40 ticks, and the last is zero"
    zeros = [each for each in bench.sent[-21:] if each is not None and not each.sent.any()]
    assert len(zeros) == 21
    bench.tick(3)
    assert bench.sent[-3:] == [None] * 3


def test_a_base_that_rolls_on_is_sent_zero_until_it_stands() -> None:
    bench = Bench()
    bench.drive()
    bench.request("stop")
    bench.tick(20)
    bench.obeys, bench.velocity = False, np.array([0.3, 0.0])
    bench.tick(200)
    assert bench.supervisor.mode == modes.STOPPING and not bench.newest.any()
    bench.velocity = np.zeros(2)
    bench.tick(30)
    assert bench.supervisor.mode == modes.IDLE and bench.sent[-1] is None


def test_a_base_without_odometry_is_sent_zero_for_as_long_as_arms_are() -> None:
    bench = Bench()
    bench.drive()
    bench.odometry = False
    bench.request("stop")
    bench.tick(100)
    assert bench.supervisor.mode == modes.IDLE


def test_a_chunk_that_does_not_name_the_base_brings_it_to_a_stand_and_the_arms_go_on() -> None:
    bench = Bench()
    bench.drive()
    bench.add()
    brought_to_a_stand(bench)
    assert bench.supervisor.mode == modes.POLICY


def test_the_base_does_not_drive_on_when_the_chunks_are_at_their_end() -> None:
    """The arms stay at the last target until chunks are missed; a velocity is not a place to stay at."""
    bench = Bench()
    bench.drive()
    while "horizon" not in bench.reasons():
        assert bench.newest[0] == pytest.approx(0.4)
        bench.tick()
    assert bench.supervisor.mode == modes.POLICY and bench.newest[0] < 0.4
    bench.add(0.4, -0.3)
    bench.tick(10)
    assert bench.newest[0] == pytest.approx(0.4), "it goes on where chunks do"
    bench.tick(45)
    brought_to_a_stand(bench)


@pytest.mark.parametrize("sensor", ["odometry", "states"])
def test_what_goes_silent_brings_arms_and_base_to_a_hold_and_goes_on_when_it_is_back(sensor: str) -> None:
    bench = Bench()
    bench.drive()
    setattr(bench, sensor, False)
    word = {"odometry": "odometry", "states": "joint_states"}[sensor]
    while bench.supervisor.mode == modes.POLICY:
        bench.add(0.4, -0.3)
        bench.tick()
    assert bench.reasons() == [word]
    assert bench.supervisor.hold_reason.startswith(f"{word}: ")
    bench.tick(50)
    assert not bench.newest.any()
    setattr(bench, sensor, True)
    bench.tick(2)
    for _ in range(2):
        bench.add(0.4, -0.3)
        bench.tick(40)
    assert bench.supervisor.mode == modes.POLICY and bench.newest[0] == pytest.approx(0.4)
    bench.assert_limits()


def test_start_and_home_need_odometry() -> None:
    bench = Bench()
    bench.odometry = False
    bench.tick(10)
    for what in ("start", "home"):
        with pytest.raises(Refused, match="no odometry came yet; is /mobile_base/odom") as caught:
            bench.request(what)
        assert caught.value.reason == "odometry"


def test_start_and_home_are_refused_while_somebody_else_moves_the_base() -> None:
    bench = Bench()
    bench.pushed = np.array([0.2, 0.0])
    bench.tick(20)
    for what in ("start", "home"):
        with pytest.raises(Refused, match=r"cannot \w+: the base moves at 0.20 m/s, 0.00 rad/s") as caught:
            bench.request(what)
        assert caught.value.reason == "base_moves"
    bench.pushed = np.zeros(2)
    bench.tick(20)
    bench.request("home")
    bench.tick(2)
    assert not bench.newest.any()


def test_nothing_is_taken_up_while_somebody_else_moves_the_base() -> None:
    bench = Bench()
    bench.start()
    bench.pushed = np.array([0.2, 0.0])
    bench.tick(5)
    for _ in range(20):
        bench.add(0.4)
        bench.tick(2)
    assert bench.supervisor.mode == modes.WAITING and set(bench.sent) == {None}
    assert bench.reasons() == ["base_moves"], "told once"
    assert bench.supervisor.hold_reason.startswith("base_moves: the base moves at 0.20 m/s")
    bench.pushed = np.zeros(2)
    bench.tick(20)
    bench.add(0.4)
    bench.tick(20)
    assert bench.supervisor.mode == modes.POLICY
    bench.assert_limits()


def test_nothing_is_taken_up_from_odometry_of_before_the_start() -> None:
    bench = Bench()
    bench.tick(10)
    bench.odometry = False
    bench.request("start")
    for _ in range(5):
        bench.add(0.4)
        bench.tick()
    assert bench.supervisor.mode == modes.WAITING
    bench.odometry = True
    bench.tick()
    assert bench.supervisor.mode == modes.POLICY


def test_a_loop_that_stood_still_brakes_from_where_the_base_is() -> None:
    bench = Bench()
    bench.drive()
    bench.now_ns += 600 * MS
    bench.steady_ns += 600 * MS
    bench.velocity = np.array([0.1, 0.0])  # its driver has begun to stop it
    bench.tick()
    assert bench.supervisor.mode == modes.WAITING and "stalled" in bench.reasons()
    assert 0.08 < bench.newest[0] < 0.1 and bench.newest[1] == 0.0


def test_chunks_name_both_velocities_or_none_and_only_of_a_robot_that_has_a_base() -> None:
    assert set(BASE_CHANNELS) <= channels_of(ROBOT)
    assert not set(BASE_CHANNELS) & channels_of(ALOHA)
    bench = Bench()
    bench.start()
    with pytest.raises(Refused, match=r"has \['base/vx'\] but not \['base/wz'\]"):
        bench.add(0.4, 0.0, channels=(*ARMS, "base/vx"))
    plain = Supervisor(ALOHA, KINEMATICS, make_scheduler("newest", gripper_ranges(ALOHA)))
    states = {name: Measured(q, bench.now_ns) for name, q in bench.q.items()}
    assert plain.tick(bench.now_ns, states, bench.steady_ns) == {}
    plain.request("start", bench.now_ns)
    row = np.concatenate([*bench.q.values(), [0.1, 0.0]])
    due = bench.now_ns + np.arange(1, 4, dtype=np.int64) * 100 * MS
    chunk = ActionChunk((*ARMS, *BASE_CHANNELS), np.tile(row, (3, 1)), due, bench.now_ns)
    with pytest.raises(Refused, match="robot 'aloha' has no base") as caught:
        plain.add_chunk(chunk, bench.now_ns)
    assert caught.value.reason == "channels"


def test_a_robot_may_be_asked_to_drive_with_its_arms_held() -> None:
    bench = Bench()
    bench.start()
    names = BASE_CHANNELS
    due = bench.now_ns + np.arange(1, 11, dtype=np.int64) * 100 * MS
    chunk = ActionChunk(names, np.tile([0.2, 0.1], (10, 1)), due, bench.now_ns)
    bench.supervisor.add_chunk(chunk, bench.now_ns)
    bench.tick(40)
    assert bench.newest.tolist() == pytest.approx([0.2, 0.1])
