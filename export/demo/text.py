"""Word-level tokenizer of the demo policy and the instructions it is trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from vla_ros.export.demo.encoding import COLORS
from vla_ros.sim.task import INSTRUCTIONS

MAX_TOKENS = 16
PAD_ID = 0
UNKNOWN_ID = 1


def build_tokenizer() -> Tokenizer:
    """Tokenizer over the words of every instruction; other words become ``[UNK]``."""
    words = sorted({w for text in INSTRUCTIONS for color in COLORS for w in text.format(color=color).split()})
    vocabulary = {"[PAD]": PAD_ID, "[UNK]": UNKNOWN_ID}
    vocabulary.update({word: index + 2 for index, word in enumerate(words)})
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> NDArray[np.int64]:
    """Token ids int64 [16], padded with 0.

    Raises:
        ValueError: more than 16 words.
    """
    ids = tokenizer.encode(text).ids
    if len(ids) > MAX_TOKENS:
        raise ValueError(f"the instruction has {len(ids)} words, at most {MAX_TOKENS} are read")
    return np.array(ids + [PAD_ID] * (MAX_TOKENS - len(ids)), dtype=np.int64)
