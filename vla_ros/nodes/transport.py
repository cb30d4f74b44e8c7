"""Images and 1 kHz joint states through rclpy without losing time or frames.

Four measures (see `vla bench transport`): a DDS profile with room for images; messages as serialised bytes in
both directions (`raw=True`, decoded with rosbags); freed memory that is kept; and streams that are received
on a thread of their own, or polled, instead of through an executor.

Order of use: `clean_stale_segments()`, `configure_dds()`, `rclpy.init()`, a node, `check_dds()`.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import re
import threading
import time
import traceback
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

PROFILES = Path(__file__).parent / "dds"
SHARED_MEMORY = Path("/dev/shm")
IMAGE_SEGMENT_BYTES = 64 << 20
SMALL_SEGMENT_BYTES = 1 << 20
SOCKET_BYTES = 4 << 20

# What a process has to do with images: only those that send or receive some share memory with others.
Images = Literal["none", "received", "sent"]
_PROFILE: dict[Images, str] = {
    "none": "fastdds.xml",
    "received": "fastdds_receive_images.xml",
    "sent": "fastdds_send_images.xml",
}
_SEGMENT_BYTES: dict[Images, int] = {"none": 0, "received": SMALL_SEGMENT_BYTES, "sent": IMAGE_SEGMENT_BYTES}

# Fast DDS up to 2.14 (Humble, Jazzy) reads the first name only, 3.x (Kilted and newer) the second.
_FAST_DDS_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_CYCLONE_VARIABLE = "CYCLONEDDS_URI"
_RANGE_VARIABLE, _LOCALHOST, _BY_PROFILE = "ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST", "SYSTEM_DEFAULT"
_LOCALHOST_PROFILE = "fastdds_localhost.xml"
_configured = False
# malloc.h; the threshold is glibc's upper bound for it on 64 bits.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 << 20
_LOCK_SUFFIX = "_el"
# The lock of a segment (2.x: fastrtps_, 3.x: fastdds_); the locks of ports are Fast DDS's own business.
_SEGMENT_LOCK = re.compile(rf"fast(rtps|dds)_[0-9a-f]{{16}}{_LOCK_SUFFIX}")


@dataclass(frozen=True)
class DdsReport:
    """Whether the middleware runs with room for images.

    in_effect: the profile was read and took effect, as far as this middleware lets us see.
    text: one line for the log; when not in effect it says what to do.
    """

    rmw: str
    in_effect: bool
    text: str


def configure_dds(images: Images = "none", environment: MutableMapping[str, str] = os.environ) -> None:
    """Point the middleware at our profile. Call before `rclpy.init()`.

    A profile that the user named is kept; named in only one of Fast DDS's two variables, it is copied to
    the other, since the wrong one is ignored silently. images: what this process does with some; without,
    it shares no memory, and so never waits for one that has died. Also has the process keep freed memory
    (see `keep_freed_memory`). The first call of a process counts: Fast DDS reads its profile once.
    """
    global _configured
    import rclpy

    if environment is os.environ:
        if _configured:
            return
        _configured = True
    keep_freed_memory()
    environment.setdefault(_CYCLONE_VARIABLE, (PROFILES / "cyclonedds.xml").as_uri())
    named = [environment[name] for name in _FAST_DDS_VARIABLES if environment.get(name)]
    users = [name for name in named if not _is_ours(name)]
    if users:
        for name in _FAST_DDS_VARIABLES:
            environment[name] = environment.get(name) or users[0]
        return
    ours = _PROFILE[images]
    # A parent may have left the range to its profile.
    here_only = environment.get(_RANGE_VARIABLE) == _LOCALHOST or any(
        Path(name).name == _LOCALHOST_PROFILE for name in named
    )
    if here_only:
        by_profile = images == "none" and "fastrtps" in rclpy.get_rmw_implementation_identifier()
        environment[_RANGE_VARIABLE] = _BY_PROFILE if by_profile else _LOCALHOST
        ours = _LOCALHOST_PROFILE if by_profile else ours
    for name in _FAST_DDS_VARIABLES:
        environment[name] = str(PROFILES / ours)


def keep_freed_memory() -> None:
    """Have glibc keep the memory of freed messages instead of giving it back to the kernel each time.

    By default every image that a thread receives is new memory, faulted in page by page: 5 ms of processor
    time for 1280x720, against 0.9 ms for the copies alone. Does nothing with another C library.
    """
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, 4 * IMAGE_SEGMENT_BYTES)


def check_dds(images: Images = "none") -> DdsReport:
    """See whether the profile took effect. Call after the first node of the process was made.

    Fast DDS: this process's own shared-memory segment and UDP sockets are measured. Cyclone DDS shows
    nothing from outside, so only its configuration variable is looked at.
    """
    import rclpy

    rmw = rclpy.get_rmw_implementation_identifier()
    if "fastrtps" in rmw:
        return _check_fast_dds(rmw, images)
    if "cyclone" in rmw:
        uri = os.environ.get(_CYCLONE_VARIABLE, "")
        file = Path(uri.removeprefix("file://"))
        if uri.startswith("file://") and not file.is_file():
            return DdsReport(rmw, False, f"{_CYCLONE_VARIABLE} names {file}, which is not there")
        return DdsReport(rmw, bool(uri), f"{rmw}, {_CYCLONE_VARIABLE}={uri}. {_buffer_advice()}".strip())
    return DdsReport(
        rmw,
        False,
        f"no profile for {rmw} is shipped: images may be late or lost; tuned are Fast and Cyclone DDS",
    )


def _check_fast_dds(rmw: str, images: Images) -> DdsReport:
    profile = next((os.environ[name] for name in _FAST_DDS_VARIABLES if os.environ.get(name)), "")
    wanted = _SEGMENT_BYTES[images]
    segment = max(own_segments().values(), default=0)
    if segment >= wanted and (wanted or not segment):
        shared = f"segment {segment >> 20} MB" if segment else "no shared memory"
        return DdsReport(rmw, True, f"{rmw}, {shared}, {profile}. {_buffer_advice()}".strip())
    if not wanted:
        why = f"that is what your profile {profile} asks for" if profile else "no profile is set"
        return DdsReport(
            rmw,
            False,
            f"{rmw}: this process shares memory with others ({why}): when one of them is killed it may wait "
            f"for seconds. Have it use {PROFILES / _PROFILE[images]}",
        )
    where = f"{rmw}: own shared-memory segment is {segment / 2**20:.1f} MB, wanted {wanted >> 20} MB: "
    if not profile:
        return DdsReport(rmw, False, where + "no profile is set; call configure_dds() before rclpy.init()")
    if not Path(profile).is_file():
        return DdsReport(rmw, False, where + f"the profile {profile} is not there")
    if not _is_ours(profile):
        return DdsReport(
            rmw,
            False,
            where + f"that is what your profile {profile} asks for: images may be late or lost. "
            f"Raise its segment_size, or unset {' and '.join(_FAST_DDS_VARIABLES)}",
        )
    free = os.statvfs(SHARED_MEMORY)
    free_bytes = free.f_bavail * free.f_frsize
    if free_bytes < wanted:
        return DdsReport(
            rmw,
            False,
            where + f"{SHARED_MEMORY} has {free_bytes >> 20} MB free. In a container start it with "
            "--shm-size=1g; otherwise: sudo mount -o remount,size=1g /dev/shm",
        )
    return DdsReport(
        rmw,
        False,
        where + f"the profile {profile} was not read. Was rclpy.init() called before configure_dds()?",
    )


def own_segments() -> dict[Path, int]:
    """Fast DDS segments that this process made, with their sizes in bytes.

    The maker of `fastrtps_<id>` keeps `fastrtps_<id>_el` open and locked for as long as it lives.
    """
    found: dict[Path, int] = {}
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            lock = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            if _is_segment_lock(lock):
                segment = lock.with_name(lock.name.removesuffix(_LOCK_SUFFIX))
                found[segment] = segment.stat().st_size
    return found


def clean_stale_segments(folder: Path = SHARED_MEMORY) -> list[Path]:
    """Remove Fast DDS segments whose maker died without removing them; returns those removed.

    A killed process leaves its segment, 64 MB of memory, behind. The kernel drops the maker's file lock
    when it dies, so a lock that can be had means that nobody owns the segment.
    """
    removed = []
    for lock in folder.glob(f"fast*{_LOCK_SUFFIX}"):
        if not _is_segment_lock(lock):
            continue
        with contextlib.suppress(OSError):
            # A segment that is being made right now may not be locked yet.
            if time.time() - lock.stat().st_mtime < 2.0:
                continue
            descriptor = os.open(lock, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                segment = lock.with_name(lock.name.removesuffix(_LOCK_SUFFIX))
                segment.unlink(missing_ok=True)
                lock.unlink()
                removed.append(segment)
            finally:
                os.close(descriptor)
    return removed


def remove_dead_ports(domain: int, folder: Path = SHARED_MEMORY) -> None:
    """Remove the shared-memory ports that killed processes left to a domain which nobody is in yet: a new
    process that is given the same port may wait there for ever. Whoever lives holds its own port's lock."""
    first = 7400 + 250 * domain  # the DDS-RTPS standard's port numbers
    for lock in folder.glob("fastrtps_port*_[es]l"):
        name = lock.name[: -len("_el")]
        if not first <= int(name.removeprefix("fastrtps_port")) < first + 250:
            continue
        with contextlib.suppress(OSError), open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for each in (name, f"sem.{name}_mutex", lock.name):
                (folder / each).unlink(missing_ok=True)


def timed_subscription(
    node: Any, message_type: type, topic: str, qos: Any, callback: Callable[[bytes, int | None], None]
) -> Any:
    """Subscription whose callback gets the serialised message and when it was sent: the sender's system clock
    in ns, or None where rclpy does not tell (Humble's hands no message info on)."""
    from rclpy.subscription import Subscription

    def with_info(cdr: bytes, info: Mapping[str, int]) -> None:
        callback(cdr, info["source_timestamp"])

    def without(cdr: bytes) -> None:
        callback(cdr, None)

    told = with_info if hasattr(Subscription, "CallbackType") else without
    return node.create_subscription(message_type, topic, told, qos, raw=True)


def polled_subscription(node: Any, message_type: type, topic: str, qos: Any) -> Any:
    """Subscription that no executor waits on: read it with `take_latest` or `take_all`.

    A 1 kHz topic costs an executor 1000 wake-ups a second; polled, it costs one read per control tick.
    The depth of `qos` bounds how many messages wait.
    """
    group = never_executed()
    return node.create_subscription(message_type, topic, _not_called, qos, callback_group=group, raw=True)


class RawReceiver:
    """A thread that hands over serialised messages as they arrive, without an executor.

    rclpy's executor spends 0.3 ms of Python on every wake-up, and a service or a parameter that it serves
    meanwhile delays an image. Use: `subscribe` to all topics, `start`, and `stop` before the node or a
    subscription is destroyed. Callbacks run on this thread; one that raises is logged and the next message
    goes on.
    """

    _LOOK_FOR_STOP_NS = 100_000_000

    def __init__(self, node: Any) -> None:
        self._node = node
        self._inputs: list[tuple[Any, Callable[[bytes], None]]] = []
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def subscribe(self, message_type: type, topic: str, qos: Any, callback: Callable[[bytes], None]) -> Any:
        """Have `callback` called with each message of `topic`; returns the subscription."""
        subscription = polled_subscription(self._node, message_type, topic, qos)
        self._inputs.append((subscription, callback))
        return subscription

    def start(self) -> None:
        """Begin to receive."""
        self._halt.clear()
        self._thread = threading.Thread(target=self._receive, name="receiver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop receiving, within 0.1 s; the subscriptions stay. May be called at any time."""
        self._halt.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _receive(self) -> None:
        # The same calls that rclpy.wait_for_message makes.
        from rclpy.impl.implementation_singleton import rclpy_implementation

        count = len(self._inputs)
        with contextlib.ExitStack() as alive:
            for subscription, _ in self._inputs:
                alive.enter_context(subscription.handle)
            wait_set = rclpy_implementation.WaitSet(count, 0, 0, 0, 0, 0, self._node.context.handle)
            while not self._halt.is_set():
                wait_set.clear_entities()
                for subscription, _ in self._inputs:
                    wait_set.add_subscription(subscription.handle)
                wait_set.wait(self._LOOK_FOR_STOP_NS)
                ready = wait_set.get_ready_entities("subscription")
                for subscription, callback in self._inputs:
                    if subscription.handle.pointer in ready:
                        self._hand_over(subscription, callback)

    def _hand_over(self, subscription: Any, callback: Callable[[bytes], None]) -> None:
        item = subscription.handle.take_message(subscription.msg_type, True)
        if item is None:
            return
        try:
            callback(item[0])
        except Exception:
            self._node.get_logger().error(f"{subscription.topic}: {traceback.format_exc()}")


def take_all(subscription: Any) -> list[bytes]:
    """Every serialised message waiting in a polled subscription, oldest first. Never blocks."""
    taken: list[bytes] = []
    with subscription.handle:
        while (item := subscription.handle.take_message(subscription.msg_type, True)) is not None:
            taken.append(item[0])
    return taken


def take_latest(subscription: Any) -> bytes | None:
    """The newest serialised message waiting, None when there is none; older ones are dropped."""
    taken = take_all(subscription)
    return taken[-1] if taken else None


def never_executed() -> Any:
    """A callback group whose members no executor serves."""
    from rclpy.callback_groups import CallbackGroup

    class NeverExecuted(CallbackGroup):
        def can_execute(self, entity: Any) -> bool:
            return False

        def beginning_execution(self, entity: Any) -> bool:
            return False

        def ending_execution(self, entity: Any) -> None:
            return None

    return NeverExecuted()


def _not_called(_: bytes) -> None:
    raise AssertionError("a polled subscription was given to an executor")


def _is_ours(profile: str) -> bool:
    return Path(profile).parent == PROFILES


def _is_segment_lock(path: Path) -> bool:
    return _SEGMENT_LOCK.fullmatch(path.name) is not None


def _buffer_advice() -> str:
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/proc/sys/net/core/rmem_max").read_text())
        if limit < SOCKET_BYTES:
            return (
                f"Images from other machines need: sudo sysctl -w net.core.rmem_max={SOCKET_BYTES} "
                f"(now {limit})"
            )
    return ""
