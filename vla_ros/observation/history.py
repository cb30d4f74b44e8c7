"""The last H observations: for policies that are shown more than the present.

Nothing is kept apart from the buffers. A window is assembled from what they hold, at the times that the
policy wants, so that neither the pace of inference nor a lost message shifts what "one frame ago" means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import Refused
from vla_ros.observation.assemble import Forward, newest_stamp, observation_at
from vla_ros.observation.buffers import ObservationBuffers
from vla_ros.observation.ring import MS
from vla_ros.policy.manifest_inputs import History
from vla_ros.robot.config import Robot
from vla_ros.types import Observation


@dataclass(frozen=True)
class Window:
    """H observations, oldest first; the last is the present.

    real: bool [H], False where there was nothing yet and the first one is repeated.
    """

    observations: tuple[Observation, ...]
    real: NDArray[np.bool_]


def wanted_times(stamp_ns: int, history: History) -> list[int]:
    """The H times that a window of the present `stamp_ns` stands for, oldest first."""
    stride_ns = round(history.stride_s * 1e9)
    return [stamp_ns - index * stride_ns for index in reversed(range(history.frames))]


def assemble_window(
    buffers: ObservationBuffers,
    robot: Robot,
    now_ns: int,
    prompt: str,
    kinematics: Mapping[str, Forward],
    history: History,
    since_ns: int,
) -> Window:
    """The window whose last observation is what `assemble` would make now.

    since_ns: when the episode began; nothing before it is shown, as nothing was in training. Where the window
    reaches back beyond it the first observation is repeated and counts as not real (in training, an index
    clamped to 0), or with `before: refuse` there is no window yet. A time's observation is the one at the
    frame nearest to it.
    Raises Refused as `assemble` does, "history_short" where `before: refuse` has to wait, and "history_gap"
    where no frame lies within half a stride of a time (a camera dropped out).
    """
    stamp_ns, cameras = newest_stamp(buffers, now_ns)
    leading = (buffers.cameras[name] for name in cameras if name not in buffers.optional)
    frames = min(leading, key=lambda ring: ring.samples[-1][0])
    held = [when for when, _ in frames.samples if since_ns <= when <= stamp_ns] or [stamp_ns]
    stride_ns = round(history.stride_s * 1e9)
    near_ns = min(stride_ns // 2, round(frames.period_ns))
    forgotten = len(frames.samples) == frames.samples.maxlen and frames.samples[0][0] > since_ns
    made: dict[int, Observation] = {}
    chosen: list[int] = []
    real: list[bool] = []
    for time in wanted_times(stamp_ns, history):
        begun = time >= held[0] - near_ns
        if not begun and history.before == "refuse" and not forgotten:
            raise Refused(
                "history_short",
                f"{frames.stream}: seen for {(stamp_ns - held[0]) / MS:.0f} ms, the policy needs "
                f"{(history.frames - 1) * history.stride_s * 1000:.0f} ms before it may act",
            )
        when = min(held, key=lambda stamp: abs(stamp - time)) if begun else held[0]
        if (begun or forgotten) and abs(when - time) > near_ns:
            raise Refused(
                "history_gap",
                f"{frames.stream}: no frame on {frames.topic} within {near_ns / MS:.0f} ms of "
                f"{(stamp_ns - time) / MS:.0f} ms ago, which the policy wants to see; look for lost images, "
                f"or for more of them than rate_hz in the robot YAML says",
            )
        if when not in made:
            made[when] = observation_at(buffers, robot, when, prompt, kinematics, cameras)
        chosen.append(when)
        real.append(begun)
    return Window(tuple(made[when] for when in chosen), np.array(real))
