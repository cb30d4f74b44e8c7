"""What is left of a recording whose process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mcap.exceptions import EndOfFile
from mcap.records import Attachment, McapRecord, Message
from mcap.stream_reader import StreamReader

WRITER = """
import sys, time
from pathlib import Path
from tests.recording.messages import franka, joint_state
from vla_ros.recording.mcap_file import EpisodeWriter
from vla_ros.recording.topics import COMMAND, recorded_topics
import numpy as np
writer = EpisodeWriter(Path(sys.argv[1]), recorded_topics(franka()), {"robot.yaml": "name: franka"})
random = np.random.default_rng(0)
for k in range(int(sys.argv[2])):
    cdr = joint_state(k, [str(i) for i in range(100)], random.random(100))
    writer.write(COMMAND, cdr, k, k)
writer.flush()
print("written", flush=True)
time.sleep(60)
"""


def killed(path: Path, messages: int) -> list[McapRecord]:
    """What can be read of a file whose writer was killed after so many messages and a flush."""
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(messages)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert writer.stdout is not None and writer.stdout.readline() == b"written\n"
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.part"]
    found = []
    with open(f"{path}.part", "rb") as file, pytest.raises(EndOfFile):
        for record in StreamReader(file).records:
            found.append(record)
    return found


@pytest.mark.parametrize("count", [3, 6000])
def test_a_part_file_is_named_so_and_holds_all_but_the_last_megabyte(tmp_path: Path, count: int) -> None:
    found = killed(tmp_path / "episode.mcap", count)
    messages = [record for record in found if isinstance(record, Message)]
    assert [message.log_time for message in messages] == list(range(len(messages)))
    size = 1300  # bytes of a message, at least
    assert (count - len(messages)) * size < 1.2e6
    (attached,) = [record for record in found if isinstance(record, Attachment)]
    assert (attached.name, attached.data) == ("robot.yaml", b"name: franka")
