"""A policy that is told of a base, or drives it, and the robot's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.action.manifests import gripper_part
from tests.mobile_base import BASE_ACTION, BASE_STATE, MOBILE
from tests.tiny_bundle import bundle_files, franka_fields, manifest_fields, statistics
from vla_ros.errors import ContractError
from vla_ros.policy.bundle import Bundle, write_bundle
from vla_ros.policy.contract import ContractLine, match, require
from vla_ros.robot.config import Robot

FRANKA = Robot.model_validate(franka_fields())


def bundle_of(folder: Path, action: tuple[float, float] = (0.4, 0.8), told: float = 0.4) -> Bundle:
    """action, told: the largest velocities in the statistics of the action and of the state."""
    fields = manifest_fields()
    fields["inputs"]["state"] = [gripper_part(unit="width_m"), BASE_STATE]
    fields["outputs"]["action"] = [*fields["outputs"]["action"], BASE_ACTION]
    numbers: dict[str, Any] = statistics(fields)["tiny"]
    for end, sign in (("q01", -1), ("q99", 1)):
        numbers["action"][end] += [sign * each for each in action]
        numbers["proprio"][end] = [0.0 if sign < 0 else 0.08, sign * told, sign * told]
    numbers["action"]["mask"] += [True] * 2
    numbers["proprio"]["mask"] = [True] * 3
    files = bundle_files(fields)
    files["dataset_statistics.json"] = json.dumps({"tiny": numbers}).encode()
    return write_bundle(folder, fields, files)


def lines(bundle: Bundle, robot: Robot) -> dict[str, ContractLine]:
    return {line.what: line for line in match(bundle, robot) if line.what.endswith("base_velocity")}


def test_a_base_s_lines_say_its_limits(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    found = lines(bundle, MOBILE)
    assert list(found) == ["state base_velocity", "action base_velocity"]
    limits = "up to 0.5 m/s and 1 rad/s either way"
    assert [line.robot_says for line in found.values()] == [
        f"{limits}, /mobile_base/odom",
        f"{limits}, /mobile_base/cmd_vel",
    ]
    assert {line.policy_says for line in found.values()} == {"2"}
    require(bundle, MOBILE)


def test_a_robot_without_a_base_is_refused_by_name(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    found = lines(bundle, FRANKA)
    assert not any(line.ok for line in found.values())
    assert found["action base_velocity"].fix == (
        "policy 'tiny' drives a base (base_velocity); robot 'franka' takes none: export it with these "
        "columns as padding, or use a robot with a base"
    )
    assert found["state base_velocity"].fix == (
        "policy 'tiny' is told how fast a base moves (base_velocity); robot 'franka' has none: export it "
        "without these values, or use a robot with a base"
    )
    with pytest.raises(ContractError, match="drives a base"):
        require(bundle, FRANKA)


@pytest.mark.parametrize(
    ("action", "told", "what", "says"),
    [
        # Up to three times the limits, which may be set lower than what it was taught with.
        ((1.49, 2.99), 1.49, "", ""),
        (
            (1.51, 0.8),
            0.4,
            "action",
            "value 0 spans -1.51 to 1.51, but must lie within -1.5 to 1.5 (m/s, rad/s)",
        ),
        ((0.4, 45.0), 0.4, "action", "value 1 spans -45 to 45, but must lie within -3 to 3 (m/s, rad/s)"),
        (
            (0.4, 0.8),
            400.0,
            "state",
            "value 0 spans -400 to 400, but must lie within -1.5 to 1.5 (m/s, rad/s)",
        ),
    ],
)
def test_statistics_beyond_the_base_are_refused_with_their_file(
    tmp_path: Path, action: tuple[float, float], told: float, what: str, says: str
) -> None:
    bundle = bundle_of(tmp_path, action, told)
    wrong = {line.what: line.fix for line in lines(bundle, MOBILE).values() if not line.ok}
    assert list(wrong) == ([f"{what} base_velocity"] if what else [])
    for fix in wrong.values():
        assert fix == (
            f"policy 'tiny': dataset_statistics.json: {what} base_velocity: {says}: statistics of another "
            f"robot or in other units; export it with those of 'franka'"
        )
