"""The twin's cameras, rendered and published by a process of their own.

Rendering holds an interpreter for 4 ms a frame; in the physics' process that would delay every fourth
joint state. A snapshot of the world travels down a pipe (a few hundred bytes), the camera process renders
the newest one, publishes the images with the snapshot's stamp, and reports each frame on a second pipe.
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vla_ros.errors import VlaRosError

READY = "ready"
ERROR = "error"
FRAME = "frame"
START_TIMEOUT_S = 60.0
_STAMP = struct.Struct("<q")


class Simulated(Protocol):
    """A MuJoCo world: its model and data."""

    model: Any
    data: Any


class SnapshotFormat:
    """What a camera needs of the world: stamp, joint coordinates, colours. Fixed size per model."""

    def __init__(self, world: Simulated) -> None:
        self._world = world
        self._positions = world.model.nq * 8
        self.size = _STAMP.size + self._positions + world.model.geom_rgba.nbytes

    def pack(self, stamp_ns: int) -> bytes:
        """The world as it is now."""
        model, data = self._world.model, self._world.data
        return _STAMP.pack(stamp_ns) + data.qpos.tobytes() + model.geom_rgba.tobytes()

    def show(self, snapshot: bytes) -> int:
        """Put the world into a snapshot's state; returns its stamp in ns."""
        model, data = self._world.model, self._world.data
        end = _STAMP.size + self._positions
        data.qpos[:] = np.frombuffer(snapshot[_STAMP.size : end], np.float64)
        model.geom_rgba[:] = np.frombuffer(snapshot[end:], np.float32).reshape(model.geom_rgba.shape)
        return int(_STAMP.unpack_from(snapshot)[0])


@dataclass
class CameraFigures:
    """Frames published by one camera since the start, the rate over the last seconds, and the last render
    time in ms."""

    sent: int = 0
    rate_hz: float = 0.0
    render_ms: float = 0.0


class CameraProcess:
    """Starts the camera process and talks to it.

    `send` may be called from one thread, everything else from another. The process ends with this one:
    its input pipe closes.
    """

    def __init__(self, robot_file: Path, ros_arguments: Sequence[str]) -> None:
        """Start it; the cameras are those of the robot YAML. `wait_ready` before the first `send`."""
        report_read, report_write = os.pipe()
        argv = [sys.executable, "-m", "vla_ros.sim.camera_driver", str(robot_file), str(report_write)]
        self._child = subprocess.Popen(
            [*argv, *ros_arguments],
            stdin=subprocess.PIPE,
            pass_fds=[report_write],
            # Ctrl-C goes to the twin alone; this process ends when its input does.
            start_new_session=True,
            # Without worker threads software rendering takes as long and a third less of the processor.
            env={"LP_NUM_THREADS": "0", **os.environ},
        )
        os.close(report_write)
        assert self._child.stdin is not None
        self._pipe = self._child.stdin.fileno()
        os.set_blocking(self._pipe, False)
        self._reports = os.fdopen(report_read, "r")
        self._recent: dict[str, list[float]] = {}
        self.figures: dict[str, CameraFigures] = {}
        self.failure: str | None = None
        self._reader: threading.Thread | None = None

    def wait_ready(self) -> None:
        """Block until the first images were rendered.

        Raises VlaRosError with the reason when rendering is impossible here.
        """
        ready, _, _ = select.select([self._reports], [], [], START_TIMEOUT_S)
        line = self._reports.readline().rstrip("\n") if ready else ""
        if line != READY:
            self.close()
            text = line.removeprefix(f"{ERROR} ").replace("\\n", "\n")
            raise VlaRosError(f"cameras of the twin: {text or 'the camera process ended without a word'}")
        self._reader = threading.Thread(target=self._read, name="camera reports", daemon=True)
        self._reader.start()

    def send(self, snapshot: bytes) -> None:
        """Have `snapshot` rendered; dropped when the process is far behind. Never blocks."""
        # A pipe takes up to 4096 bytes whole or not at all, and it holds 64 kB: seconds of snapshots.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipe, snapshot)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.poll() is None

    def close(self) -> None:
        """End the process."""
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        try:
            self._child.wait(3.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()

    def _read(self) -> None:
        for line in self._reports:
            kind, _, rest = line.rstrip("\n").partition(" ")
            if kind == ERROR:
                self.failure = rest
                continue
            name, render_ms = rest.split()
            figures = self.figures.setdefault(name, CameraFigures())
            recent = self._recent.setdefault(name, [])
            recent.append(time.monotonic())
            del recent[:-91]
            figures.sent += 1
            figures.render_ms = float(render_ms)
            if len(recent) > 1:
                figures.rate_hz = (len(recent) - 1) / (recent[-1] - recent[0])
