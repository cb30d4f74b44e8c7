"""Panels of curves with error bars, side by side, as one SVG that needs no page around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from vla_ros.evaluation.svg import ticks

WIDTH, HEIGHT = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 46, 40
# Okabe and Ito's colours, told apart by the colour-blind too.
COLOURS = ("#7f7f7f", "#e69f00", "#0072b2", "#d55e00", "#009e73")
# Curves are drawn a little beside each other: equal values would hide each other's bars.
BESIDE = 7.0
# Room at both ends of the x axis, in its unit.
MARGIN_X = 40.0
_STYLE = (
    "text{font:11px sans-serif;fill:#222}.title{font-weight:bold}.grid{stroke:#ddd}"
    ".axis{stroke:#222;fill:none}.curve{fill:none;stroke-width:1.6}"
)


@dataclass(frozen=True)
class Curve:
    """Points x, y with bars from low to high; a NaN in y leaves one out. Equal lengths."""

    name: str
    x: ArrayLike
    y: ArrayLike
    low: ArrayLike
    high: ArrayLike


def panels(x_label: str, content: Sequence[tuple[str, tuple[float, float] | None, Sequence[Curve]]]) -> str:
    """content: (title, range of y or None for the data's, curves) per panel. All have the same curves by
    name, in the same order, and one legend."""
    width = WIDTH * len(content)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for index, curve in enumerate(content[0][2]):
        x = LEFT + 100 * index
        parts.append(f'<path class="curve" stroke="{COLOURS[index]}" d="M{x} 12h18"/>')
        parts.append(f'<text x="{x + 23}" y="16">{curve.name}</text>')
    for index, (title, span, curves) in enumerate(content):
        parts.append(
            f'<g transform="translate({WIDTH * index} 0)">{_panel(x_label, title, span, curves)}</g>'
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _panel(x_label: str, title: str, span: tuple[float, float] | None, curves: Sequence[Curve]) -> str:
    x_all = np.concatenate([np.asarray(curve.x, dtype=np.float64) for curve in curves])
    x_low, x_high = float(x_all.min()) - MARGIN_X, float(x_all.max()) + MARGIN_X
    highest = np.nanmax([np.nanmax(np.asarray(curve.high, dtype=np.float64)) for curve in curves])
    y_low, y_high = span or (0.0, 1.05 * float(highest))

    def px(x: float) -> float:
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def py(y: float) -> float:
        return TOP + (y_high - y) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="title" x="{LEFT}" y="{TOP - 10}">{title}</text>']
    for value in ticks(y_low, y_high, 5):
        parts.append(f'<path class="grid" d="M{LEFT} {py(value):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{py(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in sorted(set(x_all.tolist())):
        parts.append(
            f'<text x="{px(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{value:g}</text>'
        )
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{x_label}</text>'
    )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    for index, curve in enumerate(curves):
        shift = BESIDE * (index - (len(curves) - 1) / 2)
        points = [
            (px(float(x)) + shift, *(py(float(v)) for v in values))
            for x, *values in zip(
                *(np.asarray(v, dtype=np.float64) for v in (curve.x, curve.y, curve.low, curve.high)),
                strict=True,
            )
            if np.isfinite(values).all()
        ]
        line = "L".join(f"{x:.1f} {y:.1f}" for x, y, _, _ in points)
        bars = "".join(f"M{x:.1f} {low:.1f}V{high:.1f}" for x, _, low, high in points)
        colour = COLOURS[index]
        parts.append(f'<path class="curve" stroke="{colour}" d="M{line}"/>')
        parts.append(f'<path class="curve" stroke="{colour}" stroke-opacity="0.45" d="{bars}"/>')
        dots = (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6" fill="{colour}"/>' for x, y, _, _ in points)
        parts.extend(dots)
    return "".join(parts)
