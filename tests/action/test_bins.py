"""Bins and tokens against the projects' formulas, written out here entry by entry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.action.bins import ActionBins, from_bins, from_tokens, to_bins, to_tokens
from vla_ros.errors import Refused

OPENVLA = ActionBins(256, 32000, counts_down=True)
unit = st.floats(-1, 1)


@given(unit)
def test_a_state_s_bin_is_the_one_it_lies_in(x: float) -> None:
    found = int(to_bins(x))
    assert 0 <= found <= 255
    assert found == 255 if x == 1.0 else -1 + found / 128 <= x < -1 + (found + 1) / 128
    assert abs(float(from_bins(found)) - x) <= 1 / 256


def test_bins_of_a_state_worked_by_hand() -> None:
    # Bins of 2 / 256 = 0.0078125 each. Below -1 it is -1, which is no bin: openpi says so in its prompts.
    found = to_bins([[-1.0, -0.9921876, -0.9921875, 0.0], [0.9921874, 0.9921875, 1.0, 3.0]])
    assert found.tolist() == [[0, 0, 1, 128], [254, 255, 255, 255]]
    assert to_bins([-1.0001, -7.0]).tolist() == [-1, -1]
    assert from_bins([0, 128, 255]).tolist() == [-0.99609375, 0.00390625, 0.99609375]
    assert to_bins([-1.0, -0.5, 0.0, 0.5], count=4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [[-1], [256], [0.5]])
def test_a_bin_that_is_none_is_refused(bad) -> None:
    with pytest.raises(ValueError, match="from 0 to 255"):
        from_bins(bad)


def openvla_token(x: float, vocabulary: int) -> int:
    """vocab_size - np.digitize(clip(x), linspace(-1, 1, 256)): the number of edges that are not above x."""
    x = min(max(x, -1.0), 1.0)
    return vocabulary - sum(edge <= x for edge in np.linspace(-1.0, 1.0, 256))


def openvla_value(token: int, vocabulary: int) -> float:
    """bin_centers[clip(vocab_size - token - 1, 0, 254)] with the centres between neighbouring edges."""
    edges = np.linspace(-1.0, 1.0, 256)
    index = min(max(vocabulary - token - 1, 0), 254)
    return float(edges[index] + edges[index + 1]) / 2


@given(st.floats(-1.5, 1.5), st.sampled_from([32000, 151643 - 14 - 10]))
def test_tokens_count_down_from_the_end_of_the_vocabulary(x: float, offset: int) -> None:
    """OpenVLA: 32000. RoboVLMs: the vocabulary without its special tokens and 10 more."""
    bins = ActionBins(256, offset, counts_down=True)
    token = int(to_tokens(x, bins))
    assert token == openvla_token(x, offset)
    assert offset - 256 <= token <= offset - 1
    back = float(from_tokens(token, bins))
    assert back == pytest.approx(openvla_value(token, offset), abs=1e-12)
    assert abs(back - min(max(x, -1.0), 1.0)) <= 1 / 255 + 1e-12


def test_tokens_worked_by_hand() -> None:
    assert to_tokens([-1.0, 0.0, 1.0, -9.0, 9.0], OPENVLA).tolist() == [31999, 31872, 31744, 31999, 31744]
    # Both the last bin's token and the one of exactly 1 are the last bin's middle.
    assert from_tokens([31999, 31745, 31744], OPENVLA) == pytest.approx([-254 / 255, 254 / 255, 254 / 255])
    up = ActionBins(4, 100, counts_down=False)
    assert to_tokens([[-1.0, -0.2], [0.4, 1.0]], up).tolist() == [[100, 101], [102, 103]]
    assert from_tokens([100.0, 101.0, 102.0, 103.0], up) == pytest.approx([-2 / 3, 0.0, 2 / 3, 2 / 3])


@given(st.integers(2, 300), st.integers(0, 299), st.booleans())
def test_the_token_of_a_bin_s_middle_is_its_own(count: int, index: int, counts_down: bool) -> None:
    index %= count - 1
    bins = ActionBins(count, 1000, counts_down)
    token = 999 - index if counts_down else 1000 + index
    assert to_tokens(from_tokens(token, bins), bins) == token


@pytest.mark.parametrize("token", [31743, 32000, 2, 31800.5])
def test_a_word_is_not_a_motion(token) -> None:
    """OpenVLA clips the index, so that a word's token moves the arm at the end of its range."""
    with pytest.raises(Refused, match="its tokens are 31744 to 31999") as caught:
        from_tokens([31800, token], OPENVLA)
    assert caught.value.reason == "token"


@pytest.mark.parametrize("way", [to_bins, lambda x: to_tokens(x, OPENVLA), lambda x: from_tokens(x, OPENVLA)])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_is_refused(way, bad) -> None:
    with pytest.raises(Refused) as caught:
        way([0.0, bad])
    assert caught.value.reason == "nan"


@pytest.mark.parametrize("fields", [(1, 32000, True), (256, 255, True), (256, -1, False)])
def test_impossible_tokens_are_refused(fields) -> None:
    with pytest.raises(ValueError, match="expected two edges or more"):
        ActionBins(*fields)
