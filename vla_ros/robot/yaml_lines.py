"""YAML read strictly, with the line of every key.

Strictly: a key given twice, a number in a spelling that YAML 1.1 reads in a surprising base
(`0x10`, `010`, `1:30`, `1_000`), a date, a custom tag, NaN and infinity are problems, not values.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ConfigError

KeyPath = tuple[str | int, ...]
Plain = None | bool | int | float | str | list["Plain"] | dict[str, "Plain"]

_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][-+]?[0-9]+)?|[-+]?\.[0-9]+([eE][-+]?[0-9]+)?")
_MOST_VALUES = 100_000
_DEEPEST = 50
# The C parser, ten times faster, comes with every wheel and distribution package of PyYAML.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Problem:
    """One mistake: where, what was found, what was expected, what to do about it.

    line: where it is, if not where `path` is first set; file: that line's, if not the document's own.
    """

    path: KeyPath
    found: str
    expected: str
    do: str
    line: int | None = None
    file: Path | None = None


@dataclass
class Document:
    """A file's content as plain values.

    lines: {path of a key or list item: line, from 1}; `()` is the whole file. written: {path of a
    scalar: its text in the file}. files: {path: the file it came from, if not `file`}. Values that are
    themselves problems are None in `data`.
    """

    file: Path
    data: Plain = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    written: dict[KeyPath, str] = field(default_factory=dict)
    files: dict[KeyPath, Path] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def where(self, path: KeyPath) -> tuple[Path, int]:
        """File and line of `path`, or of the nearest thing around it that is in a file."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.files.get(path, self.file), self.lines.get(path, 1)

    def raise_problems(self, problems: list[Problem]) -> None:
        """Raise ConfigError with a line per problem, in the order of the file; do nothing without any."""
        if problems:
            ordered = sorted(problems, key=self._place)
            raise ConfigError("\n".join(self.describe(problem) for problem in ordered))

    def describe(self, problem: Problem) -> str:
        """The problem as one line of text."""
        _, file, line = self._place(problem)
        where = key_text(problem.path) or "(file)"
        return f"{file}:{line}: {where}: found {problem.found}; expected {problem.expected}; {problem.do}"

    def _place(self, problem: Problem) -> tuple[bool, Path, int]:
        """What orders problems, with file and line: this document's own file comes first."""
        file, line = self.where(problem.path)
        if problem.line is not None:
            file, line = problem.file or self.file, problem.line
        return file != self.file, file, line


def key_text(path: KeyPath) -> str:
    """`arms.arm.limits.position[2][0]` for the path of that value."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(file: Path) -> Document:
    """Read one YAML document.

    Raises ConfigError if the file cannot be read or is not YAML; smaller mistakes are collected in
    `Document.problems`.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{file}: found no such file; expected a robot YAML; check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: found a file that cannot be read ({error}); expected UTF-8 text; check the file"
        ) from None
    document = Document(file)
    try:
        _refuse_deep(file, text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is None:
            raise ConfigError(f"{file}:1: (file): found nothing; expected a block of keys; fill the file")
        document.lines[()] = root.start_mark.line + 1
        document.data = _Walk(document).value(root, (), ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # What ends too early is missed on the line after the last.
        line = min(mark.line, text.rstrip().count("\n")) + 1 if mark else 1
        what = " ".join(str(error.problem or error.context).split())
        raise ConfigError(
            f"{file}:{line}: (file): found broken YAML ({what}); expected YAML; correct this line"
        ) from None
    except yaml.YAMLError as error:
        what = " ".join(str(error).split())
        raise ConfigError(
            f"{file}:1: (file): found broken YAML ({what}); expected YAML; correct it"
        ) from None
    return document


def _refuse_deep(file: Path, text: str) -> None:
    """Raise ConfigError before `compose`, which recurses in C, meets what is nested too deeply for it."""
    depth = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > _DEEPEST:
            line = event.start_mark.line + 1 if event.start_mark else 1
            raise ConfigError(
                f"{file}:{line}: (file): found brackets nested too deeply; expected a robot YAML; correct it"
            )


class _Walk:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.count = 0

    def value(self, node: yaml.Node, path: KeyPath, parents: tuple[int, ...]) -> Plain:
        self.count += 1
        if self.count > _MOST_VALUES or id(node) in parents:
            raise ConfigError(
                f"{self.document.file}:{node.start_mark.line + 1}: {key_text(path) or '(file)'}: "
                "found an alias (*name) that unfolds without end; expected plain values; write them out"
            )
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*parents, id(node)))
        if isinstance(node, yaml.SequenceNode):
            items: list[Plain] = []
            for index, item in enumerate(node.value):
                self.document.lines[(*path, index)] = item.start_mark.line + 1
                items.append(self.value(item, (*path, index), (*parents, id(node))))
            return items
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath, parents: tuple[int, ...]) -> Plain:
        result: dict[str, Plain] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self._problem((*path, "?"), line, "a key that is no plain word", "a name", "rename the key")
                continue
            key = key_node.value
            here = (*path, key)
            if key in result:
                first = self.document.lines[here]
                self._problem(
                    here, line, f"the key '{key}' again (first on line {first})", "it once", "remove one"
                )
                continue
            self.document.lines[here] = line
            result[key] = self.value(value_node, here, parents)
        return result

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Plain:
        text, kind = node.value, node.tag.removeprefix(_TAG)
        self.document.written[path] = text
        if kind == "str":
            return str(text)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("yes", "true", "on", "y")
        if kind in ("int", "float"):
            if not _DECIMAL.fullmatch(text):
                self._problem(
                    path, None, f"the number {text}", "a finite decimal number", "write it in digits"
                )
                return None
            number = float(text)
            if not math.isfinite(number):
                self._problem(
                    path, None, f"the number {text}", "a finite decimal number", "write a smaller one"
                )
                return None
            return int(text) if kind == "int" and abs(number) < 2**53 else number
        self._problem(
            path, None, f"{text!r} of YAML type {node.tag}", "text, a number or true/false", "quote the text"
        )
        return None

    def _problem(self, path: KeyPath, line: int | None, found: str, expected: str, do: str) -> None:
        self.document.problems.append(Problem(path, found, expected, do, line))
