"""A periodic thread in Python: absolute deadlines, and what the operating system grants of the rest."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import re
import sys
import time
from pathlib import Path

CLOCK_MONOTONIC = 1
TIMER_ABSTIME = 1
MADV_DONTNEED = 4
# Lock what is mapped and what will be, but only once it is touched: locking all of every thread's stack
# and of every library would multiply the resident memory.
MCL_CURRENT, MCL_FUTURE, MCL_ONFAULT = 1, 2, 4
# Below the kernel's own threads and the usual 50 of interrupt handlers; above a simulated robot's.
PRIORITY = 40
BELOW = 5
# A thread that wakes up waits this long for another one that runs Python; Python's default is 5 ms.
SWITCH_INTERVAL_S = 0.0005
# In a process whose other threads only serve and report: half the lateness that those cause (p99 0.4 ms to
# 0.2 ms beside a thread that makes percentiles).
STEADY_SWITCH_INTERVAL_S = 0.0001

CAP_IPC_LOCK = 14

_libc = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


def sleep_until(deadline_ns: int) -> None:
    """Sleep until CLOCK_MONOTONIC (`time.monotonic_ns`) reaches `deadline_ns`; the past returns at once.

    Absolute, so that the time spent between two sleeps does not add up to a drift.
    """
    seconds, nanoseconds = divmod(deadline_ns, 1_000_000_000)
    request = _Timespec(seconds, nanoseconds)
    # A signal ends the sleep early: go on until the time has come.
    while _libc.clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, ctypes.byref(request), None) != 0:
        if time.monotonic_ns() >= deadline_ns:
            return


def real_time_thread() -> str:
    """Put the calling thread under SCHED_FIFO if that is permitted; returns the class in force.

    It is where the process has CAP_SYS_NICE or an RLIMIT_RTPRIO (limits.conf: `@realtime - rtprio 99`).
    """
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    return "SCHED_FIFO" if os.sched_getscheduler(0) == os.SCHED_FIFO else "SCHED_OTHER"


def real_time_process() -> None:
    """Put every thread of this process under SCHED_FIFO below `real_time_thread`, if that is permitted.

    A real-time thread waits for the interpreter lock, and for DDS's locks, as long as their holder takes; a
    holder that a busy machine does not let run takes hundreds of milliseconds. For processes whose threads
    all do little only: the kernel lets real-time threads have 95 % of a core.
    """
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO, os.sched_param(PRIORITY - BELOW))


def drop_start_up_pages() -> None:
    """Give back the pages of libraries that only starting up needed; most of a node's are of that kind.

    Read-only file pages that were never written to (no relocations): one that is needed after all comes
    back from the page cache within microseconds. Nothing happens where /proc/self/smaps cannot be read.
    """
    with contextlib.suppress(OSError):
        smaps = Path("/proc/self/smaps").read_text()
        for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", smaps):
            addresses, rights, _, _, _, *path = mapping.split("\n", 1)[0].split(maxsplit=5)
            unwritten = re.search(r"^Anonymous: +0 kB", mapping, re.MULTILINE)
            if "w" not in rights and path and path[0].startswith("/") and unwritten:
                begin, end = (int(address, 16) for address in addresses.split("-"))
                _libc.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), MADV_DONTNEED)


def steady_process() -> bool:
    """Keep this process from pausing; returns whether its memory could be locked against paging.

    Everything that exists now is taken out of garbage collection, which is then turned off: a full
    collection pauses a ROS node for 50 ms and more. Call `collect_young` now and then instead.
    """
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(STEADY_SWITCH_INTERVAL_S)
    drop_start_up_pages()
    return _libc.mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) == 0


def collect_young() -> None:
    """Collect what has become garbage since `steady_process`: little, so well under a millisecond."""
    gc.collect(1)
