"""The manifest's normalisation: between the network's numbers and SI units."""

from __future__ import annotations

from typing import Literal

from vla_ros.policy.manifest_model import Model


class Normalisation(Model):
    """q01/q99 to [-1, 1] where the statistics' `mask` is true; `clip_state`, `clip_action`: clip the
    normalised value to [-1, 1] before use. `key`: the unnorm_key in `file`."""

    kind: Literal["q01_q99"]
    file: str
    key: str
    clip_state: bool
    clip_action: bool
