"""Each project's statistics file and formula, written out here as its own code has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.policy.statistics_files import FIELDS, RNG, arrays, near, read, safetensors, statistics
from vla_ros.action.normalise import denormalise, normalise
from vla_ros.errors import BundleError
from vla_ros.policy.manifest_normalisation import Normalisation
from vla_ros.policy.statistics import read_scaling


@pytest.mark.parametrize("masked", [True, False])
def test_openvla(tmp_path: Path, masked: bool) -> None:
    """predict_action: where(mask, 0.5 (v + 1) (q99 - q01) + q01, v), and without a mask everywhere."""
    entry = statistics(7)
    if masked:
        entry["mask"] = [True] * 6 + [False]
    content = {"here": {"action": entry, "proprio": statistics(8)}, "bridge_orig": {}}
    scaling = read(tmp_path, content, 7)
    s = arrays(entry)
    v = RNG.uniform(-1.5, 1.5, (8, 7))
    expected = 0.5 * (v + 1) * (s["q99"] - s["q01"]) + s["q01"]
    if masked:
        expected[:, 6] = v[:, 6]
    near(denormalise(v, scaling), expected)
    near(normalise(expected, scaling), v)
    assert read(tmp_path, content, 8, "proprio").width == 8


def test_openvla_oft_clips_its_state(tmp_path: Path) -> None:
    """normalize_proprio: clip(2 (x - q01) / (q99 - q01 + 1e-8) - 1, -1, 1)."""
    entry = statistics(8)
    scaling = read(
        tmp_path, {"here": {"proprio": entry}}, 8, "proprio", clip=1.0, epsilon=1e-8, constant="minus_one"
    )
    s, x = arrays(entry), RNG.uniform(-5, 5, (40, 8))
    near(normalise(x, scaling), np.clip(2 * (x - s["q01"]) / (s["q99"] - s["q01"] + 1e-8) - 1, -1, 1))


@pytest.mark.parametrize(("kind", "below"), [("q01_q99", 0), ("min_max", -1), ("min_max", 0)])
def test_starvla_decides_the_gripper_before_it_scales(tmp_path: Path, kind: str, below: int) -> None:
    """unnormalize_actions of starVLA/model/tools.py (quantiles, 0), its Franka (-1) and LIBERO examples."""
    entry = statistics(7) | {"mask": [True] * 7}
    content = {"here": {"action": entry, "state": statistics(7)}}
    scaling = read(tmp_path, content, 7, kind=kind, clip=1.0, binary={"columns": [6], "below": below})
    s = arrays(entry)
    v = RNG.uniform(-2, 2, (60, 7))
    v[:3, 6] = 0.5, np.nextafter(0.5, 0), 5.0
    clipped = np.clip(v, -1, 1)
    clipped[:, 6] = np.where(clipped[:, 6] < 0.5, below, 1)
    low, high = (s["q01"], s["q99"]) if kind == "q01_q99" else (s["min"], s["max"])
    near(denormalise(v, scaling), 0.5 * (clipped + 1) * (high - low) + low)
    assert read(tmp_path, content, 7, "proprio", kind="min_max").width == 7


@pytest.mark.parametrize("kind", ["q01_q99", "mean_std"])
def test_openpi(tmp_path: Path, kind: str) -> None:
    """Normalize and Unnormalize of src/openpi/transforms.py, with 1e-6 in both directions."""
    entry = statistics(14)
    entry["std"][2], entry["q99"][2] = 1e-4, entry["q01"][2] + 1e-4
    content = {"norm_stats": {"state": statistics(14), "actions": entry}}
    scaling = read(tmp_path, content, 14, format="norm_stats", key="actions", kind=kind, epsilon=1e-6)
    s = arrays(entry)
    v = RNG.uniform(-2, 2, (50, 14))
    if kind == "mean_std":
        si = v * (s["std"] + 1e-6) + s["mean"]
    else:
        si = (v + 1.0) / 2.0 * (s["q99"] - s["q01"] + 1e-6) + s["q01"]
    near(denormalise(v, scaling), si)
    near(normalise(si, scaling), v)
    with pytest.raises(BundleError, match=r"no key 'action' \(normal.*found \['actions', 'state'\]"):
        read(tmp_path, content, 14, format="norm_stats", key="action", kind=kind)
    with pytest.raises(BundleError, match=r"no key 'norm_stats'.*found \['state'\]"):
        read(tmp_path, {"state": statistics(14)}, 14, format="norm_stats", key="state", kind=kind)


def lerobot_reference(v: np.ndarray, s: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """_apply_transform of normalize_processor.py with inverse=True."""
    if kind == "mean_std":
        return v * s["std"] + s["mean"]
    low, high = ("min", "max") if kind == "min_max" else ("q01", "q99")
    return (v + 1) / 2 * (s[high] - s[low]) + s[low]


@pytest.mark.parametrize("kind", ["q01_q99", "min_max", "mean_std"])
@pytest.mark.parametrize("written", ["stats.json", "processor.safetensors", "model.safetensors"])
def test_lerobot(tmp_path: Path, kind: str, written: str) -> None:
    state = statistics(6)
    entry = {name: np.float32(values).tolist() for name, values in state.items()}
    if written == "stats.json":
        content: Any = {"observation.state": entry, "action": statistics(7)}
    else:
        prefix = (
            "observation.state" if written.startswith("p") else "normalize_inputs.buffer_observation_state"
        )
        tensors = {"model.layer.weight": np.ones((2, 2)), "scalar": np.ones(())}
        content = safetensors(
            tensors | {f"{prefix}.{name}": np.array(values) for name, values in entry.items()}
        )
    spec = {"file": written, "format": "lerobot", "kind": kind}
    scaling = read(tmp_path, content, 6, "proprio", key="observation.state", **spec)
    v = RNG.uniform(-2, 2, (30, 6))
    si = lerobot_reference(v, arrays(entry), kind)
    near(denormalise(v, scaling), si)
    near(normalise(si, scaling), v)
    with pytest.raises(BundleError, match=r"no key 'observation.images' .*found \[.*observation.state"):
        found = (tmp_path / written).read_bytes().replace(b"observation_state", b"observation.state")
        read(tmp_path, found, 6, "proprio", key="observation.images", **spec)


def test_lerobot_s_state_with_its_epsilon(tmp_path: Path) -> None:
    """(x - mean) / (std + 1e-8)."""
    entry = statistics(3)
    entry["std"][0] = 1e-5
    spec = {"format": "lerobot", "kind": "mean_std", "epsilon": 1e-8, "key": "observation.state"}
    scaling = read(tmp_path, {"observation.state": entry}, 3, "proprio", **spec)
    s, x = arrays(entry), RNG.uniform(-2, 2, (5, 3))
    np.testing.assert_allclose(normalise(x, scaling), (x - s["mean"]) / (s["std"] + 1e-8), rtol=1e-9)


def test_lerobot_s_episodes_are_one_data_set(tmp_path: Path) -> None:
    episodes = [RNG.normal(RNG.uniform(-1, 1), 1, (count, 3)) for count in (5, 40, 17)]
    lines = []
    for index, rows in enumerate(episodes):
        of = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
        stats = {name: values.tolist() for name, values in of.items()} | {"count": [len(rows)]}
        image = {name: [[[0.5]]] * 3 for name in ("min", "max", "mean", "std")} | {"count": [100]}
        lines.append({"episode_index": index, "stats": {"action": stats, "observation.images.top": image}})
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    whole = np.concatenate(episodes)
    spec = {"format": "lerobot", "key": "action", "file": "episodes_stats.jsonl"}
    by_range = read(tmp_path, text, 3, kind="min_max", **spec)
    near([by_range.low, by_range.high], [whole.min(0), whole.max(0)])
    by_spread = read(tmp_path, text, 3, kind="mean_std", **spec)
    near(denormalise([[0.0] * 3, [1.0] * 3], by_spread), [whole.mean(0), whole.mean(0) + whole.std(0)])
    with pytest.raises(BundleError, match=r"no 'q01', but kind: q01_q99 needs q01 and q99; found \['max'"):
        read(tmp_path, text, 3, **spec)


def gr00t_reference(v: np.ndarray, s: dict[str, np.ndarray], kind: str) -> np.ndarray:
    """unnormalize_values_minmax and unnormalize_values_meanstd of gr00t/data/utils.py."""
    if kind == "mean_std":
        return v * s["std"] + s["mean"]
    low, high = (s["q01"], s["q99"]) if kind == "q01_q99" else (s["min"], s["max"])
    return (np.clip(v, -1.0, 1.0) + 1.0) / 2.0 * (high - low) + low


@pytest.mark.parametrize("kind", ["min_max", "q01_q99"])
def test_gr00t(tmp_path: Path, kind: str) -> None:
    """Groups in the order of its modality keys, of which one is relative with a row per step."""
    groups = {
        "action": {"gripper": statistics(1), "base": statistics(2), "arm": statistics(7)},
        "relative_action": {"arm": statistics(7, rows=16)},
    }
    parts = [
        {"name": "relative_action.arm"},
        {"name": "action.gripper"},
        {"name": "action.base", "kind": "mean_std"},
    ]
    spec = {"format": "gr00t", "key": "robot", "kind": kind, "parts": parts, "clip": 1.0, "rows": 16}
    scaling = read(tmp_path, {"robot": groups, "gr1": {}}, 10, per_step=True, **spec)
    assert scaling.low.shape == (16, 10)
    v = RNG.uniform(-1.5, 1.5, (2, 16, 10))
    expected = np.concatenate(
        [
            gr00t_reference(v[..., :7], arrays(groups["relative_action"]["arm"]), kind),
            gr00t_reference(v[..., 7:8], arrays(groups["action"]["gripper"]), kind),
            gr00t_reference(v[..., 8:], arrays(groups["action"]["base"]), "mean_std"),
        ],
        axis=-1,
    )
    near(denormalise(v, scaling), expected)
    with pytest.raises(
        BundleError, match=r"a row for each of 16 steps, but policy.yaml says per_step: false"
    ):
        read(tmp_path, {"robot": groups}, 10, **spec)
    with pytest.raises(BundleError, match=r"shapes \(16, 7\) and \(16, 7\), expected \(8, 'N'\)"):
        read(tmp_path, {"robot": groups}, 10, per_step=True, **spec | {"rows": 8})
    with pytest.raises(BundleError, match=r"no key 'other'.*found \['gr1', 'robot'\]"):
        read(tmp_path, {"robot": groups, "gr1": {}}, 10, **spec | {"key": "other"})
    with pytest.raises(BundleError, match=r"no key 'robot.action.hand'.*parts.*found \['arm', 'base', 'grip"):
        read(tmp_path, {"robot": groups}, 10, **spec | {"parts": [{"name": "action.hand"}]})


def test_an_entry_that_never_varied_is_as_its_project_showed_it(tmp_path: Path) -> None:
    entry = statistics(2)
    entry["q01"][1] = entry["q99"][1] = entry["min"][1] = entry["max"][1] = entry["mean"][1] = 0.3
    entry["std"][1] = 0.0
    content = {"here": {"action": entry}}
    for kind, says in (
        ("q01_q99", r"index 1: q99 0.3 is not above q01 0.3"),
        ("min_max", r"index 1: max 0.3 is not above min 0.3"),
        ("mean_std", r"index 1: std 0.0, not above 0"),
    ):
        with pytest.raises(BundleError, match=rf"here.action: {says}.*normalisation.action.constant"):
            read(tmp_path, content, 2, kind=kind)
        for constant, shown in (("zero", 0.0), ("minus_one", -1.0), ("same", 0.3)):
            scaling = read(tmp_path, content, 2, kind=kind, constant=constant, epsilon=1e-6)
            assert normalise([0.0, 0.3], scaling)[1] == shown
            assert denormalise([[0.0, shown], [0.0, 0.9]], scaling)[:, 1].tolist() == [0.3, 0.3]
    entry["mask"] = [True, False]
    assert normalise([0.0, 0.7], read(tmp_path, content, 2))[1] == 0.7
    del entry["mask"]
    entry["q99"][1] = 0.2
    with pytest.raises(BundleError, match=r"index 1: q99 0.2 is not above q01 0.3"):
        read(tmp_path, content, 2, constant="zero")


def test_gr00t_takes_close_ends_for_one_value(tmp_path: Path) -> None:
    entry = {"min": [0.5, 1.0], "max": [0.500000001, 1.0001]}
    spec = {"format": "gr00t", "kind": "min_max", "parts": [{"name": "state.arm"}]}
    scaling = read(tmp_path, {"here": {"state": {"arm": entry}}}, 2, constant="zero", **spec)
    assert normalise([0.9, 1.0], scaling).tolist() == [0.0, -1.0]
    with pytest.raises(BundleError, match=r"state.arm: index 0: max 0.500000001 is not above min 0.5"):
        read(tmp_path, {"here": {"state": {"arm": entry}}}, 2, **spec)


def test_padding_is_not_scaled_and_need_not_be_in_the_file(tmp_path: Path) -> None:
    entry = {name: [*values, 0.0] for name, values in statistics(3).items()}
    used = np.array([True, True, True, False, False])
    for content, wide in ((entry, 4), ({name: values[:3] for name, values in entry.items()}, 3)):
        scaling = read(tmp_path, {"here": {"action": content}}, 5, used=used)
        assert scaling.mask.tolist() == [True, True, True, False, False]
        x = RNG.uniform(-1, 1, (4, 5))
        near(denormalise(x, scaling)[:, 3:], x[:, 3:])
        assert np.isnan(scaling.low).tolist() == [False] * wide + [True] * (5 - wide)
        with pytest.raises(BundleError, match=f"the action has {wide} values, but policy.yaml declares 5"):
            read(tmp_path, {"here": {"action": content}}, 5, constant="zero")
    with pytest.raises(BundleError, match=r"the action has 4 values, but policy.yaml declares 2"):
        read(tmp_path, {"here": {"action": entry}}, 2, used=used[:2], constant="zero")


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["q01_q99", "min_max", "mean_std"]),
    epsilon=st.sampled_from([0.0, 1e-8, 1e-6]),
    per_step=st.booleans(),
)
def test_decoding_undoes_encoding(
    tmp_path_factory, seed: int, kind: str, epsilon: float, per_step: bool
) -> None:
    rng = np.random.default_rng(seed)
    shape = (4, 6) if per_step else (6,)
    low, span = rng.uniform(-3, 3, shape), 10 ** rng.uniform(-3, 1, shape)
    names = {"q01_q99": ("q01", "q99"), "min_max": ("min", "max"), "mean_std": ("mean", "std")}[kind]
    entry = dict(
        zip(names, (low.tolist(), (span if kind == "mean_std" else low + span).tolist()), strict=True)
    )
    folder = tmp_path_factory.mktemp("statistics")
    spec = {"kind": kind, "epsilon": epsilon, "per_step": per_step, "rows": 4}
    scaling = read(folder, {"here": {"action": entry}}, 6, **spec)
    x = rng.uniform(-5, 5, (3, 4, 6))
    near(denormalise(normalise(x, scaling), scaling), x)


def test_tokens_of_an_action_are_read_from_the_manifest(tmp_path: Path) -> None:
    bins = {"count": 256, "token_offset": 32000, "counts_down": True}
    scaling = read(tmp_path, {"here": {"action": {"q01": [0], "q99": [1]}}}, 1, bins=bins)
    # The vocabulary's 128th last token: OpenVLA's bin centre 127 of 255, which is 0.
    assert denormalise([[31872.0]], scaling).tolist() == [[0.5]]


def test_without_normalisation_no_file_is_read(tmp_path: Path) -> None:
    spec = Normalisation.model_validate({"action": {"kind": "none"}, "proprio": FIELDS})
    assert spec.files == {"normalisation.proprio.file": "s.json"}
    scaling = read_scaling(tmp_path, "action", spec.action, np.ones(3, dtype=bool))
    assert normalise([1.0, 2.0, 3.0], scaling).tolist() == [1.0, 2.0, 3.0]
