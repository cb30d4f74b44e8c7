"""The demo task: pick up the block of the named colour and lift it.

:func:`draw_scene` turns a seed into a scene; :class:`PickTask` judges an episode from block heights
and time alone. Evaluation seeds start at :data:`EVALUATION_SEED_START`; training uses seeds below.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vla_ros.sim.franka_mjcf import BLOCK_COUNT, BLOCK_HALF_SIZE
from vla_ros.sim.world import PALETTE, Block, Scene

EVALUATION_SEED_START = 1_000_000

HOME_JOINTS: tuple[float, ...] = (
    0.0,
    -np.pi / 4,
    0.0,
    -3 * np.pi / 4,
    0.0,
    np.pi / 2,
    np.pi / 4,
)
X_RANGE = (0.38, 0.62)
Y_RANGE = (-0.22, 0.22)
MIN_DISTANCE = 0.10
START_JOINT_NOISE = 0.05

INSTRUCTIONS: tuple[str, ...] = (
    "pick up the {color} block",
    "pick up the {color} cube",
    "grab the {color} cube and lift it",
    "grab the {color} block and lift it up",
    "lift the {color} block",
    "take the {color} cube",
    "please pick the {color} block",
    "raise the {color} cube from the table",
)

LIFT_HEIGHT = 0.10
HOLD_TIME = 0.5
WRONG_LIFT_HEIGHT = 0.03
TIME_LIMIT = 15.0

Outcome = Literal["running", "success", "wrong_block", "timeout"]


def draw_scene(seed: int) -> Scene:
    """Draw one episode: three colours, positions, yaws, start joints, target and instruction.

    The same seed gives the same scene on every machine (numpy's PCG64).
    """
    rng = np.random.default_rng(seed)
    colors = rng.permutation(sorted(PALETTE))[:BLOCK_COUNT]
    positions: list[NDArray[np.float64]] = []
    while len(positions) < BLOCK_COUNT:
        candidate = rng.uniform((X_RANGE[0], Y_RANGE[0]), (X_RANGE[1], Y_RANGE[1]))
        if all(np.linalg.norm(candidate - other) >= MIN_DISTANCE for other in positions):
            positions.append(candidate)
    blocks = tuple(
        Block(str(color), float(x), float(y), float(rng.uniform(-np.pi, np.pi)))
        for color, (x, y) in zip(colors, positions, strict=True)
    )
    target = int(rng.integers(BLOCK_COUNT))
    template = INSTRUCTIONS[int(rng.integers(len(INSTRUCTIONS)))]
    noise = rng.uniform(-START_JOINT_NOISE, START_JOINT_NOISE, len(HOME_JOINTS))
    return Scene(
        seed=seed,
        blocks=blocks,
        target=target,
        instruction=template.format(color=blocks[target].color),
        start_joints=tuple(float(q) for q in np.array(HOME_JOINTS) + noise),
    )


@dataclass
class PickTask:
    """Judge of one episode. Feed it block heights; it never looks at the robot.

    Success: the named block's centre is at least 0.10 m above its resting height for 0.5 s without
    a break. Failure: any other block rises by more than 0.03 m (``wrong_block``), or 15 s pass
    (``timeout``). The first verdict is final.
    """

    target: int
    outcome: Outcome = "running"
    lifted_since: float | None = None

    def update(self, heights: Sequence[float] | NDArray[np.float64], time: float) -> Outcome:
        """Take the centre heights above the table [m] at ``time`` [s since the episode's start]."""
        if self.outcome != "running":
            return self.outcome
        rise = np.asarray(heights, dtype=np.float64) - BLOCK_HALF_SIZE
        if rise.shape != (BLOCK_COUNT,):
            raise ValueError(f"heights must hold {BLOCK_COUNT} values, got shape {rise.shape}")
        others = np.delete(rise, self.target)
        if (others > WRONG_LIFT_HEIGHT).any():
            self.outcome = "wrong_block"
            return self.outcome
        if rise[self.target] >= LIFT_HEIGHT:
            if self.lifted_since is None:
                self.lifted_since = time
            if time - self.lifted_since >= HOLD_TIME:
                self.outcome = "success"
                return self.outcome
        else:
            self.lifted_since = None
        if time >= TIME_LIMIT:
            self.outcome = "timeout"
        return self.outcome
