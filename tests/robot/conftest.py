from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.robot.franka_file import CONFIGS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the robots' URDFs beside the YAML to be written."""
    shutil.copytree(CONFIGS / "urdf", tmp_path / "urdf")
    return tmp_path
