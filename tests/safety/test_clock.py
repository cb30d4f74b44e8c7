import pytest

from vla_ros.safety.clock import ClockWatch

MS = 1_000_000
START = 1_700_000_000_000 * MS


def look(ticks: list[tuple[float, float]]) -> list[str]:
    """What is found at each tick, from how far (ms) the ROS clock and the monotonic one went on before it."""
    watch = ClockWatch()
    now, steady = START, 77 * MS
    found = [watch.look(now, steady)]
    for ros_ms, steady_ms in ticks:
        now += round(ros_ms * MS)
        steady += round(steady_ms * MS)
        found.append(watch.look(now, steady))
    return found


def test_an_even_a_jittering_and_a_slowed_clock_are_fine() -> None:
    assert not any(look([(10, 10)] * 50))
    assert not any(look([(0, 10), (20, 10)] * 50))
    assert not any(look([(2, 10)] * 500)), "simulated time at a fifth of real time"
    assert not any(look([(100, 10), *[(0, 10)] * 9] * 10)), "/clock at 10 Hz"


def test_a_loop_that_was_stopped_is_not_a_clock_that_jumped() -> None:
    assert not any(look([(10, 10), (5_000, 5_000), (10, 10)]))


@pytest.mark.parametrize(
    ("step", "says"), [(10_000, "ahead by 9.99"), (-10_000, "back by 10.000"), (150, "ahead")]
)
def test_a_jump_is_found_at_once_and_told_once(step, says) -> None:
    found = look([(10, 10), (step, 10), (10, 10)])
    assert says in found[2]
    assert [bool(text) for text in found] == [False, False, True, False]


def test_a_clock_that_stands_still_is_found_and_then_told_until_it_goes_on() -> None:
    found = look([(10, 10), *[(0, 10)] * 40, (10, 10)])
    first = next(index for index, text in enumerate(found) if text)
    assert 250 < (first - 1) * 10 <= 270
    assert all("stood still" in text for text in found[first:-1])
    assert found[-1] == ""
