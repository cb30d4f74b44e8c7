"""Fixtures of all tests."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support import Starter, claimed_domain
from vla_ros.ros_environment import RosEnvironmentError

with contextlib.suppress(RosEnvironmentError):  # the core's tests need no ROS
    from vla_ros.nodes.transport import configure_dds

    # Once for the process, as Fast DDS reads it once. With its defaults a participant in a test announces
    # itself every 3 s only, and a node that just missed it takes as long to see it. As one that sends images,
    # which tests do in a camera's place: a receiver's memory has room for one raw image at a time, and on a
    # busy machine two of three are lost.
    configure_dds("sent")

# A loaded machine is slow now and then; that is no property of what is under test.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A ROS domain of this test's own, on this machine only, set in the environment."""
    with claimed_domain() as domain:
        monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
        monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        if os.environ.get("ROS_DISTRO") == "humble":  # older than the discovery range
            monkeypatch.setenv("ROS_LOCALHOST_ONLY", "1")
        yield domain


@pytest.fixture
def start_process() -> Iterator[Starter]:
    """`start_process(argv, name=..., ENV="...")`, `start_process.node("sim_node", "-p", "robot:=x")`."""
    starter = Starter()
    try:
        yield starter
    finally:
        starter.end()
