"""The folder that recordings go to: made, checked for room, and its files numbered."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from datetime import datetime
from pathlib import Path

from vla_ros.errors import ConfigError

GB = 1_000_000_000
# A recording takes about 1 MB per second and camera.
BEGIN_BYTES = 2 * GB
# Less than this is left to the rest of the system.
GO_ON_BYTES = GB // 2
_NUMBERED = re.compile(r"_(\d+)\.mcap(\.part)?$")


def prepare(folder: Path) -> Path:
    """Make the folder where it is not there; returns its absolute path.

    Raises ConfigError where it cannot be written to, or its disk has less than BEGIN_BYTES left.
    """
    folder = folder.expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"recordings' folder {folder}: cannot be made ({error.strerror}); name one that can"
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"recordings' folder {folder}: not writable; name another, or allow it")
    free = free_bytes(folder)
    if free < BEGIN_BYTES:
        raise ConfigError(
            f"recordings' folder {folder}: {free / GB:.1f} GB left on its disk; expected at least "
            f"{BEGIN_BYTES / GB:.0f} GB: make room, or name another folder"
        )
    return folder


def free_bytes(folder: Path) -> int:
    """What is left on the folder's disk for this user."""
    return shutil.disk_usage(folder).free


def claim_file(folder: Path, when: datetime) -> Path:
    """`2026-05-01_13-45-10_0007.mcap`, of which nobody else writes: its `.part` is made, empty.

    Numbers count on from the highest in the folder, whatever the clock says. Raises OSError.
    """
    while True:
        numbers = [int(found[1]) for name in os.listdir(folder) if (found := _NUMBERED.search(name))]
        path = folder / f"{when:%Y-%m-%d_%H-%M-%S}_{max(numbers, default=0) + 1:04d}.mcap"
        with contextlib.suppress(FileExistsError):
            path.with_name(path.name + ".part").open("xb").close()
            return path
