"""What integrators get wrong about a mobile base, in the file and on the running robot: each has a message
that tells the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.errors import ConfigError
from vla_ros.robot.config import MobileBase
from vla_ros.robot.graph_check import ODOMETRY, Endpoint, Seen, inputs, wanted_line
from vla_ros.robot.load import load_robot
from vla_ros.robot.measured_check import odometry_line
from vla_ros.robot.topics import command_topics

CONFIGS = Path(__file__).parents[2] / "robot_configs"
BASE: dict[str, Any] = {
    "odometry": {"topic": "/base/odom", "rate_hz": 20, "max_age_ms": 200},
    "limits": {"velocity": [0.5, 0.8], "acceleration": [0.5, 1.0]},
    "twist": {"topic": "/base/cmd_vel", "torque_service": "/base/motors"},
}


def mobile(folder: Path, base: dict[str, Any], **more: Any) -> Path:
    """ALOHA on such a base."""
    file = folder / "mobile.yaml"
    content = {"extends": str(CONFIGS / "aloha.yaml"), "name": "mobile", "base": base, **more}
    file.write_text(yaml.safe_dump(content))
    return file


def base(**changes: dict[str, Any]) -> dict[str, Any]:
    return {key: {**value, **changes.get(key, {})} for key, value in BASE.items()}


def refusal(folder: Path, made: dict[str, Any], **more: Any) -> list[str]:
    """The lines of the refusal, each from its key on."""
    with pytest.raises(ConfigError) as caught:
        load_robot(mobile(folder, made, **more))
    return [line.split(": ", 1)[1] for line in str(caught.value).split("\n")]


def test_a_base_loads_and_is_commanded_on_its_topic(tmp_path: Path) -> None:
    robot = load_robot(mobile(tmp_path, BASE))
    assert robot.base == MobileBase.model_validate(BASE)
    assert command_topics(robot)[-1] == "/base/cmd_vel" and len(command_topics(robot)) == 5


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"limits": {"velocity": [0.5, 45.0]}},
            "base.limits.velocity[1]: found 45.0; expected a number above 0 up to 6.2832 in rad/s; write "
            "rad/s, not degrees/s: 45 deg/s is 0.7854 rad/s",
        ),
        (
            {"limits": {"velocity": [500.0, 0.8]}},
            "base.limits.velocity[0]: found 500.0; expected a number above 0 up to 5 in m/s; write m/s, not "
            "mm/s: 500 mm/s is 0.5 m/s",
        ),
        (
            {"limits": {"acceleration": [500.0, 1.0]}},
            "base.limits.acceleration[0]: found 500.0; expected a number above 0 up to 20 in m/s^2; write a "
            "value in that range",
        ),
        (
            {"limits": {"acceleration": [0.05, 1.0]}},
            "base.limits.acceleration[0]: found 0.05 m/s^2: to stop from 0.5 m/s takes 10 s, and 2.5 m; "
            "expected at least 0.333 m/s^2, for a stop within 1.5 s; raise it, or lower the velocity",
        ),
        (
            {"limits": {"velocity": [1.0, 0.8], "acceleration": [0.25, 1.0]}},
            "base.limits.acceleration[0]: found 0.25 m/s^2: to stop from 1 m/s takes 4 s, and 2 m; "
            "expected at least 0.667 m/s^2, for a stop within 1.5 s; raise it, or lower the velocity",
        ),
        (
            {"limits": {"velocity": [0.5, -0.8]}},
            "base.limits.velocity[1]: found -0.8; expected a number above 0 up to 6.2832 in rad/s; write a "
            "value in that range",
        ),
        (
            {"limits": {"velocity": [0.5]}},
            "base.limits.velocity: found 1 values; expected a list of 2, each a number above 0 up to 5 in "
            "m/s; give that many values",
        ),
        (
            {"odometry": {"max_age_ms": 40}},
            "base.odometry.max_age_ms: found 40 ms; expected at least the period of rate_hz = 20, 50 ms; "
            "write more than one period",
        ),
        (
            {"odometry": {"topic": "/base/cmd_vel"}},
            "base.odometry.topic: found /base/cmd_vel, which is called like commands; expected the topic "
            "that the base publishes its odometry on, such as /odom; name that one; base.twist.topic is the "
            "place for this one",
        ),
        (
            {"twist": {"topic": "/base/odom"}},
            "base.twist.topic: found /base/odom, which is called like odometry; expected the topic that the "
            "base takes velocities on, such as /cmd_vel; name that one; base.odometry.topic is the place for "
            "this one",
        ),
        (
            {"twist": {"topic": "/follower_left/joint_states"}},
            "base.twist.topic: found /follower_left/joint_states for base commands, which "
            "arms.left.states.topic names for joint states; expected one topic for one thing; correct one of "
            "the two",
        ),
        (
            {"twist": {"torque": "/base/motors"}},
            "base.twist.torque: found the unknown key 'torque'; expected one of topic, torque_service; did "
            "you mean 'torque_service'?",
        ),
    ],
)
def test_each_mistake_is_told_with_its_fix(
    changes: dict[str, dict[str, Any]], line: str, tmp_path: Path
) -> None:
    assert line in refusal(tmp_path, base(**changes))


def test_odometry_and_commands_taken_for_each_other_are_both_told(tmp_path: Path) -> None:
    lines = refusal(
        tmp_path, base(odometry={"topic": "/mobile_base/cmd_vel"}, twist={"topic": "/mobile_base/odom"})
    )
    assert [line.split(":")[0] for line in lines] == ["base.odometry.topic", "base.twist.topic"]


def test_no_arm_is_called_base_where_there_is_a_base(tmp_path: Path) -> None:
    arm = yaml.safe_load((CONFIGS / "aloha.yaml").read_text())["arms"]["right"]
    arm["urdf"] = str(CONFIGS / arm["urdf"])
    assert (
        "arms.base: found an arm called 'base', though the robot has a base; expected another name: base/... "
        "are the base's channels; rename the arm"
    ) in refusal(tmp_path, BASE, arms={"right": None, "base": arm})


def test_odometry_is_looked_for_as_it_is_read(tmp_path: Path) -> None:
    robot = load_robot(mobile(tmp_path, BASE))
    (wanted,) = [each for each in inputs(robot) if each.type == ODOMETRY]
    assert (wanted.name, wanted.rate_hz, wanted.max_age_ms) == ("/base/odom", 20, 200)
    driver = Endpoint("/slate_base", ODOMETRY)
    seen = Seen("/base/odom", (driver,), received=60, rate_hz=20.0, age_ms=3.0)
    assert wanted_line(wanted, seen, {}).ok
    swapped = Seen("/base/odom", (Endpoint("/teleop", "geometry_msgs/msg/Twist"),))
    line = wanted_line(wanted, swapped, {"/odom_raw": [ODOMETRY]})
    assert line.found == "geometry_msgs/msg/Twist, not nav_msgs/msg/Odometry"
    assert line.fix.endswith("of type nav_msgs/msg/Odometry there is /odom_raw")
    late = wanted_line(wanted, Seen("/base/odom", (driver,), (), 60, 20.0, 9000.0), {})
    assert late.fix.endswith("write base.odometry.stamps: arrival")


def test_velocities_in_other_units_show_in_the_odometry() -> None:
    config = MobileBase.model_validate(BASE)
    assert odometry_line(config, [0.0, -0.01]).ok
    for velocity in ([120.0, 0.0], [0.0, 20.0]):
        line = odometry_line(config, velocity)
        assert line.ok is False and "not mm/s, degrees/s" in line.fix
        assert line.found.endswith("base.limits.velocity is [0.5, 0.8]")
