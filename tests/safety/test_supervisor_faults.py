"""What the supervisor does when something around it fails, and what else it keeps arms from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.safety.plant import MS, Bench
from vla_ros.benchmarks._invariant_robot import Robot
from vla_ros.errors import Refused
from vla_ros.robot.channels import joint_channels
from vla_ros.robot.config import Box
from vla_ros.robot.geometry import Geometry
from vla_ros.safety import modes
from vla_ros.types import ActionChunk

DUAL = Path(__file__).parents[2] / "robot_configs" / "franka_dual.yaml"


def following(shift=(0.1, 0.0, 0.0), **safety: object) -> Bench:
    bench = Bench(**safety)
    bench.start()
    bench.add(bench.tool_chunk(shift, rows=20))
    bench.tick(60)
    assert bench.supervisor.mode == modes.POLICY
    return bench


def held_and_back(bench: Bench, reason: str) -> None:
    """It is in a hold for `reason`, comes to rest within limits, and goes on with the next chunk."""
    assert bench.supervisor.source == "hold"
    assert bench.supervisor.hold_reason.startswith(f"{reason}: ")
    assert reason in bench.reasons()
    bench.tick(40)
    assert bench.supervisor.at_rest
    bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.tick(12)
    assert bench.supervisor.mode == modes.POLICY
    assert bench.supervisor.hold_reason == ""
    bench.assert_limits()


@pytest.mark.parametrize("step_ms", [-10_000, 10_000, 300])
def test_a_clock_that_jumps_is_a_hold_from_which_new_chunks_lead_on(step_ms) -> None:
    bench = following()
    seen = bench.tool_chunk((0.1, 0, 0), rows=20)
    bench.now_ns += step_ms * MS
    bench.tick(2)
    with pytest.raises(Refused) as caught:
        bench.add(seen)
    assert caught.value.reason == ("old" if step_ms > 0 else "future")
    held_and_back(bench, "clock")


def test_a_clock_that_stands_still_is_a_hold_until_it_goes_on() -> None:
    bench = following()
    still_ns = bench.now_ns
    ticks = 0
    while bench.supervisor.source == "policy":
        bench.now_ns = still_ns - bench.period_ns
        bench.tick()
        ticks += 1
    assert 24 <= ticks <= 28
    for _ in range(5):
        bench.add(bench.tool_chunk())
        bench.now_ns = still_ns - bench.period_ns
        bench.tick()
    assert bench.supervisor.source == "hold", "chunks that come meanwhile are not taken up"
    held_and_back(bench, "clock")


def test_a_motion_begins_from_joint_states_since_the_start() -> None:
    """Where time stands still, joint states from before do not grow old, and the arm may have been moved."""
    bench = Bench()
    bench.tick(20)
    bench.states = False
    bench.request("start")
    bench.q = bench.q + np.array([0, 0, 0, 0, 0, 0, 0.3])
    bench.add(bench.tool_chunk((0.05, 0, 0)))
    assert bench.tick(5) is None
    assert bench.supervisor.mode == modes.WAITING
    bench.states = True
    bench.tick(12)
    assert bench.supervisor.mode == modes.POLICY
    ((found, *_), sent), *_ = bench.streams
    assert np.abs(sent[0] - found).max() < 0.02, "it begins where the arm is"
    bench.assert_limits()


@pytest.mark.parametrize("reason", ["policy_gone", "driver_gone"])
def test_what_the_node_finds_gone_is_a_hold(reason) -> None:
    bench = following()
    bench.supervisor.lose(reason, "as told", bench.now_ns)
    bench.tick(2)
    held_and_back(bench, reason)


def test_an_arm_goes_on_home_without_a_policy_but_not_without_a_driver() -> None:
    bench = Bench()
    bench.q = bench.q + 0.2
    bench.tick()
    bench.request("home")
    bench.tick(30)
    bench.supervisor.lose("policy_gone", "as told", bench.now_ns)
    bench.tick()
    assert bench.supervisor.mode == modes.HOMING
    bench.supervisor.lose("driver_gone", "as told", bench.now_ns)
    bench.tick()
    assert bench.supervisor.mode == modes.STOPPING


def test_what_is_lost_for_good_ends_the_stream_and_needs_a_new_start() -> None:
    bench = following()
    bench.supervisor.lose("driver_gone", "as told", bench.now_ns, for_good=True)
    assert bench.supervisor.mode == modes.STOPPING
    bench.tick(80)
    assert bench.supervisor.mode == modes.IDLE and not bench.supervisor.live
    assert bench.supervisor.hold_reason == "driver_gone: as told"
    with pytest.raises(Refused, match="idle"):
        bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.start()
    assert bench.supervisor.hold_reason == ""
    bench.supervisor.lose("driver_gone", "as told", bench.now_ns, for_good=True)
    assert bench.supervisor.mode == modes.STOPPING, "it is not taken up from a start before, either"
    bench.assert_limits()


def test_an_emergency_stop_s_stream_ends_where_something_is_lost_for_good() -> None:
    bench = following()
    bench.request("estop")
    bench.tick(80)
    assert bench.supervisor.live, "held until reset"
    bench.supervisor.lose("driver_gone", "as told", bench.now_ns, for_good=True)
    bench.tick(40)
    assert bench.supervisor.mode == modes.ESTOP and not bench.supervisor.live
    bench.assert_limits()


def test_an_encoder_s_glitch_is_counted_and_moves_nothing() -> None:
    bench = following()
    smooth = bench.q
    bench.q = bench.q + np.eye(7)[2]
    bench.tick()
    bench.q = smooth + (bench.q - smooth - np.eye(7)[2])
    bench.tick(3)
    assert bench.supervisor.mode == modes.POLICY
    assert bench.reasons().count("glitch") == 1
    bench.assert_limits()


def test_a_joint_state_that_stays_wrong_is_a_hold() -> None:
    bench = following()
    bench.follows = False
    bench.q = bench.q + np.eye(7)[2]
    bench.tick(13)
    assert bench.supervisor.source == "hold"
    assert bench.supervisor.hold_reason.startswith("joint_states: ")


def test_joint_states_that_settle_away_from_the_command_are_a_hold_until_they_agree() -> None:
    bench = following()
    bench.shown = np.eye(7)[3]
    sources = []
    for tick in range(200):
        if tick % 5 == 0:
            try:
                # A policy plans from where it sees the arm.
                seen = bench.q + bench.shown
                bench.add(bench.joint_chunk(np.linspace(seen, seen + 0.02, 8)))
            except Refused:
                pass
        bench.tick()
        sources.append(bench.supervisor.source)
    held = sources.index("hold")
    assert held <= 12
    assert set(sources[held:]) == {"hold"}
    text = "joint_states: arm: fr3_joint4 is 1.000 rad from its command"
    assert bench.supervisor.hold_reason.startswith(text)
    assert bench.supervisor.at_rest
    assert "not_following" not in bench.reasons()
    assert bench.reasons().count("joint_states") == 2, "once old, and once elsewhere"
    planned_from_there = bench.joint_chunk(np.tile(bench.q + 0.4 * bench.shown, (20, 1)))
    bench.tick()
    for shown in (np.zeros(7), bench.shown, np.zeros(7)):
        bench.shown = shown
        bench.tick(40)
    assert bench.reasons().count("joint_states") == 3, "elsewhere again"
    assert bench.supervisor.hold_reason.startswith(text), "until there is something to follow"
    with pytest.raises(Refused) as caught:
        bench.add(planned_from_there)
    assert caught.value.reason == "old"
    bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.tick(12)
    assert bench.supervisor.mode == modes.POLICY
    assert bench.supervisor.hold_reason == ""
    bench.assert_limits()


def test_an_arm_that_was_moved_while_it_was_held_is_taken_up_there_by_a_new_start() -> None:
    bench = following()
    bench.supervisor.lose("driver_gone", "as told", bench.now_ns)
    bench.tick(40)
    bench.follows = False
    bench.q = bench.q + 0.6 * np.eye(7)[0]
    bench.tick(40)
    for _ in range(2):
        bench.add(bench.tool_chunk((0.02, 0, 0)))
        bench.tick(20)
        assert bench.supervisor.mode == modes.WAITING
    assert "fr3_joint1 is 0.600 rad" in bench.supervisor.hold_reason
    bench.request("stop")
    bench.tick(40)
    bench.follows = True
    bench.request("start")
    bench.add(bench.tool_chunk((0.02, 0, 0)))
    bench.tick(20)
    assert bench.supervisor.mode == modes.POLICY
    bench.assert_limits()


def test_a_loop_that_was_stopped_goes_on_from_where_the_driver_has_come_to_rest() -> None:
    bench = following((0.3, 0.1, 0.0))
    rests = bench.commands[-1].motion.q[-1]
    bench.now_ns += 1000 * MS
    bench.steady_ns += 1000 * MS
    bench.q = rests
    command = bench.tick()
    assert "stalled" in bench.reasons()
    assert np.allclose(command.sent, rests, atol=1e-9)
    assert bench.supervisor.source == "hold"


def test_an_emergency_stop_says_why_until_it_is_reset() -> None:
    bench = following()
    bench.supervisor.request("estop", bench.now_ns, "the button on the wall")
    bench.supervisor.request("estop", bench.now_ns, "another one")
    bench.tick(30)
    assert bench.supervisor.estop_reason == "the button on the wall"
    bench.request("reset")
    assert bench.supervisor.estop_reason == ""


def test_targets_are_looked_up_as_far_ahead_as_commands_were_measured_to_act() -> None:
    bench = Bench()
    arm = bench.robot.arms["arm"].model_copy(update={"actuation_latency_ms": 0.0})
    bench.rebuild(bench.robot.model_copy(update={"arms": {"arm": arm}}))
    bench.start()
    assert bench.supervisor.latencies_ns == {"arm": 0}
    home = bench.q.copy()
    swing = np.array([0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.3])
    begin = bench.now_ns
    for _ in range(40):
        due = bench.now_ns + np.arange(1, 41, dtype=np.int64) * 20 * MS
        seconds = (due - begin)[:, None] / 1e9
        targets = home + swing * np.sin(2.0 * seconds)
        chunk = bench.joint_chunk(targets, 20)
        bench.add(dataclasses.replace(chunk, due_ns=due))
        command = bench.tick(20)
    # The plant covers a quarter of its distance per tick, a lag of 30 ms, from the tick after the command on.
    learnt = bench.supervisor.latencies_ns["arm"]
    assert 36 * MS < learnt < 44 * MS
    assert command.acts_at_ns - command.stamp_ns == learnt


def test_speed_grows_after_a_start_and_after_a_hold() -> None:
    def fastest(bench: Bench, since: int) -> np.ndarray:
        return np.abs(np.diff(bench.sent[since:], axis=0)).max(axis=1) / (bench.period_ns / 1e9)

    bench = Bench(soft_start_s=1.0)
    limit = max(bench.robot.arms["arm"].limits.velocity)
    bench.start()
    for _ in range(2):
        since = len(bench.sent)
        away = np.linspace(bench.q, bench.q + 0.45 * np.array([1, 0, -1, 0, 1, 0, 1]), 6)
        bench.add(bench.joint_chunk(away, 40))
        bench.tick(50)
        speeds = fastest(bench, since)
        # As a share of the limits no faster than it grows, and it does grow.
        assert np.all(speeds <= limit * (np.arange(len(speeds)) + 3) / 100)
        assert speeds.max() > 0.15
        assert any("soft_start" in command.interventions for command in bench.commands[-50:] if command)
        bench.tick(100)
        assert bench.supervisor.source == "hold"
    bench.assert_limits()


def test_links_stay_out_of_a_forbidden_box_and_come_back_out_of_its_corner() -> None:
    wall = Box(min=(0.48, -1.0, 0.2), max=(1.0, 1.0, 0.9))
    bench = Bench(forbidden=[wall])
    geometry = Geometry(bench.robot, {"arm": bench.kinematics})
    bench.start()
    for _ in range(12):
        bench.add(bench.tool_chunk((0.09, 0.0, 0.0), rows=5))
        bench.tick(25)
    distances = [geometry.distance(geometry.rules[0], q) for q in bench.sent]
    assert min(distances) > -0.002
    assert distances[-1] < 0.03, "it goes as far as it may"
    assert any("forbidden" in command.interventions for command in bench.commands if command)
    before = bench.pose()[0]
    bench.add(bench.tool_chunk((-0.09, 0.0, 0.0), rows=5))
    bench.tick(60)
    assert bench.pose()[0] < before - 0.05
    bench.assert_limits()


def test_from_inside_a_forbidden_box_there_is_only_a_way_out() -> None:
    wall = Box(min=(0.28, -1.0, 0.3), max=(1.0, 1.0, 0.9))
    bench = Bench(forbidden=[wall])
    geometry = Geometry(bench.robot, {"arm": bench.kinematics})
    bench.start()
    inside = geometry.distance(geometry.rules[0], bench.q)
    assert inside < -0.02
    bench.add(bench.tool_chunk((0.09, 0.0, 0.0), rows=5))
    bench.tick(60)
    assert geometry.distance(geometry.rules[0], bench.sent[-1]) > inside - 1e-4
    bench.add(bench.tool_chunk((-0.09, 0.0, 0.0), rows=5))
    bench.tick(60)
    assert geometry.distance(geometry.rules[0], bench.sent[-1]) > inside + 0.03


def both_arms(robot: Robot, towards: float) -> ActionChunk:
    """Both arms turn at their base, to each other for a positive angle, rad."""
    columns, parts = [], []
    for name, sign in (("left", -1.0), ("right", 1.0)):
        columns += joint_channels(name, 7)
        parts.append(np.linspace(robot.q[name], robot.q[name] + sign * towards * np.eye(7)[0], 11))
    due = robot.now_ns + np.arange(1, 12, dtype=np.int64) * 60 * MS
    return ActionChunk(tuple(columns), np.column_stack(parts), due, robot.now_ns)


def test_two_arms_stop_before_each_other_and_part_again() -> None:
    robot = Robot(DUAL, "newest")
    (rule,) = (rule for rule in robot.geometry.rules if rule.kind == "arm_distance")

    def distance() -> float:
        return robot.geometry.distance(
            rule, np.concatenate([robot.streams[name][-1].q[-1] for name in rule.arms])
        )

    robot.tick()
    robot.supervisor.request("start", robot.now_ns)
    found = []
    for _ in range(8):
        robot.supervisor.add_chunk(both_arms(robot, 0.3), robot.now_ns)
        for _ in range(40):
            robot.tick()
            if not robot.silent:
                found.append(distance())
    assert min(found) > 0.048
    assert found[-1] < 0.07, "they come as near as they may"
    assert robot.words["arm_distance"]
    robot.supervisor.add_chunk(both_arms(robot, -0.3), robot.now_ns)
    for _ in range(80):
        robot.tick()
    assert distance() > found[-1] + 0.05
    assert robot.complaints == []


def test_jerk_limited_targets_are_reached() -> None:
    bench = Bench()
    control = bench.robot.control.model_copy(update={"jerk_limited_targets": True})
    bench.rebuild(bench.robot.model_copy(update={"control": control}))
    bench.start()
    goal = bench.q + 0.2
    bench.add(bench.joint_chunk(np.linspace(bench.q, goal, 10), 50))
    bench.tick(100)
    assert np.allclose(bench.sent[-1], goal, atol=1e-3)
    bench.assert_limits()
