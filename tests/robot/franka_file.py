"""franka.yaml with a mistake put in, and what the loader says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vla_ros.errors import ConfigError
from vla_ros.robot.load import load_robot

CONFIGS = Path(__file__).parents[2] / "robot_configs"
FRANKA = (CONFIGS / "franka.yaml").read_text(encoding="utf-8")


def line_of(text: str, piece: str) -> int:
    return text[: text.index(piece)].count("\n") + 1


def refusal(folder: Path, text: str) -> list[str]:
    """The lines of the ConfigError for a YAML text, without the folder's name."""
    (folder / "franka.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_robot(folder / "franka.yaml")
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def changed(old: str, new: str) -> str:
    assert old in FRANKA, old
    return FRANKA.replace(old, new, 1)


def refused_line(folder: Path, old: str, new: str) -> str:
    """The one mistake of franka.yaml with `old` replaced, with its line checked and cut off."""
    text = changed(old, new)
    lines = refusal(folder, text)
    assert len(lines) == 1, lines
    prefix = f"franka.yaml:{line_of(text, new)}: "
    assert lines[0].startswith(prefix), lines[0]
    return lines[0][len(prefix) :]
