"""Small plots as SVG text: no plotting library in the demo's installation, crisp at any size.

Colours are CSS variables of the page, so the plots follow its light or dark scheme.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

LEFT, RIGHT, TOP, BOTTOM = 52, 10, 22, 34


@dataclass(frozen=True)
class Line:
    """A curve. x, y: equal lengths; a NaN interrupts it. colour: CSS; `width` in px."""

    x: ArrayLike
    y: ArrayLike
    colour: str
    width: float = 1.4
    opacity: float = 1.0
    dash: str = ""
    title: str = ""


@dataclass(frozen=True)
class Bars:
    """A histogram: `edges` [n + 1], `heights` [n]."""

    edges: ArrayLike
    heights: ArrayLike
    colour: str


@dataclass(frozen=True)
class Mark:
    """A vertical line at `x` with a label at its top."""

    x: float
    label: str


Item = Line | Bars | Mark
Scale = Callable[[np.ndarray], np.ndarray]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) inside [low, high]."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / max(1, wanted)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def plot(
    items: Sequence[Item],
    title: str,
    x_label: str,
    y_label: str,
    size: tuple[int, int] = (420, 190),
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    at_least: float = 0.0,
    kind: Literal["small", "wide"] = "small",
) -> str:
    """An SVG with axes. Ranges default to the data's; `at_least`: the smallest span of the y axis, so
    that noise around a constant does not fill the picture."""
    x_low, x_high = x_range or _span([_xs(item) for item in items])
    y_low, y_high = y_range or _padded(_span([_ys(item) for item in items]), at_least)
    width, height = size
    inner_width, inner_height = width - LEFT - RIGHT, height - TOP - BOTTOM

    def px(x: np.ndarray) -> np.ndarray:
        return LEFT + (np.asarray(x, float) - x_low) / (x_high - x_low) * inner_width

    def py(y: np.ndarray) -> np.ndarray:
        return TOP + (y_high - np.asarray(y, float)) / (y_high - y_low) * inner_height

    parts = [
        f'<svg class="plot {kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">',
        f'<text class="title" x="{LEFT}" y="14">{escape(title)}</text>',
    ]
    for value in ticks(y_low, y_high, 4):
        y = float(py(np.array(value)))
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{width - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3:.1f}" text-anchor="end">{value:g}</text>')
    for value in ticks(x_low, x_high, 6):
        x = float(px(np.array(value)))
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{height - BOTTOM + 13}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(
        f'<text class="label" x="{LEFT + inner_width / 2:.0f}" y="{height - 5}" '
        f'text-anchor="middle">{escape(x_label)}</text>'
    )
    middle = TOP + inner_height / 2
    parts.append(
        f'<text class="label" transform="translate(11 {middle:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>'
    )
    # A nested svg clips what leaves the axes.
    box = f"{LEFT} {TOP} {inner_width} {inner_height}"
    parts.append(f'<svg x="{LEFT}" y="{TOP}" width="{inner_width}" height="{inner_height}" viewBox="{box}">')
    marks: list[str] = []
    for item in items:
        if isinstance(item, Line):
            parts.append(_line(item, px, py))
        elif isinstance(item, Bars):
            parts.append(_bars(item, px, py))
        else:
            x = float(px(np.array(item.x)))
            parts.append(f'<path class="mark" d="M{x:.1f} {TOP}V{height - BOTTOM}"/>')
            # The first label to the left of its line, later ones to the right, unless there is no room.
            anchor = "start" if marks or x < width * 0.25 else "end"
            anchor = "end" if x > width * 0.85 else anchor
            offset = -3 if anchor == "end" else 3
            marks.append(
                f'<text class="tick" x="{x + offset:.1f}" y="{TOP + 9 + 11 * len(marks)}" '
                f'text-anchor="{anchor}">{escape(item.label)}</text>'
            )
    parts.append("</svg>" + "".join(marks))
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{height - BOTTOM}H{width - RIGHT}"/></svg>')
    return "".join(parts)


def histogram(values: ArrayLike, title: str, x_label: str, colour: str, bins: int = 40) -> str:
    """Counts of `values` between their 0.5th and 99.5th percentiles, p50 and p99 marked; '' without any."""
    data = np.asarray(values, dtype=np.float64)
    data = data[np.isfinite(data)]
    if data.size == 0:
        return ""
    lowest, median, high = (float(value) for value in np.percentile(data, [0.5, 50, 99.5]))
    # Zero belongs on the axis of a latency, not on that of a nearly constant interval.
    low = min(0.0, lowest) if lowest < 0.5 * median else lowest
    margin = max(0.05 * (high - low), 0.005 * abs(high), 1e-6)
    heights, edges = np.histogram(data, bins=bins, range=(low if low == 0.0 else low - margin, high + margin))
    p50, p99 = np.percentile(data, [50, 99])
    return plot(
        [
            Bars(edges, heights, colour),
            Mark(median, f"p50 {p50:.3g}"),
            Mark(float(p99), f"p99 {p99:.3g}"),
        ],
        title,
        x_label,
        f"count (n = {data.size})",
        y_range=(0.0, float(heights.max()) * 1.08),
        x_range=(float(edges[0]), float(edges[-1])),
    )


def _xs(item: Item) -> np.ndarray:
    if isinstance(item, Mark):
        return np.array([item.x])
    return np.asarray(item.edges if isinstance(item, Bars) else item.x, dtype=np.float64)


def _ys(item: Item) -> np.ndarray:
    if isinstance(item, Mark):
        return np.zeros(0)
    if isinstance(item, Bars):
        return np.append(np.asarray(item.heights, dtype=np.float64), 0.0)
    return np.asarray(item.y, dtype=np.float64)


def _span(arrays: list[np.ndarray]) -> tuple[float, float]:
    values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (0.0, 1.0)
    low, high = float(values.min()), float(values.max())
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _padded(span: tuple[float, float], at_least: float) -> tuple[float, float]:
    low, high = span
    if high - low < at_least:
        low, high = (low + high - at_least) / 2, (low + high + at_least) / 2
    return low - 0.06 * (high - low), high + 0.06 * (high - low)


def _line(line: Line, px: Scale, py: Scale) -> str:
    x, y = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    commands, drawing = [], False
    for horizontal, vertical in zip(px(x), py(y), strict=True):
        if not (math.isfinite(horizontal) and math.isfinite(vertical)):
            drawing = False
            continue
        commands.append(f"{'L' if drawing else 'M'}{horizontal:.1f} {vertical:.1f}")
        drawing = True
    style = f"stroke:{line.colour};stroke-width:{line.width:g};fill:none"
    if line.opacity < 1:
        style += f";opacity:{line.opacity:g}"
    if line.dash:
        style += f";stroke-dasharray:{line.dash}"
    title = f"<title>{escape(line.title)}</title>" if line.title else ""
    return f'<path style="{style}" d="{"".join(commands)}">{title}</path>'


def _bars(bars: Bars, px: Scale, py: Scale) -> str:
    edges, heights = (
        px(np.asarray(bars.edges, dtype=np.float64)),
        py(np.asarray(bars.heights, dtype=np.float64)),
    )
    floor = float(py(np.array(0.0)))
    drawn = "".join(
        f"M{left:.1f} {floor:.1f}V{top:.1f}H{right - 0.6:.1f}V{floor:.1f}Z"
        for left, right, top in zip(edges[:-1], edges[1:], heights, strict=True)
        if top < floor
    )
    return f'<path style="fill:{bars.colour};stroke:none" d="{drawn}"/>'
