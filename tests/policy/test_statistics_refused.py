"""Files that are no statistics, and what a manifest may not declare: refused with what is wrong."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.policy.statistics_files import FIELDS, read, safetensors
from vla_ros.action.normalise import denormalise
from vla_ros.errors import BundleError
from vla_ros.policy.manifest_normalisation import Normalisation


@pytest.mark.parametrize(
    ("content", "spec", "says"),
    [
        (b"{", {}, "not a JSON file"),
        (b"[1]", {}, "found list, expected names"),
        ({}, {}, r"no key 'here' \(normalisation.action.key in policy.yaml\); found \[\]"),
        ({"here": 3}, {}, "here: found int, expected names"),
        ({"here": {}}, {}, "no key 'here.action'"),
        ({"here": {"action": {"q01": [0], "q99": [1], "mask": [1]}}}, {}, "expected true or false, 1 times"),
        (
            {"here": {"action": {"q01": [0], "q99": [1], "mask": []}}},
            {},
            "mask: found .*expected true or false",
        ),
        ({"here": {"action": {"q01": ["0"], "q99": [1]}}}, {}, r"q01: found \['0'\], expected a list of num"),
        ({"here": {"action": {"q01": [True], "q99": [1]}}}, {}, "expected a list of numbers"),
        ({"here": {"action": {"q01": [None], "q99": [1]}}}, {}, "expected a list of numbers"),
        ({"here": {"action": {"q01": [], "q99": []}}}, {}, "expected a list of numbers"),
        ({"here": {"action": {"q01": 0, "q99": 1}}}, {}, "expected a list of numbers"),
        ({"here": {"action": {"q01": [[0], [0, 1]], "q99": [1]}}}, {}, "expected a list of numbers"),
        ({"here": {"action": {"q01": [0], "q99": [1, 2]}}}, {}, r"have shapes \(1,\) and \(2,\)"),
        (b'{"here": {"action": {"q01": [0], "q99": [NaN]}}}', {}, "holds a value that is not finite"),
        (b'{"here": {"action": {"q01": [0], "q99": [Infinity]}}}', {}, "holds a value that is not finite"),
        (
            {"here": {"action": {"mean": [0], "std": [-1]}}},
            {"kind": "mean_std"},
            "index 0: std -1.0, not above",
        ),
        (
            {"here": {"action": {"q01": [0], "q99": [1]}}},
            {"per_step": True},
            "have no row for each step, but",
        ),
        (
            {"here": {"action": {"q01": [0], "q99": [1]}}},
            {"binary": {"columns": [1], "below": 0}},
            r"binary.columns: found \[1\], but the action has 1 values",
        ),
        (b"", {"format": "lerobot", "file": "a.safetensors"}, "not a safetensors file"),
        (
            b"\xff" * 20,
            {"format": "lerobot", "file": "a.safetensors"},
            "a header of .* bytes in a file of 20",
        ),
        (
            safetensors({"here.q01": np.zeros(1)}).replace(b"F32", b"I32"),
            {"format": "lerobot", "file": "a.safetensors"},
            "not a safetensors file of statistics in F64, F32, F16",
        ),
        (
            safetensors({"here.q01": np.zeros(1), "here.q99": np.ones(1)}).replace(b"[4, 8]", b"[4, 3]"),
            {"format": "lerobot", "file": "a.safetensors"},
            "here.q99 from 4 to 3",
        ),
        (
            safetensors({"here.q01": np.zeros(9)})[:-4],
            {"format": "lerobot", "file": "a.safetensors"},
            "not a safetensors file",
        ),
        (b"", {"format": "lerobot", "file": "a.jsonl"}, "not lines of an episode's 'stats'"),
        (b'{"stats": [true]}', {"format": "lerobot", "file": "a.jsonl"}, "an episode's stats have no names"),
        (b'{"stats": {"here": {}}}', {"format": "lerobot", "file": "a.jsonl"}, "KeyError: 'min'"),
        (
            b'{"stats": {"here": {"min": [0], "max": [1], "mean": [0], "std": [1], "count": [0]}}}',
            {"format": "lerobot", "file": "a.jsonl"},
            "found counts",
        ),
    ],
)
def test_what_is_no_statistics_is_named(tmp_path: Path, content, spec, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        read(tmp_path, content, 1, **spec)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "1", 10**400])
vectors = st.lists(st.floats(-2, 2) | st.just(1.7e308) | leaves, max_size=3) | st.lists(
    st.lists(leaves, max_size=2), max_size=2
)
entries = st.dictionaries(st.sampled_from(["q01", "q99", "mask", "min", "count", "mean"]), vectors | leaves)
trees = st.recursive(
    entries | leaves,
    lambda inner: (
        st.dictionaries(st.sampled_from(["here", "action", "norm_stats", "stats", "a"]), inner)
        | st.lists(inner, max_size=2)
    ),
)


@settings(max_examples=300, deadline=None)
@given(
    tree=trees,
    form=st.sampled_from(["dataset_statistics", "norm_stats", "lerobot", "gr00t"]),
    suffix=st.sampled_from(["json", "jsonl", "safetensors"]),
    kind=st.sampled_from(["q01_q99", "min_max", "mean_std"]),
    constant=st.sampled_from(["refuse", "zero"]),
)
def test_any_file_is_statistics_or_an_error_that_says_so(
    tmp_path_factory, tree: Any, form: str, suffix: str, kind: str, constant: str
) -> None:
    text = json.dumps(tree).encode()
    content = struct.pack("<Q", len(text)) + text if suffix == "safetensors" else text
    spec = {"format": form, "kind": kind, "constant": constant, "file": f"s.{suffix}"}
    if form == "gr00t":
        spec["parts"] = [{"name": "action.a"}]
    try:
        scaling = read(tmp_path_factory.mktemp("any"), content, 2, rows=2, **spec)
    except BundleError as error:
        assert f"s.{suffix}: " in str(error)
    else:
        assert np.isfinite(denormalise(np.zeros(scaling.low.shape), scaling)).all()


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_safetensors_file_is_statistics_or_an_error(tmp_path_factory, data: Any) -> None:
    whole = bytearray(safetensors({"here.q01": np.zeros(2), "here.q99": np.ones(2)}))
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    spec = {"format": "lerobot", "file": "s.safetensors", "constant": "zero"}
    try:
        scaling = read(tmp_path_factory.mktemp("any"), bytes(whole), 2, **spec)
    except BundleError as error:
        assert "s.safetensors: " in str(error)
    else:
        assert scaling.width == 2


@pytest.mark.parametrize(
    ("action", "says"),
    [
        ({"kind": "q01_q99"}, "kind: q01_q99 needs format, file, key, clip"),
        ({"kind": "none", "clip": False}, "kind: none has no statistics, so clip must not be given"),
        (FIELDS | {"clip": True}, "clip"),
        (FIELDS | {"clip": 0.0}, "clip"),
        (FIELDS | {"kind": "mean_std", "clip": 1.0}, "clip: must be false, as mean_std has no range"),
        (FIELDS | {"format": "gr00t"}, "parts is needed for format: gr00t, and only there"),
        (FIELDS | {"parts": [{"name": "a"}]}, "parts is needed for format: gr00t, and only there"),
        (FIELDS | {"epsilon": -1e-6}, "epsilon"),
        (FIELDS | {"constant": 0}, "constant"),
        (FIELDS | {"bins": {"count": 256, "token_offset": 32000}}, "counts_down"),
    ],
)
def test_what_the_manifest_may_not_say(action, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Normalisation.model_validate({"action": action, "proprio": {"kind": "none"}})


def test_what_only_an_action_has() -> None:
    for name, value in (("per_step", True), ("binary", {"columns": [0], "below": 0})):
        with pytest.raises(ValidationError, match=f"proprio.{name}: only an action has it"):
            Normalisation.model_validate({"action": FIELDS, "proprio": FIELDS | {name: value}})
