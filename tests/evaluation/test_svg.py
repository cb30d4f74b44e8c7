from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from vla_ros.evaluation.svg import Line, Mark, histogram, plot, ticks


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.integers(3, 8))
def test_ticks_are_round_inside_and_about_as_many_as_wanted(low: float, span: float, wanted: int) -> None:
    high = low + span
    assume(span > 1e-6 * abs(low))
    found = ticks(low, high, wanted)
    assert 1 <= len(found) <= wanted + 1
    assert all(low - 1e-6 * span <= value <= high + 1e-6 * span for value in found)
    if len(found) > 1:
        step = found[1] - found[0]
        mantissa = step / 10.0 ** np.floor(np.log10(step) + 1e-6)
        assert min(abs(mantissa - nice) for nice in (1, 2, 5, 10)) < 0.01


@pytest.mark.parametrize("value", [0.0, -3.25, 1e-9])
def test_a_constant_curve_is_drawn(value: float) -> None:
    root = ElementTree.fromstring(plot([Line([0, 1, 2], [value] * 3, "red")], "t", "x", "y"))
    (curve,) = [path for path in root.iter("path") if "stroke:red" in path.get("style", "")]
    assert "nan" not in curve.get("d", "nan")


def test_nan_interrupts_a_curve() -> None:
    svg = plot([Line([0, 1, 2, 3], [0, np.nan, 1, 2], "red")], "t", "x", "y")
    root = ElementTree.fromstring(svg)
    (curve,) = [path.get("d", "") for path in root.iter("path") if "stroke:red" in path.get("style", "")]
    assert curve.count("M") == 2 and curve.count("L") == 1


def test_text_is_escaped_and_nothing_to_draw_is_no_error() -> None:
    ElementTree.fromstring(plot([], "a < b & c", "<x>", "y"))
    ElementTree.fromstring(plot([Line([], [], "red"), Mark(0.5, "<here>")], "t", "x", "y"))
    assert histogram([], "t", "ms", "red") == "" == histogram([np.nan], "t", "ms", "red")


@given(st.lists(st.floats(-1e3, 1e5), min_size=1, max_size=100))
def test_any_sample_makes_a_whole_histogram(values: list[float]) -> None:
    svg = histogram(values, "t", "ms", "red")
    ElementTree.fromstring(svg)
    assert "nan" not in svg and "inf" not in svg
