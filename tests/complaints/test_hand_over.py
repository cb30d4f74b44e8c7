"""Whoever takes over the arm (a policy after a pause, after home, after an emergency stop, after it was moved
by hand) takes it over where it is: the driver never sees a jump."""

from __future__ import annotations

import numpy as np
import pytest

from tests.safety.plant import Bench
from vla_ros.errors import Refused

# A tick's step at the arm's full velocity is 15 to 20 mrad; a jump to another pose is tenths of a radian.


def started(mode: str = "ensemble") -> Bench:
    bench = Bench(mode)
    bench.start()
    return bench


def follow(bench: Bench, offset: np.ndarray, ticks: int = 60) -> None:
    """Chunks that lead `offset` [7] rad away from where the arm is, one every 100 ms."""
    goal = bench.q + offset
    for _ in range(ticks // 10):
        way = np.clip(goal - bench.q, -0.05, 0.05)
        bench.add(bench.joint_chunk(bench.q + np.linspace(0, 1, 8)[:, None] * way))
        bench.tick(10)


def assert_no_jump(bench: Bench, sent_before: int, start: np.ndarray) -> None:
    sent = bench.sent[sent_before:]
    assert sent, "nothing was sent"
    velocity = np.array(bench.robot.arms["arm"].limits.velocity)
    period_s = bench.period_ns / 1e9
    assert np.max(np.abs(sent[0] - start)) <= 1e-3
    assert np.all(np.abs(np.diff([start, *sent], axis=0)) <= velocity * period_s + 1e-9)
    bench.assert_limits()


@pytest.mark.complaint("lerobot 3385")
def test_who_takes_over_elsewhere_is_approached_and_not_jumped_to() -> None:
    """There, taking over moves the follower to the leader's pose at once."""
    bench = started()
    where = bench.q.copy()
    elsewhere = where + np.array([0.3, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
    bench.add(bench.joint_chunk(np.tile(elsewhere, (16, 1))))
    bench.tick(100)
    assert_no_jump(bench, 0, where)
    assert bench.sent[-1] == pytest.approx(elsewhere, abs=0.01)


@pytest.mark.complaint("lerobot 3385")
def test_who_takes_over_too_far_away_is_refused_and_told_so() -> None:
    bench = started()
    elsewhere = bench.q + 0.6
    with pytest.raises(Refused, match="from the measured state; at most") as caught:
        bench.add(bench.joint_chunk(np.tile(elsewhere, (16, 1))))
    assert caught.value.reason == "far"
    bench.tick(50)
    assert not bench.sent


@pytest.mark.complaint("lerobot 3506")
@pytest.mark.parametrize("between", ["hold", "stop", "home", "estop", "reset"])
def test_every_change_of_hands_is_smooth(between: str) -> None:
    """policy, something else, policy again: within limits throughout, and the second time begins where the
    arm is."""
    bench = started()
    follow(bench, np.full(7, 0.2))
    if between == "hold":
        bench.tick(400)  # chunks run out: a hold
    elif between == "home":
        bench.request("home")
        bench.tick(600)
        bench.request("start")
    else:
        bench.request(between)
        bench.tick(150)
        if between == "estop":
            bench.request("reset")
            bench.tick(100)
        bench.request("start")
    assert bench.supervisor.source == "hold"
    bench.tick(2)
    before, where = len(bench.sent), bench.sent[-1]
    assert where == pytest.approx(bench.q, abs=2e-3)
    follow(bench, np.full(7, -0.2))
    assert bench.supervisor.source == "policy"
    assert_no_jump(bench, before, where)


@pytest.mark.complaint("lerobot 3723")
@pytest.mark.parametrize("pause", ["stop", "reset"])
def test_an_arm_that_was_moved_during_a_pause_is_taken_up_where_it_is(pause: str) -> None:
    """There, after a pause the arm snaps back to where it was held, and the correction starts elsewhere."""
    bench = started()
    follow(bench, np.full(7, 0.1))
    bench.request(pause)
    bench.tick(150)
    assert not bench.supervisor.live
    bench.q = bench.q - np.array([0.2, 0.1, 0.2, 0.1, 0.2, 0.1, 0.2])  # by hand
    where = bench.q.copy()
    bench.request("start")
    bench.tick(2)
    before = len(bench.sent)
    follow(bench, np.full(7, 0.05), ticks=20)
    assert bench.sent[before:], "the policy did not take up the arm"
    assert bench.sent[before] == pytest.approx(where, abs=2e-3)
    assert_no_jump(bench, before, where)
