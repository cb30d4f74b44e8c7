"""A base under the control loop's rules that does not do what it is sent, and what is not sent to it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.safety.base_bench import HARDEST, MS, ROBOT, Bench
from vla_ros.errors import Refused
from vla_ros.safety import modes
from vla_ros.safety.supervisor import Event


def test_a_base_that_does_not_follow_waits_for_a_new_start() -> None:
    """Its e-stop was pressed: when it is released, the base must not set off by itself."""
    bench = Bench()
    bench.drive()
    bench.obeys, bench.velocity = False, np.zeros(2)
    ticks = 0
    while bench.supervisor.mode == modes.POLICY:
        bench.add(0.4, -0.3)
        bench.tick()
        ticks += 1
    assert ticks <= 102 and bench.reasons()[-1] == "base_not_following"
    assert "its emergency stop pressed" in bench.supervisor.hold_reason
    bench.tick(100)
    assert bench.supervisor.mode == modes.IDLE and bench.sent[-1] is None
    bench.obeys = True
    with pytest.raises(Refused, match="mode 'idle'"):
        bench.add(0.4, -0.3)
    bench.request("start")
    bench.tick()
    bench.add(0.4, -0.3)
    bench.tick(40)
    assert bench.newest[0] == pytest.approx(0.4)
    bench.assert_limits()


def test_a_base_slows_down_in_ticks_whose_commands_are_not_sent() -> None:
    """Else it drove on, at what it was sent before, for as long as its driver has patience."""
    bench = Bench()
    bench.drive()
    bench.too_late = True
    bench.add(0.5, 0.5)
    bench.tick(5)
    assert bench.newest[0] == pytest.approx(0.4 - 5 * HARDEST[0] / ROBOT.control.rate_hz)
    assert bench.newest[1] / bench.newest[0] == pytest.approx(-0.3 / 0.4), "on its arc"
    bench.request("estop")
    bench.tick(40)
    assert not bench.newest.any() and np.abs(bench.velocity).max() < 0.02
    bench.assert_limits()
    bench.too_late = False
    bench.tick(5)
    assert not bench.newest.any()


def test_a_base_is_not_pushed_by_what_is_late_by_longer_than_its_driver_may_wait() -> None:
    bench = Bench()
    bench.drive()
    bench.tick()
    bench.supervisor.unsent(bench.steady_ns + 150 * MS)
    assert bench.supervisor.base_command is not None and bench.supervisor.base_command.sent[0] < 0.4
    bench.tick()
    bench.supervisor.unsent(bench.steady_ns + 400 * MS)
    assert bench.supervisor.base_command is None


@pytest.mark.parametrize("every", [45, 20, 5])
def test_late_ticks_do_not_excuse_a_base_that_does_not_follow(every: int) -> None:
    bench = Bench()
    bench.drive(0.4, 0.0)
    bench.obeys, bench.velocity = False, np.zeros(2)
    for tick in range(110):
        bench.too_late = tick % every == 0
        if tick % 25 == 0 and bench.supervisor.mode == modes.POLICY:
            bench.add(0.4, 0.0)
        bench.tick()
    assert bench.reasons()[-1] == "base_not_following"


@pytest.mark.parametrize("back", [0.0, -0.4])
def test_a_base_that_stands_is_noticed_though_the_policy_only_pulses(back: float) -> None:
    bench = Bench()
    bench.start()
    bench.obeys = False
    ticks = 0
    while bench.supervisor.mode in (modes.WAITING, modes.POLICY) and ticks < 200:
        if ticks % 20 == 0:
            bench.add(0.4 if ticks // 20 % 2 else back)
        bench.tick()
        ticks += 1
    assert ticks < 120 and bench.reasons()[-1] == "base_not_following"


def test_a_base_that_pulses_with_its_policy_is_not_accused() -> None:
    for share in (0.05, 0.3):  # a lag of 0.4 s, and of 0.06 s
        bench = Bench()
        bench.share = share
        bench.start()
        for tick in range(500):
            if tick % 20 == 0:
                bench.add(0.3 if tick // 20 % 2 else 0.0)
            bench.tick()
        assert bench.supervisor.mode == modes.POLICY and bench.reasons() == []


def rolls(bench: Bench, seconds: float = 3.0) -> list[Event]:
    """What is told of a base that goes on at 0.4 m/s whatever it is sent."""
    bench.tick(45)
    bench.events.clear()
    bench.obeys, bench.velocity = False, np.array([0.4, 0.0])
    bench.tick(round(seconds * ROBOT.control.rate_hz))
    return [event for event in bench.events if event.reason == "base_not_following"]


def test_a_base_that_rolls_while_the_policy_is_gone_is_given_up() -> None:
    bench = Bench()
    bench.drive(0.4, 0.0)
    bench.supervisor.lose("policy_gone", "no policy", bench.now_ns)
    bench.tick(45)
    bench.obeys, bench.velocity = False, np.array([0.4, 0.0])
    bench.tick(3)
    bench.add(0.2, 0.0)
    bench.tick(3)
    assert bench.supervisor.mode == modes.WAITING, "not taken up again while it rolls"
    told = rolls(bench)
    assert [event.kind for event in told] == ["fault"] and told[0].part == "base"
    assert "does it roll, or does its driver not listen?" in told[0].text
    assert bench.supervisor.mode == modes.STOPPING and not bench.newest.any()
    with pytest.raises(Refused, match="mode 'stopping'"):
        bench.add(0.4)


@pytest.mark.parametrize("what", ["stop", "estop"])
def test_a_base_that_rolls_though_it_was_stopped_is_told_once(what: str) -> None:
    bench = Bench()
    bench.drive(0.4, 0.0)
    bench.request(what)
    mode = bench.supervisor.mode
    told = rolls(bench, 10.0)
    assert [event.kind for event in told] == ["lost"] and told[0].part == "base"
    assert bench.supervisor.mode == mode and not bench.newest.any()
    assert bench.supervisor.hold_reason.startswith("base_not_following: the base is at 0.40 m/s")
    assert bench.supervisor.moves.startswith("the base moves at 0.40 m/s")
    bench.velocity = np.zeros(2)
    bench.tick(30)
    assert bench.supervisor.moves == ""


def test_a_base_is_taken_up_again_while_it_is_being_slowed_down() -> None:
    bench = Bench()
    bench.drive(0.4, 0.0)
    bench.supervisor.lose("policy_gone", "no policy", bench.now_ns)
    bench.tick(10)
    bench.add(0.4, 0.0)
    bench.tick(2)
    assert bench.supervisor.mode == modes.POLICY


def test_a_base_that_is_asked_for_less_than_its_wheels_turn_at_is_told_of_that() -> None:
    bench = Bench()
    bench.start()
    bench.obeys = False
    for _ in range(6):
        if bench.supervisor.mode in (modes.WAITING, modes.POLICY):
            bench.add(0.06)
        bench.tick(25)
    assert "too slow for its wheels to turn" in bench.supervisor.hold_reason
