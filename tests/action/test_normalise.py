"""`normalise` and `denormalise` against the formulas written out entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vla_ros.action.bins import ActionBins
from vla_ros.action.normalise import Scaling, denormalise, normalise, unscaled
from vla_ros.errors import Refused


def scaling(low=(-1.0, 0.2, 0.0), span=(3.0, 0.1, 1.0), mask=(True, True, False), **rest) -> Scaling:
    low = np.array(low)
    return Scaling(low, low + np.array(span), np.array(mask), **rest)


def test_the_ends_map_to_minus_one_and_one() -> None:
    s = scaling()
    assert normalise(s.low, s)[:2].tolist() == [-1.0, -1.0]
    assert normalise(s.high, s)[:2] == pytest.approx([1.0, 1.0])


def test_unmasked_entries_pass_through_both_ways_and_are_never_clipped() -> None:
    s = scaling(clip=1.0)
    x = np.array([0.0, 0.25, 7.0])
    assert normalise(x, s)[2] == 7.0
    assert denormalise(x, s)[2] == 7.0


def test_clip_is_only_done_when_asked() -> None:
    far = np.array([[50.0, 0.25, 0.0]])
    assert normalise(far, scaling())[0, 0] == 33.0
    assert normalise(far, scaling(clip=1.0))[0, 0] == 1.0
    assert denormalise([2.0, 0.0, 0.0], scaling())[0] == pytest.approx(3.5)
    assert denormalise([2.0, 0.0, 0.0], scaling(clip=1.0))[0] == pytest.approx(2.0)


numbers = st.lists(st.floats(-10, 10), min_size=3, max_size=3)


@given(low=numbers, span=st.lists(st.floats(1e-3, 10), min_size=3, max_size=3), x=numbers)
def test_round_trip(low, span, x) -> None:
    s = scaling(low, span)
    assert np.allclose(denormalise(normalise(x, s), s), x, rtol=0, atol=1e-9)
    assert np.allclose(normalise(denormalise(x, s), s), x, rtol=0, atol=1e-9)
    s = scaling(low, span, clip=1.0)
    inside = np.clip(x, s.low, s.high)
    assert np.allclose(denormalise(normalise(inside, s), s), inside, rtol=0, atol=1e-9)


@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 4), batch=st.integers(1, 3))
def test_each_step_has_its_own_statistics(seed, steps, batch) -> None:
    rng = np.random.default_rng(seed)
    low, span = rng.uniform(-1, 1, (steps, 3)), rng.uniform(0.1, 1, (steps, 3))
    s = Scaling(low, low + span, np.array([True, False, True]))
    x = rng.uniform(-1, 1, (batch, steps, 3))
    found = normalise(x, s)
    for b, h, n in np.ndindex(found.shape):
        expected = x[b, h, n] if n == 1 else (x[b, h, n] - low[h, n]) / span[h, n] * 2 - 1
        assert math.isclose(found[b, h, n], expected, rel_tol=0, abs_tol=1e-12)
    assert np.allclose(denormalise(found, s), x, rtol=0, atol=1e-9)


def test_an_entry_that_never_varied_becomes_what_is_declared_and_comes_back_as_it_was() -> None:
    s = scaling(span=(0.0, 0.1, 1.0), constant="minus_one")
    with np.errstate(all="raise"):
        assert normalise([[-1.0, 0.2, 0.0], [5.0, 0.2, 0.0]], s)[:, 0].tolist() == [-1.0, -1.0]
        assert denormalise([[-1.0, 0.0, 0.0], [9.0, 0.0, 0.0]], s)[:, 0].tolist() == [-1.0, -1.0]
        for constant, shown in (("zero", 0.0), ("same", 5.0)):
            s = scaling(span=(0.0, 0.1, 1.0), constant=constant)
            assert normalise([5.0, 0.2, 0.0], s)[0] == shown
            assert denormalise([5.0, 0.2, 0.0], s)[0] == -1.0


def test_an_entry_that_never_varied_is_refused_where_nothing_is_declared() -> None:
    with pytest.raises(ValueError, match=r"high is not above low at \[1\]"):
        scaling(span=(1.0, 0.0, 0.0))
    with pytest.raises(ValueError, match=r"high is not above low at \[0\]"):
        scaling(span=(-1.0, 1.0, 1.0), constant="zero")


def test_binary_entries_are_decided_before_they_are_scaled() -> None:
    s = scaling(low=(0.0, 0.0, 0.0), mask=(True, True, False), binary=np.array([0.0, np.nan, -1.0]))
    values = np.array([[0.49, 0.49, 0.49], [0.5, 0.5, 0.5], [-3.0, 0.0, 3.0]])
    assert denormalise(values, s)[:, 0].tolist() == [1.5, 3.0, 1.5]
    assert denormalise(values, s)[:, 2].tolist() == [-1.0, 1.0, 1.0]
    assert denormalise(values, s)[:, 1] == pytest.approx([0.0745, 0.075, 0.05])


def test_without_statistics_nothing_changes() -> None:
    x = np.array([[3.0, -4.0]])
    assert normalise(x, unscaled(2)).tolist() == x.tolist()
    assert denormalise(x, unscaled(2)).tolist() == x.tolist()


@pytest.mark.parametrize("way", [normalise, denormalise])
def test_a_wrong_shape_and_nan_are_refused(way) -> None:
    per_step = Scaling(np.zeros((2, 3)), np.ones((2, 3)), np.ones(3, bool))
    for shape, s in (((4,), scaling()), ((), scaling()), ((3,), per_step), ((3, 3), per_step)):
        with pytest.raises(ValueError, match="do not fit statistics of shape"):
            way(np.zeros(shape), s)
    for bad in (np.nan, np.inf):
        with pytest.raises(Refused, match=r"at \[2\]") as caught:
            way([[0.0, 0.0, 0.0], [0.0, 0.0, bad]], scaling())
        assert caught.value.reason == "nan"


@pytest.mark.parametrize("clip", [False, True, 0.0, -1.0, np.nan, [1.0, 0.0, 1.0]])
def test_a_limit_is_above_zero(clip) -> None:
    with pytest.raises(ValueError, match="clip: expected"):
        scaling(clip=clip)


def test_each_entry_has_its_own_limit() -> None:
    s = scaling(mask=(True, True, True), clip=np.array([1.0, 2.2, np.inf]))
    assert normalise([5.0, 1.0, 9.0], s) == pytest.approx([1.0, 2.2, 17.0])
    assert denormalise([9.0, 3.0, 9.0], s) == pytest.approx([2.0, 0.36, 5.0])


def test_what_the_statistics_span_is_told_over_all_steps() -> None:
    s = Scaling([[0.0, 1.0], [-1.0, 2.0]], [[3.0, 3.0], [2.0, 4.0]], np.ones(2, bool))
    assert [ends.tolist() for ends in s.extent] == [[-1.0, 1.0], [3.0, 4.0]]
    assert np.isnan(unscaled(3).extent).all()


def test_tokens_are_decoded_before_and_encoded_after() -> None:
    s = scaling(bins=ActionBins(256, 32000, counts_down=True))
    # Tokens of -1, 0 and 1 in normalised values; the third is not scaled. 255 bins of 2 / 255.
    assert normalise([-1.0, 0.25, 1.0], s).tolist() == [31999.0, 31872.0, 31744.0]
    values = denormalise(np.float32([31999, 31872, 31744]), s)
    assert values == pytest.approx([-1.0 + 1.5 / 255, 0.25, 254 / 255])
    with pytest.raises(Refused, match="its tokens are"):
        denormalise([0.0, 0.0, 0.0], s)


@pytest.mark.parametrize(
    ("low", "high", "mask", "says"),
    [
        (np.zeros(3), np.ones(2), np.ones(3, bool), "have shapes"),
        (np.zeros(3), np.ones(3), np.ones(2, bool), "have shapes"),
        (np.zeros((1, 2, 3)), np.ones((1, 2, 3)), np.ones(3, bool), "have shapes"),
        (np.zeros(3), np.ones(3), np.ones(3), "expected true or false"),
        (np.zeros(3), np.array([1, np.inf, 1]), np.ones(3, bool), r"is not finite at \[1\]"),
        (np.full(3, -1e308), np.full(3, 1e308), np.arange(3) == 1, r"is not finite at \[1\]"),
    ],
)
def test_statistics_that_do_not_fit_one_another_are_refused(low, high, mask, says) -> None:
    with pytest.raises(ValueError, match=says):
        Scaling(low, high, mask)


def test_the_statistics_do_not_change_afterwards() -> None:
    low = np.zeros(3)
    s = Scaling(low, np.ones(3), np.ones(3, bool))
    low[0] = 0.5
    assert s.low[0] == 0.0
    assert not any(array.flags.writeable for array in (s.low, s.high, s.mask))
