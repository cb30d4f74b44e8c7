"""Real-time chunking: a new chunk that goes on where the robot will be when it arrives.

While a chunk is being inferred the robot carries out the previous one. Its rows that will be due by then are
frozen, the rows after them are drawn towards it, less and less:

guided  Black, Galliker, Levine 2025, "Real-Time Execution of Action Chunking Flow Policies" (arXiv
        2506.07339), algorithm 1: inpainting by guidance at inference, for any flow-matching policy.
prefix  Black et al. 2025, "Training-Time Action Conditioning for Efficient Real-Time Chunking" (arXiv
        2512.05964): a policy trained with a clean prefix, whose rows have a flow time of their own.

The previous chunk is kept as absolute targets, and is re-encoded for each new observation: against its tool
poses and at its due times. Relative targets of two chunks have different origins and never meet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros.action.decode import due_times, encode
from vla_ros.action.interpolate import Curve, columns_of
from vla_ros.action.last_targets import LastTargets
from vla_ros.action.latency import Latency
from vla_ros.action.normalise import Scaling
from vla_ros.policy.manifest import Manifest
from vla_ros.robot.config import Robot
from vla_ros.types import ActionChunk, Observation

# The paper's beta, the largest guidance weight. Beyond `steps` one Euler step would overshoot the target.
LARGEST_WEIGHT = 5.0


@dataclass(frozen=True)
class Guidance:
    """What a new chunk has to agree with, in the network's own convention.

    target: float32 [H, K], normalised: the previous chunk at the new rows' due times, as seen from the new
    observation. weights: float32 [H]: 1 for frozen rows, then falling, 0 where there is no previous chunk.
    frozen: how many rows, from the first on, will have been carried out when the new chunk arrives.
    """

    target: NDArray[np.float32]
    weights: NDArray[np.float32]
    frozen: int


class Continuation:
    """What makes a policy's chunks continue one another: the last chunk, and how long chunks take.

    The latency is measured, from an observation's stamp to the publication of its chunk; the 95th percentile
    of the last ones counts, so that rarely a row moves that was already due.
    """

    def __init__(self, manifest: Manifest, scaling: Scaling, robot: Robot) -> None:
        """scaling, robot: as for `decode`."""
        self._manifest, self._scaling, self._robot = manifest, scaling, robot
        self._previous: ActionChunk | None = None
        self._targets = LastTargets(manifest.outputs)
        self.latency = Latency()

    @property
    def last(self) -> ActionChunk | None:
        """What was asked of the robot until now, for `decode`; None where it does not follow it."""
        return self._targets.rows

    def forget(self) -> None:
        """The robot does something else than the last chunk; what was measured stays."""
        self._previous = None
        self._targets.forget()

    def published(self, chunk: ActionChunk, sent: ActionChunk, observation: Observation, now_ns: int) -> None:
        """A chunk was published now, of what was seen in `observation`. chunk: whole; sent: what went out."""
        self._previous = chunk
        self._targets.published(sent, observation.state)
        if now_ns > chunk.stamp_ns:  # else the clock was set back
            self.latency.add(now_ns - chunk.stamp_ns)

    def guidance(self, observation: Observation, speed: float) -> Guidance | None:
        """For a chunk from this observation; None where there is nothing to continue."""
        latency_ns = self.latency.high_ns
        if self._previous is None or latency_ns is None:
            return None
        return make_guidance(
            self._previous,
            observation,
            latency_ns,
            self._manifest,
            self._scaling,
            self._robot,
            speed,
            self.last,
        )


def make_guidance(
    previous: ActionChunk,
    observation: Observation,
    latency_ns: int,
    manifest: Manifest,
    scaling: Scaling,
    robot: Robot,
    speed: float = 1.0,
    last: ActionChunk | None = None,
) -> Guidance | None:
    """Guidance towards what is left of `previous`, for a chunk from `observation`.

    previous: what the policy decoded last, whole, absolute. latency_ns: from the observation's stamp until
    the new chunk acts. scaling, robot, speed, last: as for `decode`.
    None when nothing is left, or when `previous` is not from before the observation (the clock was set back).
    """
    stamp_ns = observation.stamp_ns
    due = due_times(stamp_ns, manifest.outputs, speed)
    overlap = int(np.searchsorted(due, previous.due_ns[-1], side="right"))
    if not overlap or previous.stamp_ns >= stamp_ns:
        return None
    # What is before the first or after the last row gets that row: it needs a value, and has no weight or is
    # over when the chunk arrives.
    times = np.clip(due, previous.due_ns[0], previous.due_ns[-1])
    curve = Curve(previous, columns_of(previous.channels), "cubic")
    rows = ActionChunk(
        channels=previous.channels,
        targets=np.stack([curve.at(int(time)) for time in times]),
        due_ns=due,
        stamp_ns=stamp_ns,
    )
    target = encode(rows, observation.state, manifest, scaling, robot, speed, last).values
    # The row that is being approached when the chunk arrives is frozen too: the way to it has begun.
    frozen = min(int(np.searchsorted(due, stamp_ns + latency_ns)) + 1, overlap)
    return Guidance(target, soft_weights(len(due), frozen, overlap), frozen)


def soft_weights(rows: int, frozen: int, overlap: int) -> NDArray[np.float32]:
    """Equation 5 of the paper, with d = frozen and H - s = overlap: float32 [rows].

    1 before `frozen`, then c (e^c - 1) / (e - 1) with c falling linearly, and 0 from `overlap` on.
    """
    index = np.arange(rows)
    c = np.clip((overlap - index) / (overlap - frozen + 1), 0.0, 1.0)
    weights = np.where(index < frozen, 1.0, c * np.expm1(c) / np.expm1(1.0))
    return np.where(index < overlap, weights, 0.0).astype(np.float32)


def guidance_weight(t: float, steps: int) -> float:
    """min(beta, (1 - t) / (t r^2)) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2), at flow time t in [0, 1)."""
    largest = min(LARGEST_WEIGHT, float(steps))
    rising = t * (1.0 - t)
    return min(largest, (t * t + (1.0 - t) ** 2) / rising) if rising > 0.0 else largest
