"""What a benchmark returns, and how it is shown and saved.

A benchmark is a module here with `run(progress: Callable[[str], None]) -> Bench`. It is never part of the
timed tests: a number is only worth something on a machine that does nothing else.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

Progress = Callable[[str], None]
Value = str | int | float | bool | None


@dataclass(frozen=True)
class Bench:
    """Results of one benchmark.

    rows: one per contender or metric; every row names what was measured first, has the value(s), and where a
        target is set `target` (words, with its unit) and `met` (True, False, or None where none is set).
    notes: what a reader must know, such as the scheduling class in force.
    plot: an SVG, empty where there is none.
    """

    title: str
    rows: Sequence[Mapping[str, Value]]
    notes: Sequence[str] = field(default_factory=tuple)
    plot: str = ""

    @property
    def met(self) -> bool:
        """Whether no row misses its target."""
        return all(row.get("met") is not False for row in self.rows)


def names() -> list[str]:
    """Benchmarks that can be run, in order of the alphabet."""
    here = Path(__file__).parent
    modules = sorted(path.stem for path in here.glob("*.py"))
    return [name for name in modules if name not in ("__init__", "bench") and not name.startswith("_")]


def machine() -> dict[str, Value]:
    """The machine the numbers belong to."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cores = len(os.sched_getaffinity(0))
    return {"cpu": model, "cores": cores, "python": platform.python_version(), "system": platform.platform()}


def show(bench: Bench, console: Console) -> None:
    """Print the table."""
    columns = list(dict.fromkeys(key for row in bench.rows for key in row))
    table = Table(title=bench.title, title_justify="left")
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float, type(None))) for row in bench.rows)
        table.add_column(column.replace("_", " "), justify="right" if numbers and column != "met" else "left")
    for row in bench.rows:
        table.add_row(*(_cell(column, row.get(column)) for column in columns))
    console.print(table)
    for note in bench.notes:
        console.print(note, markup=False)


def _cell(column: str, value: Value) -> str:
    if value is None:
        return ""
    if column == "met":
        return "[green]yes[/]" if value else "[red]no[/]"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return str(value).replace("[", r"\[")


def save(bench: Bench, path: Path) -> None:
    """Write JSON: title, machine, rows, notes; and a plot beside it, as .svg."""
    content = {
        "title": bench.title,
        "machine": machine(),
        "rows": list(bench.rows),
        "notes": list(bench.notes),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if bench.plot:
        path.with_suffix(".svg").write_text(bench.plot, encoding="utf-8")
