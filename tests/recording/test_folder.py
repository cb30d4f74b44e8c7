from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import pytest

from vla_ros.errors import ConfigError
from vla_ros.recording import folder as folders

NOW = datetime(2026, 5, 1, 13, 45, 10)


def test_files_are_numbered_on_and_never_claimed_twice(tmp_path: Path) -> None:
    first, second = (folders.claim_file(tmp_path, NOW) for _ in range(2))
    assert first == tmp_path / "2026-05-01_13-45-10_0001.mcap"
    assert second.name == "2026-05-01_13-45-10_0002.mcap"
    first.with_name(first.name + ".part").replace(first)
    (tmp_path / "notes_9999.txt").touch()
    (tmp_path / "2025-01-01_00-00-00_0041.mcap").touch()
    # By a clock that was set back, too.
    assert folders.claim_file(tmp_path, datetime(2024, 1, 1)).name == "2024-01-01_00-00-00_0042.mcap"


def test_a_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = folders.prepare(Path("a/b"))
    assert made == tmp_path / "a" / "b" and made.is_dir()
    assert folders.prepare(made) == made
    assert folders.free_bytes(made) > 0


def test_what_cannot_take_recordings_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=rf"{re.escape(str(tmp_path))}/file/in: cannot be made \(Not a dir"):
        folders.prepare(tmp_path / "file" / "in")
    with pytest.raises(ConfigError, match="cannot be made"):
        folders.prepare(Path("/proc/recordings"))
    monkeypatch.setattr(folders, "BEGIN_BYTES", 10**18)
    with pytest.raises(
        ConfigError, match=rf"{re.escape(str(tmp_path))}: .* GB left .* at least 1000000000 GB"
    ):
        folders.prepare(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="not writable"):
        folders.prepare(tmp_path)
