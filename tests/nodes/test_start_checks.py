"""Drivers' first steps wait for a robot that rests."""

from __future__ import annotations

import threading

import pytest

from tests.safety.plant import Bench
from tests.support import wait_for
from vla_ros.errors import VlaRosError
from vla_ros.nodes import start_checks
from vla_ros.nodes.requests import Requests
from vla_ros.nodes.start_checks import require_rest


def moving() -> Bench:
    bench = Bench()
    bench.start()
    bench.add(bench.tool_chunk((0.1, 0.0, 0.0), rows=20))
    bench.tick(60)
    return bench


def test_a_robot_that_follows_the_policy_is_not_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_checks, "REST_S", 0.05)
    with pytest.raises(VlaRosError, match=r"cannot start: .* in mode 'policy'; stop first"):
        require_rest(moving().supervisor, "start")


def test_a_robot_that_stops_is_waited_for() -> None:
    bench = moving()
    bench.request("stop")
    waiting = threading.Thread(target=require_rest, args=(bench.supervisor, "start"))
    waiting.start()
    assert waiting.is_alive()
    bench.tick(80)
    waiting.join(4.0)
    assert not waiting.is_alive() and not bench.supervisor.live


def test_a_check_changes_nothing_and_says_what_the_request_would() -> None:
    bench = moving()
    bench.request("estop")
    requests, said = Requests(), []

    def ask(only_check: bool) -> None:
        with pytest.raises(VlaRosError) as caught:
            requests.ask("start", only_check)
        said.append(str(caught.value))

    for only_check in (True, False):
        asking = threading.Thread(target=ask, args=(only_check,))
        asking.start()
        count = len(said)
        wait_for(lambda n=count: requests.answer(bench.supervisor, bench.now_ns) == [] and len(said) > n, 5.0)
        asking.join()
    assert said[0] == said[1] and "reset first" in said[0]
    bench.request("reset")
    bench.tick(80)
    check = requests.put("start", only_check=True)
    assert requests.answer(bench.supervisor, bench.now_ns) == []
    assert check.error is None and bench.supervisor.mode == "idle"
    requests.put("start")
    ((what, _),) = requests.answer(bench.supervisor, bench.now_ns)
    assert what == "start" and bench.supervisor.mode == "waiting"
