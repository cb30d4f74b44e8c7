"""docs/policy_yaml.md: its examples load and run, and it leaves out no key."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml
from pydantic import BaseModel

from tests.declared_bundle import write_declared_bundle
from tests.regression_bundle import regression_files
from tests.tiny_bundle import ROOT
from vla_ros.policy.bundle import load_bundle, write_bundle
from vla_ros.policy.contract import require
from vla_ros.policy.manifest import Manifest
from vla_ros.policy.manifest_inputs import PLACEHOLDERS
from vla_ros.policy.onnx_backend import OnnxPolicy
from vla_ros.policy.parity import run_parity
from vla_ros.robot.load import load_robot

PAGE = (ROOT / "docs" / "policy_yaml.md").read_text()
CONVENTIONS = (ROOT / "docs" / "conventions.md").read_text()
EXAMPLE = re.compile(r"```yaml\n(.*?)```", re.S)
WHOLE, *PARTS = [yaml.safe_load(block) for block in EXAMPLE.findall(PAGE)]
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)


def test_the_whole_example_is_a_bundle_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = {key: value for key, value in copy.deepcopy(WHOLE).items() if key != "sha256"}
    made = write_declared_bundle(tmp_path / "made", fields, 0.0, 0.08)
    files = {file.name: file for file in made.directory.iterdir() if file.name != "policy.yaml"}
    monkeypatch.chdir(tmp_path)
    said: dict[str, Any] = {"fields": fields, "files": files}
    exec(PYTHON, said)
    bundle = load_bundle(tmp_path / "policies" / "franka_sort")
    assert bundle.manifest == said["bundle"].manifest
    require(bundle, load_robot(ROOT / "robot_configs" / "franka.yaml"))
    tensors = bundle.manifest.inputs.tensors
    inputs = {name: np.zeros(shape, kind) for name, (kind, shape) in tensors.items()}
    assert OnnxPolicy(bundle).infer(inputs).values.shape == (16, 10)


@pytest.mark.parametrize("part", PARTS, ids=lambda part: " ".join(part))
def test_every_other_example_fits_into_it(part: dict[str, Any]) -> None:
    Manifest.model_validate({**WHOLE, **part})


def test_the_example_without_language_is_a_bundle_that_runs(tmp_path: Path) -> None:
    part = next(part for part in PARTS if part.get("sampler") == {"kind": "regression"})
    fields = {key: value for key, value in {**WHOLE, **part}.items() if key != "sha256"}
    middle, spread = [0.0, 0.0, 0.0, -1.5, 0.0, 2.5, 0.0, 0.04], [0.1] * 7 + [0.01]
    files = regression_files(fields)
    del files["dataset_statistics.json"]
    files["stats.json"] = json.dumps(
        {key: {"mean": middle, "std": spread} for key in ("action", "observation.state")}
    ).encode()
    bundle = write_bundle(tmp_path, fields, files)
    require(bundle, load_robot(ROOT / "robot_configs" / "franka.yaml"))
    result = run_parity(bundle, OnnxPolicy(bundle))
    assert result.ok, result


def test_the_examples_need_the_tensors_that_the_page_tells_of() -> None:
    part = next(part for part in PARTS if "inputs" in part)
    found = Manifest.model_validate({**WHOLE, **part}).inputs.tensors
    names = {name.split(".")[0] for name in found} | {"image_mask"}
    assert {name for name in names if f"`{name}" not in PAGE} == set()
    assert found["image.front"] == ("uint8", (1, 4, 224, 224, 3))
    assert found["state"] == ("float32", (1, 4, 32))


def models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """The model and those that its fields hold."""
    found = {model}

    def walk(kind: object) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            found.update(models(kind))
        for inner in get_args(kind):
            walk(inner)

    for field in model.model_fields.values():
        walk(field.annotation)
    return found


def test_every_key_is_explained() -> None:
    everything = models(Manifest)
    assert len(everything) >= 20
    words = {name for model in everything for name in model.model_fields} | set(PLACEHOLDERS)
    words |= {
        f"{kind}" for kind in ("flow_matching", "tokens", "regression", "guided", "last_prediction", "refuse")
    }
    text = EXAMPLE.sub("", PAGE + CONVENTIONS)
    assert {word for word in words if not re.search(rf"\b{word}\b", text)} == set()
