"""docs/conventions.md: what it tells to write can be written."""

from __future__ import annotations

import re
from typing import get_args

import yaml

from tests.tiny_bundle import ROOT
from vla_ros.action.rotations import ROTATION_SIZES
from vla_ros.policy.manifest_model import GripperUnit
from vla_ros.policy.manifest_outputs import REFERENCES, ActionSlice, Outputs, Signal

PAGE = (ROOT / "docs" / "conventions.md").read_text()
BLOCKS = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.S)]


def test_every_example_loads() -> None:
    assert len(BLOCKS) >= 7
    for block in BLOCKS:
        if isinstance(block, dict):
            Outputs.model_validate(block["outputs"])
        else:
            assert [ActionSlice.model_validate(part) for part in block]


def test_every_word_is_explained() -> None:
    words = {name for references in REFERENCES.values() for name in references}
    words |= set(get_args(Signal))
    words |= set(get_args(GripperUnit.model_fields["unit"].annotation))
    words |= {name for name in ROTATION_SIZES if not name.startswith("euler_")}
    words |= set(ActionSlice.model_fields) | {"threshold", "hysteresis", "sticky_steps", "tool_rotations"}
    assert {word for word in words if not re.search(rf"\b{word}\b", PAGE)} == set()
