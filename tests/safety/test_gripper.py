import itertools
import math

import pytest

from tests.safety.plant import FILE
from vla_ros.robot.config_drivers import GripperInterbotixDriver
from vla_ros.robot.load import load_robot
from vla_ros.safety.gripper import GripperLimiter

DT = 0.01


def limiter() -> GripperLimiter:
    gripper = load_robot(FILE).arms["arm"].gripper
    assert gripper is not None
    return GripperLimiter(gripper, DT)


def test_the_width_moves_at_the_gripper_s_speed_and_within_its_range() -> None:
    gripper = limiter()
    assert gripper.follow(0.08) == ()
    widths = []
    for _ in range(100):
        words = gripper.follow(-0.5)
        widths.append(gripper.width)
    assert words == ("gripper_range",)
    assert widths[0] == pytest.approx(0.08 - 0.1 * DT)
    assert all(abs(b - a) <= 0.1 * DT + 1e-12 for a, b in itertools.pairwise(widths))
    assert widths[-1] == 0.0
    assert gripper.follow(0.05) == ("gripper_speed",)


def test_a_stream_begins_with_the_first_width_and_forgets() -> None:
    gripper = limiter()
    assert gripper.width is None
    gripper.follow(5.0)
    assert gripper.width == 0.08
    gripper.forget()
    gripper.follow(0.01)
    assert gripper.width == 0.01


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_moves_nothing(bad) -> None:
    gripper = limiter()
    assert gripper.follow(bad) == ("nan",)
    assert gripper.width is None
    gripper.follow(0.03)
    assert gripper.follow(bad) == ("nan",)
    assert gripper.width == 0.03


def streamed() -> GripperLimiter:
    gripper = load_robot(FILE).arms["arm"].gripper
    assert gripper is not None
    single = GripperInterbotixDriver(topic="/single")
    return GripperLimiter(gripper.model_copy(update={"action": None, "interbotix": single}), DT)


def test_a_stream_of_widths_begins_where_the_gripper_is() -> None:
    """Its motor goes to a goal as fast as it can: the first one must not be the policy's."""
    gripper = streamed()
    assert gripper.follow(0.0) == ("gripper_unknown",)
    assert gripper.width is None
    gripper.begin(None)
    gripper.begin(math.nan)
    assert gripper.width is None
    gripper.begin(0.06)
    assert gripper.width == 0.06
    assert gripper.follow(0.0) == ("gripper_speed",)
    assert gripper.width == pytest.approx(0.06 - 0.1 * DT)
    gripper.begin(0.01)
    assert gripper.width == pytest.approx(0.06 - 0.1 * DT), "what was sent goes on, whatever is measured"


def test_a_tick_that_was_not_sent_is_taken_back_whole() -> None:
    gripper = streamed()
    gripper.tick()
    gripper.begin(0.06)
    gripper.undo()
    assert gripper.width is None, "it begins where it is by then"
    gripper.tick()
    gripper.begin(0.05)
    gripper.follow(0.0)
    gripper.tick()
    before = gripper.width
    for _ in range(3):
        gripper.tick()
        gripper.follow(0.0)
        gripper.undo()
        assert gripper.width == before
    gripper.tick()
    gripper.forget()
    gripper.undo()
    assert gripper.width is None


def test_a_gripper_measured_beyond_its_range_is_begun_at_the_range_s_end() -> None:
    gripper = streamed()
    gripper.begin(0.0815)
    assert gripper.width == 0.08
