"""Normalised values as whole numbers: a state's bins in a prompt, and a language model's action tokens.

Both cut [-1, 1] evenly, yet differently, so that one cannot stand for the other:

    `to_bins`    256 bins of 2 / 256 each: openpi, src/openpi/models/tokenizer.py
    `to_tokens`  256 edges, so 255 bins of 2 / 255 each: OpenVLA, prismatic/vla/action_tokenizer.py, and
                 RoboVLMs, robovlms/model/policy_head/action_tokenizer.py
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vla_ros.errors import Refused
from vla_ros.types import FloatArray


@dataclass(frozen=True)
class ActionBins:
    """The tokens that stand for an action's bins.

    count: of the edges between -1 and 1, and of the tokens: the last one stands for exactly 1.
    token_offset, counts_down: with an index i from 0 for -1, the token is token_offset + i, or
        token_offset - 1 - i where it counts down. OpenVLA counts down from the vocabulary's 32000; RoboVLMs
        from the vocabulary's size - its special tokens - 10.
    """

    count: int
    token_offset: int
    counts_down: bool

    def __post_init__(self) -> None:
        if self.count < 2 or self.token_offset < (self.count if self.counts_down else 0):
            raise ValueError(
                f"count {self.count} and token_offset {self.token_offset}: expected two edges or more, and "
                f"no token below 0"
            )

    @property
    def tokens(self) -> tuple[int, int]:
        """The lowest and the highest token."""
        lowest = self.token_offset - self.count if self.counts_down else self.token_offset
        return lowest, lowest + self.count - 1


def to_bins(values: ArrayLike, count: int = 256) -> NDArray[np.int64]:
    """Normalised values, any shape, to bins: b spans [-1 + 2 b / count, -1 + 2 (b + 1) / count).

    As in openpi, `digitize(x, linspace(-1, 1, count + 1)[:-1]) - 1`: what lies above 1 is in the last bin,
    and what lies below -1 is -1, as it was in training. Raises Refused("nan") for NaN or infinity.
    """
    return np.digitize(_finite(values), np.linspace(-1.0, 1.0, count + 1)[:-1]).astype(np.int64) - 1


def from_bins(bins: ArrayLike, count: int = 256) -> FloatArray:
    """The middles of bins, any shape, as normalised values. Raises ValueError for one not in 0..count - 1."""
    index = np.asarray(bins)
    if index.dtype.kind not in "iu" or np.any((index < 0) | (index >= count)):
        raise ValueError(f"bins: expected whole numbers from 0 to {count - 1}, found {index.tolist()}")
    return -1.0 + (2.0 * index + 1.0) / count


def to_tokens(values: ArrayLike, bins: ActionBins) -> NDArray[np.int64]:
    """Normalised values, any shape, to tokens; values are limited to [-1, 1] as in OpenVLA.

    Raises Refused("nan") for NaN or infinity.
    """
    x = np.clip(_finite(values), -1.0, 1.0)
    index = np.digitize(x, np.linspace(-1.0, 1.0, bins.count)).astype(np.int64) - 1
    return bins.token_offset - 1 - index if bins.counts_down else bins.token_offset + index


def from_tokens(tokens: ArrayLike, bins: ActionBins) -> FloatArray:
    """Tokens, any shape, to the middles of their bins; the token of exactly 1 to the middle of the last bin.

    Floats are taken where they are whole. Raises Refused("token") for a token that is no action, and names
    its columns: there OpenVLA and RoboVLMs clip the index (decode_token_ids_to_actions), so that any word
    becomes an end of the range, a motion at full speed.
    """
    ids = np.atleast_1d(_finite(tokens))
    index = bins.token_offset - 1 - ids if bins.counts_down else ids - bins.token_offset
    wrong = (index != np.rint(index)) | (index < 0) | (index >= bins.count)
    if np.any(wrong):
        raise Refused(
            "token",
            f"the network returned {ids[wrong][:4].tolist()} for an action, in columns "
            f"{sorted(set(np.nonzero(wrong)[-1].tolist()))}; its tokens are {bins.tokens[0]} to "
            f"{bins.tokens[1]}",
        )
    values = -1.0 + (2.0 * np.minimum(index, bins.count - 2) + 1.0) / (bins.count - 1)
    return values.reshape(np.shape(tokens))


def _finite(values: ArrayLike) -> FloatArray:
    x = np.asarray(values, dtype=np.float64)
    if not np.isfinite(x).all():
        raise Refused("nan", "NaN or infinity among the values to be put in bins")
    return x
