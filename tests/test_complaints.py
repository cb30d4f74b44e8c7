"""Each complaint of other systems' users has a test here that would fail if we had the same defect.

The tests carry `@pytest.mark.complaint("<project> <number>", ...)`, and `docs/complaints.md` tells what each
is about. The complaints are listed once more below, so that neither a marker nor a row can get lost unseen.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TABLE = TESTS.parent / "docs" / "complaints.md"
NUMBERS = {
    "openpi": (360, 393, 405, 414, 839, 982),
    "GR00T": (114, 285, 364, 471, 517),
    "X-VLA": (38,),
    "openvla": (21, 192, 248),
    "lerobot": (373, 1483, 1500, 1557, 2356, 2541, 3047, 3385, 3506, 3723, 4223, 4368, 4454, 4580),
    "hil-serl": (8,),
    "fairo": (1402,),
    "franka_ros2": (61, 91, 127, 168, 174),
}
COMPLAINTS = [f"{project} {number}" for project, numbers in NUMBERS.items() for number in numbers]


def marked_tests(source: str) -> Iterator[tuple[str, str]]:
    """(complaint, name of the test) for each marker on a test that pytest would collect from `source`; one in
    the module's `pytestmark` is on all of its tests."""
    module = ast.parse(source)
    tests = [
        node for node in module.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test")
    ]
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark":
            marks = node.value.elts if isinstance(node.value, ast.List) else [node.value]
            yield from ((complaint, test.name) for complaint in complaints_of(marks) for test in tests)
    for test in tests:
        yield from ((complaint, test.name) for complaint in complaints_of(test.decorator_list))


def complaints_of(marks: Sequence[ast.expr]) -> Iterator[str]:
    """What the `pytest.mark.complaint(...)` among some markers name."""
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.complaint":
            yield from map(ast.literal_eval, mark.args)


@cache
def answers() -> dict[str, set[str]]:
    """{complaint: the tests that answer it, as `tests/folder/test_x.py::test_name`}."""
    found: dict[str, set[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        for complaint, test in marked_tests(file.read_text(encoding="utf-8")):
            path = file.relative_to(TESTS.parent).as_posix()
            found.setdefault(complaint, set()).add(f"{path}::{test}")
    return found


def rows() -> dict[str, str]:
    """{complaint: its row of the table}."""
    lines = [line for line in TABLE.read_text(encoding="utf-8").splitlines() if line.startswith("| [")]
    return {match[1]: line for line in lines if (match := re.match(r"\| \[([^\]]+)\]\(https://", line))}


@pytest.mark.parametrize("complaint", COMPLAINTS)
def test_each_complaint_has_a_test_and_a_row_that_names_one(complaint: str) -> None:
    tests = answers().get(complaint, set())
    assert tests, f"no test carries @pytest.mark.complaint({complaint!r})"
    named = set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", rows()[complaint]))
    assert named, f"{TABLE.name}: the row of {complaint} names no test"
    assert named <= tests, f"{TABLE.name}: {named - tests} do not carry the marker of {complaint}"


def test_no_marker_and_no_row_is_of_an_unknown_complaint() -> None:
    assert set(answers()) == set(COMPLAINTS)
    assert sorted(rows()) == sorted(COMPLAINTS)


def test_only_what_pytest_collects_counts() -> None:
    source = """
@pytest.mark.complaint("a 1", "b 2")
def test_real(): ...
@pytest.mark.complaint("c 3")
def helper(): ...
@pytest.mark.graph
def test_unmarked(): ...
"""
    assert list(marked_tests(source)) == [("a 1", "test_real"), ("b 2", "test_real")]
    whole = "pytestmark = [pytest.mark.graph, pytest.mark.complaint('d 4')]\n" + source
    assert list(marked_tests(whole))[:2] == [("d 4", "test_real"), ("d 4", "test_unmarked")]
