import os
import sys
import threading
import time

from tests.support import Starter
from vla_ros.nodes import realtime


def test_sleep_until_is_absolute_and_the_past_returns_at_once() -> None:
    begin = time.monotonic_ns()
    realtime.sleep_until(begin + 20_000_000)
    assert time.monotonic_ns() >= begin + 20_000_000
    begin = time.monotonic_ns()
    realtime.sleep_until(begin - 10**9)
    assert time.monotonic_ns() - begin < 10**9


def test_the_class_reported_is_the_one_in_force() -> None:
    found: list[tuple[str, int]] = []

    def look() -> None:
        found.append((realtime.real_time_thread(), os.sched_getscheduler(0)))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    name, number = found[0]
    assert number == {"SCHED_FIFO": os.SCHED_FIFO, "SCHED_OTHER": os.SCHED_OTHER}[name]
    assert os.sched_getscheduler(0) == os.SCHED_OTHER, "only the calling thread"


WITHOUT_RIGHTS = """
import os
import resource
from vla_ros.nodes import realtime

resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
realtime.real_time_process()
print(realtime.real_time_thread(), realtime.steady_process())
"""


def test_without_the_right_it_says_so_and_goes_on(start_process: Starter) -> None:
    child = start_process([sys.executable, "-c", WITHOUT_RIGHTS])
    assert child.wait() == 0, child.output
    assert "SCHED_OTHER False" in child.output


STEADY = """
import gc
from vla_ros.nodes import realtime

realtime.steady_process()
assert not gc.isenabled()
assert gc.get_freeze_count() > 1000
before = len(gc.get_objects())
loops = [[] for _ in range(100)]
for loop in loops:
    loop.append(loop)
del loops, loop
realtime.collect_young()
assert len(gc.get_objects()) <= before
print("steady")
"""


def test_garbage_is_collected_young_only_and_on_request(start_process: Starter) -> None:
    child = start_process([sys.executable, "-c", STEADY])
    assert child.wait() == 0, child.output
    assert "steady" in child.output


PAGES = """
from pathlib import Path
import numpy as np
import pinocchio
from vla_ros.nodes import realtime

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

before = resident()
realtime.drop_start_up_pages()
after = resident()
print("gave back", (before - after) * 4 // 1024, "MB")
assert after < 0.75 * before, (before, after)
assert np.allclose(np.linalg.inv(np.eye(50) * 2), np.eye(50) / 2)
assert pinocchio.buildSampleModelManipulator().nq == 6
print("still works")
"""


def test_pages_of_start_up_are_given_back(start_process: Starter) -> None:
    child = start_process([sys.executable, "-c", PAGES])
    assert child.wait() == 0, child.output
    assert "still works" in child.output
