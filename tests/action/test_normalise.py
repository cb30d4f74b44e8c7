from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.action.normalise import denormalise, normalise


@dataclass
class Quantiles:
    q01: np.ndarray
    q99: np.ndarray
    mask: np.ndarray


def quantiles(low=(-1.0, 0.2, 0.0), span=(3.0, 0.1, 1.0), mask=(True, True, False)) -> Quantiles:
    return Quantiles(np.array(low), np.array(low) + np.array(span), np.array(mask))


def test_the_quantiles_map_to_minus_one_and_one() -> None:
    s = quantiles()
    assert normalise(s.q01, s, clip=False)[:2].tolist() == [-1.0, -1.0]
    assert normalise(s.q99, s, clip=False)[:2] == pytest.approx([1.0, 1.0])


def test_unmasked_entries_pass_through_both_ways_and_are_never_clipped() -> None:
    s = quantiles()
    x = np.array([0.0, 0.25, 7.0])
    assert normalise(x, s, clip=True)[2] == 7.0
    assert denormalise(x, s, clip=True)[2] == 7.0


def test_clip_is_only_done_when_asked() -> None:
    s = quantiles()
    far = np.array([[50.0, 0.25, 0.0]])
    assert normalise(far, s, clip=False)[0, 0] > 30
    assert normalise(far, s, clip=True)[0, 0] == 1.0
    assert denormalise([2.0, 0.0, 0.0], s, clip=False)[0] == pytest.approx(3.5)
    assert denormalise([2.0, 0.0, 0.0], s, clip=True)[0] == pytest.approx(2.0)


@given(
    low=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
    span=st.lists(st.floats(1e-3, 10), min_size=3, max_size=3),
    x=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
)
def test_round_trip(low, span, x) -> None:
    s = quantiles(low, span)
    assert np.allclose(denormalise(normalise(x, s, clip=False), s, clip=False), x, rtol=0, atol=1e-9)
    inside = np.clip(x, s.q01, s.q99)
    assert np.allclose(denormalise(normalise(inside, s, clip=True), s, clip=True), inside, rtol=0, atol=1e-9)


def test_a_wrong_width_is_an_error() -> None:
    with pytest.raises(ValueError, match="width 3"):
        normalise(np.zeros(4), quantiles(), clip=False)


def test_an_empty_range_is_an_error() -> None:
    with pytest.raises(ValueError, match="q99 is not above q01 at"):
        normalise(np.zeros(3), quantiles(span=(1.0, 0.0, 1.0)), clip=False)
