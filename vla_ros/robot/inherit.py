"""A robot YAML together with the one that it extends.

    extends: franka.yaml      # relative to this file; may be a file of its own or only a part of a robot
    name: franka_lab          # every robot has its own

Blocks of keys are merged key by key; everything else (a list, a number) replaces what the extended file says,
and nothing (`wrist: null`) takes it out. One level deep: a file that is extended extends none itself.
"""

from __future__ import annotations

from pathlib import Path

from vla_ros.errors import ConfigError
from vla_ros.robot.yaml_lines import Document, KeyPath, Plain, Problem, read_yaml

EXTENDS = "extends"


def read_robot(file: Path) -> Document:
    """Read a robot YAML and what it extends, as one document that knows where each value came from.

    Raises ConfigError as `read_yaml`, and when `extends` names no file that can be extended.
    """
    own = read_yaml(file)
    if not isinstance(own.data, dict) or EXTENDS not in own.data:
        return own
    name = own.data.pop(EXTENDS)
    base = _base(own, name)
    if base is None:
        own.raise_problems(own.problems)
    assert base is not None
    assert isinstance(base.data, dict) and isinstance(name, str)
    merged = Document(file, problems=[*own.problems])
    merged.problems += [
        Problem(
            problem.path,
            problem.found,
            problem.expected,
            problem.do,
            problem.line or base.where(problem.path)[1],
            base.file,
        )
        for problem in base.problems
        # What is replaced is not looked at.
        if not _replaced(own.data, problem.path)
    ]
    merged.lines, merged.written = dict(base.lines), dict(base.written)
    merged.files = dict.fromkeys(base.lines, base.file)
    _take(merged, own, ())
    merged.data = _merge(merged, own, base.data, own.data, ())
    _keep_paths_to_files(merged, base, Path(name).parent)
    if "name" not in own.data:
        merged.problems.append(
            Problem(
                ("name",),
                f"none beside extends, and '{base.data.get('name', '')}' in {name}",
                "a name of this robot's own",
                "add name: to this file",
                own.lines.get((EXTENDS,)),
            )
        )
    return merged


def _base(own: Document, name: Plain) -> Document | None:
    """The document that `own` extends; None, with the problem noted, when it cannot be."""
    expected = "the path of another robot YAML, relative to this file"
    if not isinstance(name, str) or not name:
        if not any(problem.path == (EXTENDS,) for problem in own.problems):
            own.problems.append(Problem((EXTENDS,), _words(name), expected, "write one path"))
        return None
    file = own.file.parent / name
    if not _is_file(file):
        found = f"'{' '.join(name.splitlines())}', but there is no such file"
        own.problems.append(Problem((EXTENDS,), found, expected, "correct the path"))
        return None
    if file.resolve() == own.file.resolve():
        own.problems.append(Problem((EXTENDS,), "this file itself", expected, "remove it"))
        return None
    base = read_yaml(file)
    if not isinstance(base.data, dict):
        raise ConfigError(
            f"{file}:1: (file): found no block of keys; expected a robot YAML, for {own.file} extends it; "
            "correct it"
        )
    if EXTENDS in base.data:
        line = base.lines[(EXTENDS,)]
        own.problems.append(
            Problem(
                (EXTENDS,),
                f"'{name}', which extends another file itself (line {line})",
                "a file without extends: robots inherit one level deep",
                f"extend '{base.data[EXTENDS]}' or write the keys out",
            )
        )
        return None
    return base


def _merge(merged: Document, own: Document, below: Plain, above: Plain, path: KeyPath) -> Plain:
    """`above` over `below`; notes in `merged` where each value now comes from."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        for known in [known for known in merged.lines if known[: len(path)] == path]:
            del merged.lines[known]
            merged.written.pop(known, None)
        for known in own.lines:
            if known[: len(path)] == path:
                _take(merged, own, known)
        return above
    result = dict(below)
    for key, value in above.items():
        here = (*path, key)
        if value is None and key in below:
            # Whoever misses the key is sent to the line that took it out.
            _merge(merged, own, None, None, here)
            del result[key]
        elif key in below:
            _take(merged, own, here)
            result[key] = _merge(merged, own, below[key], value, here)
        else:
            result[key] = _merge(merged, own, None, value, here)
    return result


def _take(merged: Document, own: Document, path: KeyPath) -> None:
    merged.lines[path] = own.lines[path]
    merged.files.pop(path, None)
    if path in own.written:
        merged.written[path] = own.written[path]


def _replaced(above: Plain, path: KeyPath) -> bool:
    """Whether what the extended file has at `path` counts no more under `above`."""
    for part in path:
        if not isinstance(above, dict):
            return True
        if part not in above:
            return False
        above = above[part]  # type: ignore[index]
    return not isinstance(above, dict)


def _keep_paths_to_files(merged: Document, base: Document, folder: Path) -> None:
    """A URDF's path is relative to the file that says it: make it relative to the extending one."""
    arms = merged.data.get("arms") if isinstance(merged.data, dict) else None
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        if isinstance(arm, dict) and merged.files.get(("arms", name, "urdf")) == base.file:
            urdf = arm["urdf"]
            if isinstance(urdf, str) and urdf:
                arm["urdf"] = str(folder / urdf)


def _is_file(file: Path) -> bool:
    try:
        return file.is_file()
    except ValueError:  # a NUL in the name, before Python 3.13
        return False


def _words(value: Plain) -> str:
    return "nothing" if value in (None, "") else "something else than text"
