"""The published JSON Schema: current, and of one mind with the loader about single keys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from vla_ros.robot.schema import FILE, robot_schema, schema_text

CONFIGS = Path(__file__).parents[2] / "robot_configs"
VALIDATOR = Draft7Validator(json.loads(FILE.read_text(encoding="utf-8")))
PART = {"extends": "franka.yaml", "name": "lab"}


def errors(fields: object) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(fields)]


def test_published_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run python -m vla_ros.robot.schema"
    Draft7Validator.check_schema(robot_schema())


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.stem)
def test_shipped_robots_name_the_schema_and_agree_with_it(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema/robot.schema.json\n")
    assert errors(yaml.safe_load(text)) == []


def test_schema_refuses_what_the_loader_refuses() -> None:
    fields = yaml.safe_load((CONFIGS / "franka.yaml").read_text(encoding="utf-8"))
    assert errors({**fields, "nmae": "x"}) == [
        "Additional properties are not allowed ('nmae' was unexpected)"
    ]
    assert errors({**fields, "name": "fr3 lab"}) == ["'fr3 lab' does not match '^[A-Za-z][A-Za-z0-9_]*$'"]
    assert errors({key: value for key, value in fields.items() if key != "safety"}) == [
        "'safety' is a required property"
    ]
    fields["cameras"]["my front"] = fields["cameras"]["front"]
    assert len(errors(fields)) == 1
    del fields["cameras"]["my front"]
    fields["arms"]["arm"]["limits"]["position"][0] = [-2.7, 157]
    assert errors(fields) == ["157 is greater than the maximum of 6.2832"]
    fields["arms"]["arm"]["limits"]["position"][0] = [-2.7, 2.7, 0]
    assert len(errors(fields)) == 1


def test_a_file_that_extends_another_may_say_any_part() -> None:
    assert errors(PART) == []
    assert errors({**PART, "arms": {"arm": {"states": {"rate_hz": 500}}}, "cameras": {"wrist": None}}) == []
    assert errors({**PART, "arms": {"arm": {"gripper": None, "driver": "joint_position"}}}) == []


def test_a_part_is_checked_as_far_as_it_goes() -> None:
    assert errors({"extends": "franka.yaml"}) == ["'name' is a required property"]
    assert errors({**PART, "cameras": {"wrist": {"rat_hz": 30}}}) == [
        "Additional properties are not allowed ('rat_hz' was unexpected)"
    ]
    assert errors({**PART, "arms": {"arm": {"gripper": {"width": [0]}}}}) == ["[0] is too short"]
    assert errors({**PART, "arms": {"arm": {"home": [None]}}}) == ["None is not of type 'number'"]
