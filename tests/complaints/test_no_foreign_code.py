"""Nothing that arrives over the network or lies in a bundle is ever run: no pickle, no YAML objects."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.tiny_bundle import ROOT, write_tiny_bundle
from vla_ros.action.chunk_cdr import from_cdr
from vla_ros.errors import BundleError, ConfigError, Refused
from vla_ros.policy.bundle import load_bundle, sha256_of
from vla_ros.policy.parity import read_parity
from vla_ros.robot.load import load_robot

# Importing or calling one of these can run what is in the data.
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "runpy"}
CALLS = {"eval", "exec", "compile", "__import__"}
# Dumping runs nothing, and parsing and composing make events and nodes.
YAML_CALLS = {"safe_load", "safe_dump", "dump", "parse", "compose"}
# Modules named by a variable: our benchmarks, the message types of our own topics, MuJoCo's OpenGL back ends.
DYNAMIC_IMPORTS = {
    "vla_ros/cli.py",
    "vla_ros/nodes/topic_types.py",
    "vla_ros/sim/offscreen.py",
    "tests/benchmarks/_faults_relay.py",
}

# All that is installed; the second and third are links inside the first.
FOLDERS = ("vla_ros", "export", "tests/benchmarks", "launch")
SOURCES = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]


def dangers(source: str) -> Iterator[str]:
    """What in a module's text could run code that is in data."""
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        yield from (f"import {name}" for name in names if name.split(".")[0] in MODULES)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        keywords = {key.arg: ast.unparse(key.value) for key in node.keywords}
        name = called.split(".")[-1]
        if called in CALLS or (called.startswith("yaml.") and name not in YAML_CALLS):
            yield called
        elif called in ("np.load", "numpy.load") and keywords.get("allow_pickle", "False") != "False":
            yield f"{called}(allow_pickle)"
        elif called == "torch.load" and keywords.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        elif name == "import_module" and not isinstance(node.args[0], ast.Constant):
            yield "import_module of a variable"
        elif "trust_remote_code" in keywords:
            yield "trust_remote_code"


@pytest.mark.complaint("lerobot 3047")
@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_module_can_run_code_that_is_in_data(file: Path) -> None:
    found = set(dangers(file.read_text(encoding="utf-8")))
    if file.relative_to(ROOT).as_posix() in DYNAMIC_IMPORTS:
        found -= {"import_module of a variable"}
    assert not found


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "eval(text)",
        "yaml.load(text, yaml.Loader)",
        "yaml.unsafe_load(text)",
        "np.load(file, allow_pickle=True)",
        "torch.load(file)",
        "importlib.import_module(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
    ],
)
def test_each_danger_is_seen(line: str) -> None:
    assert list(dangers(line))


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return os.mkdir, (str(self.file),)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """Exists once somebody has run what was in the data."""
    return tmp_path / "it was run"


def python_tag(proof: Path) -> str:
    return f"!!python/object/apply:os.mkdir [{json.dumps(str(proof))}]"


def test_the_payloads_would_work(proof: Path) -> None:
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.is_dir()
    proof.rmdir()
    yaml.unsafe_load(python_tag(proof))
    assert proof.is_dir()


@pytest.mark.complaint("lerobot 3047")
def test_a_pickle_in_place_of_a_chunk_is_refused(proof: Path) -> None:
    with pytest.raises(Refused):
        from_cdr(pickle.dumps(Payload(proof)), {"arm/joint1"})
    assert not proof.exists()


@pytest.mark.complaint("lerobot 3047")
def test_a_robot_yaml_with_an_object_is_refused(tmp_path: Path, proof: Path) -> None:
    text = (ROOT / "robot_configs" / "franka.yaml").read_text()
    assert "embodiment: franka_fr3" in text
    file = tmp_path / "robot.yaml"
    file.write_text(text.replace("embodiment: franka_fr3", f"embodiment: {python_tag(proof)}"))
    with pytest.raises(ConfigError, match="embodiment"):
        load_robot(file)
    assert not proof.exists()


@pytest.mark.complaint("lerobot 3047")
def test_a_manifest_with_an_object_is_refused(tmp_path: Path, proof: Path) -> None:
    manifest = write_tiny_bundle(tmp_path / "bundle").path("policy.yaml")
    manifest.write_text(manifest.read_text().replace("name: tiny", f"name: {python_tag(proof)}"))
    with pytest.raises(BundleError, match="python/object"):
        load_bundle(manifest.parent)
    assert not proof.exists()


@pytest.mark.complaint("lerobot 3047")
@pytest.mark.parametrize("form", ["npz of objects", "npy of objects", "bare pickle"])
def test_a_parity_file_with_an_object_is_refused(tmp_path: Path, proof: Path, form: str) -> None:
    objects = np.array([Payload(proof)], dtype=object)
    content = io.BytesIO()
    if form == "npz of objects":
        np.savez(content, noise=objects, expected=objects, tolerance=1.0, tokens=objects)
    elif form == "npy of objects":
        np.save(content, objects)
    else:
        pickle.dump(Payload(proof), content)
    file = tmp_path / "parity.npz"
    file.write_bytes(content.getvalue())
    if form == "npz of objects":
        assert zipfile.is_zipfile(file)
    with pytest.raises(BundleError, match="not a parity file"):
        read_parity(file)
    assert not proof.exists()


@pytest.mark.complaint("lerobot 3047")
def test_a_file_exchanged_on_the_way_is_not_loaded(tmp_path: Path) -> None:
    """A graph carries no Python, but an exchanged one would still move the arm."""
    bundle = write_tiny_bundle(tmp_path / "bundle")
    graph = bundle.path("step.onnx")
    before = sha256_of(graph)
    graph.write_bytes(graph.read_bytes() + b"\0")
    with pytest.raises(BundleError, match=f"truncated or altered.*expected {before}"):
        load_bundle(bundle.directory)
