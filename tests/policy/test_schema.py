"""The published JSON Schema of policy.yaml: current, and of one mind with the manifest about single keys."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.regression_bundle import regression_fields
from tests.tiny_bundle import ROOT, manifest_fields
from tests.token_bundle import token_fields
from vla_ros.policy.schema import FILE, policy_schema, schema_text

VALIDATOR = Draft7Validator(json.loads(FILE.read_text(encoding="utf-8")))
PAGE = (ROOT / "docs" / "policy_yaml.md").read_text()


def errors(fields: object) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(fields)]


def test_published_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8") == schema_text(), "run python -m vla_ros.policy.schema"
    Draft7Validator.check_schema(policy_schema())


def test_it_takes_what_the_manifest_takes() -> None:
    for bundle in (ROOT / "policies").glob("*/policy.yaml"):
        assert errors(yaml.safe_load(bundle.read_text())) == []
    whole, *parts = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]
    for part in ({}, *parts):
        assert errors({**whole, **part}) == []
    for prompt in (True, False):
        assert errors({**regression_fields(prompt), "sha256": {}}) == []
    assert errors({**token_fields(), "sha256": {}}) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda f: f.update(nmae="x"), "Additional properties are not allowed"),
        (lambda f: f.pop("embodiment"), "'embodiment' is a required property"),
        (lambda f: f["outputs"].update(horizon=0), "0 is less than or equal to the minimum of 0"),
        (lambda f: f["inputs"]["images"][0].update(kernel="lanczos"), "'lanczos' is not one of"),
        (lambda f: f["sampler"].update(kind="diffusion"), "is not valid under any of the given schemas"),
        (lambda f: f["sampler"].update(steps="8"), "is not valid under any of the given schemas"),
        (lambda f: f.update(tool_rotations={"arm": [[1, 0, 0], [0, 1, 0]]}), "is too short"),
    ],
)
def test_it_refuses_what_the_manifest_refuses(change: Any, text: str) -> None:
    fields = {**copy.deepcopy(manifest_fields()), "sha256": {}}
    assert errors(fields) == []
    change(fields)
    (found,) = errors(fields)
    assert text in found
