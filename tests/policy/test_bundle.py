from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.tiny_bundle import bundle_files, manifest_fields, write_tiny_bundle
from vla_ros.errors import BundleError
from vla_ros.policy.bundle import load_bundle, sha256_of, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_tiny_bundle(tmp_path / "tiny").directory


def edit(bundle: Path, change) -> None:
    fields = yaml.safe_load((bundle / "policy.yaml").read_text())
    change(fields)
    (bundle / "policy.yaml").write_text(yaml.safe_dump(fields, sort_keys=False))


def test_what_was_written_is_read_back(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.manifest.name == "tiny"
    assert loaded.manifest.outputs.size == 10
    assert loaded.manifest.inputs.state_size == 10
    assert loaded.action.high[0] == 0.05
    assert loaded.action.mask.tolist() == [True] * 9 + [False]
    assert not loaded.proprio.low.flags.writeable
    assert loaded.path("prefix.onnx").is_file()


def test_missing_directory_and_missing_manifest(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such policy bundle"):
        load_bundle(tmp_path / "nowhere")
    (bundle / "policy.yaml").unlink()
    with pytest.raises(BundleError, match=r"policy\.yaml: missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", sorted(bundle_files(manifest_fields())))
def test_each_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=f"{name}: missing"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", sorted(bundle_files(manifest_fields())))
def test_each_truncated_file_is_named(bundle: Path, name: str) -> None:
    size = (bundle / name).stat().st_size
    os.truncate(bundle / name, size // 2)
    with pytest.raises(BundleError, match=rf"{name}: truncated or altered: {size // 2} bytes"):
        load_bundle(bundle)


def test_one_altered_bit_is_found(bundle: Path) -> None:
    content = bytearray((bundle / "step.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "step.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"step\.onnx: truncated or altered"):
        load_bundle(bundle)


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", None])
def test_another_version_is_named(bundle: Path, version: object) -> None:
    edit(bundle, lambda fields: fields.update(schema_version=version))
    with pytest.raises(BundleError, match=rf"schema_version: found {version!r}, this vla_ros reads 3"):
        load_bundle(bundle)


def test_truncated_manifest(bundle: Path) -> None:
    text = (bundle / "policy.yaml").read_text()
    (bundle / "policy.yaml").write_text(text[: text.index("outputs")])
    with pytest.raises(BundleError, match=r"policy\.yaml:\d+: outputs: Field required"):
        load_bundle(bundle)


def test_unknown_key_and_wrong_type_are_named_with_their_line(bundle: Path) -> None:
    edit(bundle, lambda fields: fields["outputs"].update(horizon="many", colour="red"))
    with pytest.raises(BundleError) as caught:
        load_bundle(bundle)
    text = str(caught.value)
    lines = (bundle / "policy.yaml").read_text().splitlines()
    horizon = lines.index("  horizon: many") + 1
    assert f"policy.yaml:{horizon}: outputs.horizon: " in text
    assert "found 'many'" in text
    assert f"policy.yaml:{lines.index('  colour: red') + 1}: outputs.colour: Extra inputs" in text


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f["inputs"]["state"][1].update(rot6d=None), "rot6d"),
        (lambda f: f["inputs"]["state"][0].update(size=4), "tcp_position has 3 values, not 4"),
        (lambda f: f["outputs"]["action"][2].update(reference="eef_relative"), "cannot be eef_relative"),
        (
            lambda f: f["outputs"]["action"][0].pop("reference"),
            "tcp_position needs one of absolute, world_rel",
        ),
        (lambda f: f["outputs"]["action"][0].update(reference="eef_delta"), "delta_base .* is needed for"),
        (lambda f: f["outputs"]["action"][2].update(delta_base="measured"), "not for gripper"),
        (lambda f: f["outputs"]["action"][1].pop("rotation"), "rotation .* is needed for tcp_rotation"),
        (lambda f: f["outputs"]["action"][1].update(rotation="euler_xyz"), "euler_xyz has 3 values, not 6"),
        (lambda f: f["outputs"]["action"][1].update(rotation="euler_xx"), "no rotation 'euler_xx'"),
        (lambda f: f["outputs"]["action"][2].pop("gripper"), "gripper .* is needed for gripper"),
        (lambda f: f["outputs"]["action"][2].pop("arm"), "arm is needed for"),
        (lambda f: f["outputs"]["action"][0].update(mask=[True] * 3), "mask is for relative joint"),
        (lambda f: f["outputs"]["action"][0].update(signs=[1] * 3), "signs is for joints"),
        (lambda f: f["outputs"]["action"].append(f["outputs"]["action"][2]), "arm.gripper appears twice"),
        (lambda f: f["outputs"].update(action=[{"signal": "padding", "size": 10}]), "all of it is padding"),
        (lambda f: f["outputs"].update(anchor_span_s=4.0), "exactly one of dt_s"),
        (lambda f: f["outputs"].pop("dt_s"), "exactly one of dt_s"),
        (lambda f: f["outputs"]["action"][2].update(arm="other"), r"lacks \['other'\]"),
        (lambda f: f["inputs"]["prompt"].update(template="pick"), r"\{instruction\} exactly once"),
        (lambda f: f["inputs"]["images"][1].update(role="front"), "a role appears twice"),
        (lambda f: f["inputs"]["images"][1].update(dtype="float32"), "mean and std are needed"),
        (lambda f: f["sampler"].update(steps=0), "greater than 0"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(bundle: Path, change, expected: str) -> None:
    edit(bundle, change)
    with pytest.raises(BundleError, match=expected):
        load_bundle(bundle)


def test_a_file_without_checksum_is_refused(bundle: Path) -> None:
    edit(bundle, lambda fields: fields["sha256"].pop("prefix.onnx"))
    with pytest.raises(BundleError, match=r"graphs\.prefix names 'prefix\.onnx', which has no entry"):
        load_bundle(bundle)


def test_a_file_outside_the_bundle_is_refused(bundle: Path) -> None:
    (bundle.parent / "elsewhere.onnx").write_bytes(b"x")
    digest = sha256_of(bundle.parent / "elsewhere.onnx")
    edit(bundle, lambda fields: fields["sha256"].update({"../elsewhere.onnx": digest}))
    with pytest.raises(BundleError, match="not a usable file name"):
        load_bundle(bundle)


def write_statistics(bundle: Path, change) -> None:
    content = json.loads((bundle / "dataset_statistics.json").read_text())
    change(content)
    (bundle / "dataset_statistics.json").write_text(json.dumps(content))
    digest = sha256_of(bundle / "dataset_statistics.json")
    edit(bundle, lambda fields: fields["sha256"].update({"dataset_statistics.json": digest}))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s.update(other=s.pop("tiny")), r"no key 'tiny'.*found \['other'\]"),
        (lambda s: s["tiny"]["action"].pop("q99"), "no 'q99', but kind: q01_q99 needs q01 and q99"),
        (lambda s: s["tiny"].pop("proprio"), r"no key 'tiny.proprio'.*found \['action'\]"),
        (lambda s: s["tiny"]["proprio"].update(q01=[0.0] * 3), "have shapes"),
        (lambda s: s["tiny"]["action"].update(mask=[1.0] * 10), "expected true or false"),
        (lambda s: s["tiny"]["action"]["q01"].__setitem__(0, float("nan")), "not finite"),
        (lambda s: s["tiny"]["action"]["q99"].__setitem__(0, -0.05), "index 0: q99 -0.05 is not above"),
        (
            lambda s: s["tiny"].update(action={k: v[:9] for k, v in s["tiny"]["action"].items()}),
            "has 9 values, but policy.yaml declares 10",
        ),
    ],
)
def test_statistics_that_do_not_fit_are_refused(bundle: Path, change, expected: str) -> None:
    write_statistics(bundle, change)
    with pytest.raises(BundleError, match=expected):
        load_bundle(bundle)


def test_a_file_is_copied_into_the_bundle(tmp_path: Path) -> None:
    fields = manifest_fields()
    files = bundle_files(fields)
    source = tmp_path / "weights.onnx"
    source.write_bytes(files["prefix.onnx"])
    files["prefix.onnx"] = source
    files["README.md"] = b"# tiny\n"
    written = write_bundle(tmp_path / "out", fields, files)
    assert written.path("prefix.onnx").read_bytes() == source.read_bytes()
    assert "README.md" in written.manifest.sha256
    again = write_bundle(tmp_path / "out", fields, {**files, "prefix.onnx": written.path("prefix.onnx")})
    assert np.array_equal(again.action.low, written.action.low)


def test_a_wrong_manifest_is_not_left_behind(tmp_path: Path) -> None:
    fields = {**manifest_fields(), "embodiment": 3}
    with pytest.raises(BundleError, match="embodiment"):
        write_bundle(tmp_path / "out", fields, bundle_files(fields))
    assert not (tmp_path / "out" / "policy.yaml").exists()


def test_padding_columns_need_no_statistics(tmp_path: Path) -> None:
    fields = manifest_fields()
    fields["outputs"]["action"].append({"signal": "padding", "size": 3})
    loaded = write_tiny_bundle(tmp_path, **fields)
    assert loaded.action.width == 13
    assert loaded.action.mask.tolist() == [True] * 9 + [False] * 4
