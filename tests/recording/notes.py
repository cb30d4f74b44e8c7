"""What an episode's file says of itself."""

from __future__ import annotations

from pathlib import Path

import yaml
from mcap.reader import make_reader


def notes(file: Path) -> dict[str, str]:
    """{name: text} of a recording's notes."""
    with open(file, "rb") as stream:
        (record,) = [each for each in make_reader(stream).iter_metadata() if each.name == "rosbag2"]
    found: dict[str, str] = yaml.safe_load(record.metadata["serialized_metadata"])["custom_data"]
    return found
