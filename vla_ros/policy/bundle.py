"""The policy bundle: a directory that says everything a runtime must know about a policy.

    policy.yaml               the manifest (`vla_ros.policy.manifest`), with a SHA-256 for every other file
    <graphs>.onnx             prefix and step, or tokens, or regression
    <statistics>              of action and state, as the training project wrote them; see
                              `vla_ros.policy.statistics`
    tokenizer.json            Hugging Face tokenizers file; none for a policy without language
    parity.npz                see `vla_ros.policy.parity`

`load_bundle` reads and verifies all of it and `write_bundle` makes one; there is no other way in or out.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import ValidationError

from vla_ros.action.normalise import Scaling
from vla_ros.errors import BundleError
from vla_ros.policy.manifest import SCHEMA_VERSION, Manifest
from vla_ros.policy.manifest_inputs import StateSlice
from vla_ros.policy.manifest_outputs import ActionSlice
from vla_ros.policy.statistics import read_scaling
from vla_ros.policy.statistics_files import COPY_AGAIN

MANIFEST = "policy.yaml"


@dataclass(frozen=True)
class Bundle:
    """A verified bundle. `action` and `proprio` are the scalings that its manifest's normalisation declares,
    of the widths of its outputs' and inputs' slices."""

    directory: Path
    manifest: Manifest
    action: Scaling
    proprio: Scaling

    def path(self, name: str) -> Path:
        """The absolute path of a file that the manifest names."""
        return self.directory / name


def load_bundle(path: str | Path) -> Bundle:
    """Read the bundle in directory `path`: schema, every file, its SHA-256, statistics.

    Raises BundleError naming file and key, what was found, what was expected and what to do.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise BundleError(f"{directory}: no such policy bundle; expected a directory that holds {MANIFEST}")
    manifest = _read_manifest(directory / MANIFEST)
    _check_files(directory, manifest)
    outputs, inputs, normalisation = manifest.outputs, manifest.inputs, manifest.normalisation
    action = read_scaling(directory, "action", normalisation.action, _used(outputs.action), outputs.horizon)
    proprio = read_scaling(directory, "proprio", normalisation.proprio, _used(inputs.state))
    return Bundle(directory.resolve(), manifest, action, proprio)


def _used(parts: Sequence[ActionSlice | StateSlice]) -> NDArray[np.bool_]:
    """bool [N]: which columns of a vector are not padding."""
    return np.array([str(part.signal) != "padding" for part in parts for _ in range(part.size)], dtype=bool)


def write_bundle(
    directory: str | Path, fields: Mapping[str, Any], files: Mapping[str, bytes | Path]
) -> Bundle:
    """Write a bundle and load it again.

    fields: the manifest without `sha256` (plain dicts, lists and scalars, as in YAML).
    files: {name inside the bundle: its bytes, or a file to copy}; every file that the manifest names has
        to be there, others (README.md) may be. Each gets its checksum. The manifest is written last, so
        that a broken-off write is not a bundle.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    digests = {}
    for name, content in sorted(files.items()):
        target = _inside(directory, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            if content.resolve() != target.resolve():
                shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
        digests[name] = sha256_of(target)
    text = yaml.safe_dump({**fields, "sha256": digests}, sort_keys=False, width=110)
    _parse(directory / MANIFEST, text)
    (directory / MANIFEST).write_text(text, encoding="utf-8")
    return load_bundle(directory)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _read_manifest(file: Path) -> Manifest:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise BundleError(f"{file}: missing, so {file.parent} is not a policy bundle; {COPY_AGAIN}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{file}: cannot be read ({error}); {COPY_AGAIN}") from None
    return _parse(file, text)


def _parse(file: Path, text: str) -> Manifest:
    try:
        fields = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BundleError(f"{file}: not YAML ({error}); {COPY_AGAIN}") from None
    if not isinstance(fields, dict):
        raise BundleError(f"{file}: found {type(fields).__name__}, expected the keys of a policy manifest")
    version = fields.get("schema_version")
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{file}: schema_version: found {version!r}, this vla_ros reads {SCHEMA_VERSION}; export the "
            f"policy again with this vla_ros, or install the version of vla_ros it was exported with"
        )
    try:
        return Manifest.model_validate(fields)
    except ValidationError as error:
        lines = []
        for item in error.errors():
            # pydantic names the sampler's kind as if it were a key.
            keys = tuple(key for i, key in enumerate(item["loc"]) if (i, item["loc"][0]) != (1, "sampler"))
            lines.append(
                f"{file}:{_line(text, keys)}: {'.'.join(map(str, keys)) or 'manifest'}: {item['msg']}; "
                f"found {_short(item['input'])}"
            )
        raise BundleError("\n".join(lines)) from None


def _line(text: str, keys: tuple[int | str, ...]) -> int:
    """The line (from 1) of the deepest part of `keys` that the YAML text holds."""
    node = yaml.compose(text)
    line = node.start_mark.line + 1 if node else 1
    for key in keys:
        if isinstance(node, yaml.MappingNode):
            found = [(name, value) for name, value in node.value if name.value == str(key)]
            if not found:
                return line
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _inside(directory: Path, name: str) -> Path:
    """The path of a file of the bundle; a name that leaves the directory is refused."""
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or not name or "\\" in name or name == MANIFEST:
        raise BundleError(
            f"{directory / MANIFEST}: {name!r} is not a usable file name; expected a relative path inside "
            f"the bundle, other than {MANIFEST}"
        )
    return directory / parts


def _check_files(directory: Path, manifest: Manifest) -> None:
    file = directory / MANIFEST
    for key, name in manifest.files.items():
        if name not in manifest.sha256:
            raise BundleError(f"{file}: {key} names '{name}', which has no entry in sha256; {COPY_AGAIN}")
    for name, expected in manifest.sha256.items():
        path = _inside(directory, name)
        if not path.is_file():
            raise BundleError(f"{path}: missing, but {MANIFEST} lists it under sha256; {COPY_AGAIN}")
        found = sha256_of(path)
        if found != expected.lower():
            raise BundleError(
                f"{path}: truncated or altered: {path.stat().st_size} bytes with SHA-256 {found}, expected "
                f"{expected} (sha256 in {MANIFEST}); {COPY_AGAIN}"
            )
