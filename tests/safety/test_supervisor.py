import dataclasses

import numpy as np
import pytest

from tests.safety.plant import MS, TOOL, Bench
from vla_ros.errors import Refused
from vla_ros.safety import modes
from vla_ros.safety.supervisor import channels_of


def following(shift=(0.08, 0.0, 0.0)) -> Bench:
    bench = Bench()
    bench.start()
    bench.add(bench.tool_chunk(shift))
    bench.tick(30)
    assert bench.supervisor.source == "policy"
    return bench


def test_nothing_is_sent_before_there_was_ever_a_target() -> None:
    bench = Bench()
    bench.tick(20)
    bench.request("start")
    bench.tick(200)
    assert bench.sent == []
    assert bench.supervisor.source == "hold"


def test_a_chunk_is_followed_to_its_end_within_limits() -> None:
    bench = Bench()
    bench.start()
    goal = bench.pose()[:3] + np.array([0.05, 0.03, -0.04])
    bench.add(bench.tool_chunk((0.05, 0.03, -0.04)))
    bench.tick(110)
    assert np.linalg.norm(bench.pose()[:3] - goal) < 1e-3
    assert bench.commands[-1].source == "policy"
    assert bench.commands[-1].gripper == 0.08
    bench.assert_limits()


def test_the_command_is_what_is_due_when_it_acts() -> None:
    bench = Bench()
    bench.start()
    chunk = bench.tool_chunk((0.08, 0.0, 0.0))
    bench.add(chunk)
    command = bench.tick(70)
    sent = bench.kinematics.forward(command.sent)[:3, 3]
    along = np.interp(command.acts_at_ns, chunk.due_ns, chunk.targets[:, 0])
    assert command.acts_at_ns - command.stamp_ns == bench.supervisor.latencies_ns["arm"]
    assert sent[0] == pytest.approx(along, abs=1e-4)


def test_chunks_that_stop_coming_end_in_a_hold_and_not_before_the_last_due_step() -> None:
    bench = following()
    end = int(bench.supervisor.last_due_ns)
    timeout = bench.robot.safety.chunk_timeout_ms * MS
    while bench.supervisor.source == "policy":
        command = bench.tick()
    # What is sent is reached one period before what was asked for last is due.
    late = command.acts_at_ns + bench.period_ns - end - timeout
    assert 0 < late <= bench.period_ns
    assert bench.reasons()[-2:] == ["horizon", "stale_chunk"]
    resting = bench.tick(50).sent
    assert np.array_equal(bench.tick(50).sent, resting), "it goes on sending where it rests"
    bench.assert_limits()


def test_a_new_chunk_ends_the_hold_only_near_the_measured_state() -> None:
    bench = following()
    bench.tick(300)
    assert bench.supervisor.mode == modes.WAITING
    with pytest.raises(Refused) as caught:
        bench.add(bench.tool_chunk((3.0, 0, 0), rows=3))
    assert caught.value.reason == "far"
    bench.tick(20)
    assert bench.supervisor.mode == modes.WAITING
    bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.tick(20)
    assert bench.supervisor.mode == modes.POLICY
    bench.assert_limits()


@pytest.mark.parametrize("prepare", ["start", "reset", "home"])
def test_a_first_target_far_away_is_refused_and_nothing_moves(prepare) -> None:
    bench = Bench()
    bench.start()
    if prepare == "reset":
        bench.add(bench.tool_chunk())
        bench.tick(50)
        bench.request("reset")
        bench.tick(100)
        bench.request("start")
    elif prepare == "home":
        bench.request("home")
        bench.tick(200)
        bench.request("start")
    sent = len(bench.sent)
    with pytest.raises(Refused) as caught:
        bench.add(bench.tool_chunk((0.9, 0.0, 0.0), rows=2))
    assert caught.value.reason == "far"
    assert "safety.first_command_position" in str(caught.value)
    bench.tick(100)
    assert len(bench.sent) == sent


def test_a_far_joint_target_and_a_far_rotation_are_refused() -> None:
    bench = Bench()
    bench.start()
    with pytest.raises(Refused, match="joint 3 of the target"):
        bench.add(bench.joint_chunk(np.tile(bench.q + np.eye(7)[2], (3, 1))))
    chunk = bench.tool_chunk()
    chunk.targets[:, 3:7] = [0, 0, 0, 1]
    with pytest.raises(Refused, match="rad from the measured state"):
        bench.add(chunk)


def test_a_chunk_that_jumps_while_following_is_refused_and_the_elder_goes_on() -> None:
    bench = following()
    with pytest.raises(Refused) as caught:
        bench.add(bench.tool_chunk((0, 4.0, 0), rows=4))
    assert caught.value.reason == "far"
    assert "command being sent" in str(caught.value)
    bench.tick(10)
    assert bench.supervisor.source == "policy"


def test_a_target_that_was_near_on_arrival_but_is_far_when_due_is_refused() -> None:
    bench = Bench()
    bench.start()
    chunk = bench.tool_chunk(rows=4, dt_ms=1000)
    bench.add(chunk)
    for _ in range(150):
        bench.q = bench.q + 0.002
        bench.tick()
    assert bench.sent == []
    assert bench.reasons() == ["far"]


def test_joint_states_that_stop_end_in_a_hold_within_limits() -> None:
    bench = following((0.3, 0.1, 0))
    bench.states = False
    bench.tick(9)
    assert bench.supervisor.source == "policy"
    bench.tick(4)
    assert bench.supervisor.source == "hold"
    assert bench.reasons()[-1] == "joint_states"
    bench.tick(60)
    assert bench.supervisor.at_rest
    bench.assert_limits()


def test_start_and_home_need_joint_states() -> None:
    bench = Bench()
    for what in ("start", "home"):
        with pytest.raises(Refused, match="no joint states came yet") as caught:
            bench.request(what)
        assert caught.value.reason == "joint_states"
    bench.tick()
    bench.states = False
    bench.tick(20)
    with pytest.raises(Refused, match="200 ms old"):
        bench.request("start")


def test_stamps_of_another_clock_are_not_taken_for_fresh() -> None:
    bench = Bench()
    bench.states = False
    bench.states_stamp_ns = bench.now_ns + 3600 * 1_000_000_000
    bench.tick()
    with pytest.raises(Refused):
        bench.request("start")


def test_without_a_clock_the_clock_is_asked_for() -> None:
    bench = Bench()
    bench.states = False
    bench.now_ns = -bench.period_ns
    bench.tick()
    with pytest.raises(Refused, match="nobody publishes /clock"):
        bench.request("start")


def test_estop_is_latched_until_reset_and_brakes_within_limits() -> None:
    bench = following((0.3, 0, 0))
    bench.request("estop")
    bench.tick()
    assert bench.commands[-1].source == "estop"
    for what in ("start", "home"):
        with pytest.raises(Refused, match="call reset first"):
            bench.request(what)
    with pytest.raises(Refused) as caught:
        bench.add(bench.tool_chunk())
    assert caught.value.reason == "not_started"
    resting = bench.tick(80).sent
    assert np.array_equal(bench.tick(100).sent, resting)
    bench.request("reset")
    bench.tick(50)
    assert bench.supervisor.mode == modes.IDLE
    bench.request("start")
    bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.tick(20)
    assert bench.supervisor.source == "policy"
    bench.assert_limits()


def test_an_arm_that_does_not_follow_is_not_driven_away_from() -> None:
    bench = Bench(follows=False)
    bench.start()
    for _ in range(40):
        try:
            bench.add(bench.joint_chunk(np.linspace(bench.q, bench.q + 0.9, 10)))
        except Refused:
            break
        bench.tick(80)
    assert "not_following" in bench.reasons()
    assert np.max(np.abs(bench.sent[-1] - bench.q)) < 0.65
    bench.tick(50)
    assert bench.supervisor.at_rest
    assert bench.supervisor.mode == modes.ESTOP
    assert bench.supervisor.estop_reason.startswith("not_following: arm: fr3_joint")
    # A driver that listens again is not told to go where the arm is not.
    assert bench.commands[-1] is None
    with pytest.raises(Refused, match="call reset first"):
        bench.request("start")


def test_stop_brakes_then_falls_silent_and_a_restart_shows_the_driver_no_step() -> None:
    bench = following((0.3, 0, 0))
    bench.request("stop")
    bench.tick(100)
    assert bench.commands[-1] is None
    assert bench.supervisor.mode == modes.IDLE
    bench.request("start")
    bench.add(bench.tool_chunk((0.05, 0, 0)))
    bench.tick(50)
    assert bench.supervisor.source == "policy"
    bench.assert_limits()


def test_after_a_reset_the_command_begins_at_the_measured_state() -> None:
    bench = following()
    bench.request("stop")
    bench.tick(100)
    bench.q = bench.q + 0.015
    bench.request("reset")
    bench.request("start")
    before = len(bench.sent)
    bench.add(bench.tool_chunk())
    bench.tick(30)
    assert np.allclose(bench.sent[before], bench.q, atol=2e-3)


def test_home_goes_home_slowly_and_then_rests() -> None:
    bench = Bench()
    bench.q = bench.q + np.array([0.3, 0.2, -0.2, 0.1, 0.2, 0.1, -0.4])
    bench.tick(7)
    bench.request("home")
    bench.tick()
    assert bench.commands[-1].source == "home"
    bench.tick(400)
    assert np.allclose(bench.q, bench.robot.arms["arm"].home, atol=5e-3)
    assert bench.supervisor.mode == modes.IDLE
    speed = np.abs(np.diff(bench.sent, axis=0)) * 100
    assert np.all(speed.max(axis=0) < 0.4 * np.array(bench.robot.arms["arm"].limits.velocity))
    bench.assert_limits()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda b: b.request("stop"), "not_started"),
        (lambda b: b.request("start"), "old"),
    ],
)
def test_chunks_from_before_a_start_or_without_one_are_refused(change, reason) -> None:
    bench = Bench()
    bench.start()
    chunk = bench.tool_chunk(rows=20)
    bench.tick(5)
    change(bench)
    with pytest.raises(Refused) as caught:
        bench.add(chunk)
    assert caught.value.reason == reason


def test_a_chunk_past_due_or_from_the_future_or_half_an_arm_is_refused() -> None:
    bench = Bench()
    bench.start()
    chunk = bench.tool_chunk(rows=3)
    ahead = dataclasses.replace(chunk, stamp_ns=chunk.stamp_ns + 10**10, due_ns=chunk.due_ns + 10**10)
    half = dataclasses.replace(chunk, channels=TOOL[:5], targets=chunk.targets[:, :5])
    bench.tick(40)
    for bad, reason in ((chunk, "late"), (ahead, "future"), (half, "late")):
        with pytest.raises(Refused) as caught:
            bench.add(bad)
        assert caught.value.reason == reason
    fresh = bench.tool_chunk()
    with pytest.raises(Refused) as caught:
        bench.add(dataclasses.replace(fresh, channels=TOOL[:5], targets=fresh.targets[:, :5]))
    assert caught.value.reason == "channels"


def test_workspace_keeps_the_tool_inside_and_says_so() -> None:
    bench = Bench()
    bench.start()
    box = bench.robot.safety.workspace
    for _ in range(60):
        bench.add(bench.tool_chunk((0.0, 0.0, -0.09), rows=3))
        bench.tick(25)
    tool = np.array([bench.kinematics.forward(q)[:3, 3] for q in bench.sent])
    assert tool[:, 2].min() > box.min[2] - 0.005
    assert tool[-1, 2] == pytest.approx(box.min[2], abs=0.002)
    assert "workspace" in bench.commands[-1].interventions
    bench.assert_limits()


def test_tool_speed_is_kept() -> None:
    bench = Bench()
    bench.start()
    safety = bench.robot.safety
    for sign in (1, -1, 1, -1):
        bench.add(bench.tool_chunk((0.0, sign * 0.4, 0.0), rows=6))
        bench.tick(70)
    tool = np.array([bench.kinematics.forward(q)[:3, 3] for q in bench.sent])
    speed = np.linalg.norm(np.diff(tool, axis=0), axis=1) / 0.01
    assert speed.max() > 0.5 * safety.tool_speed
    assert speed.max() < safety.tool_speed
    bench.assert_limits()


def test_a_clock_that_jumps_back_is_a_hold_and_not_a_jump() -> None:
    bench = following()
    bench.now_ns -= 10_000_000_000
    bench.tick(5)
    assert bench.supervisor.source == "hold"
    assert "clock" in bench.reasons()
    bench.tick(100)
    bench.add(bench.tool_chunk())
    bench.tick(20)
    assert bench.supervisor.source == "policy"
    bench.assert_limits()


def test_every_mode_has_a_source_and_every_transition_ends_in_a_mode() -> None:
    assert set(modes.SOURCES) == set(modes.TRANSITIONS)
    for events in modes.TRANSITIONS.values():
        assert set(events.values()) <= set(modes.TRANSITIONS)
        assert {"stop", "reset", "estop"} <= set(events)


def test_channels_of_a_robot() -> None:
    assert channels_of(Bench().robot) == {*TOOL, *(f"arm/joint{i}" for i in range(1, 8))}
