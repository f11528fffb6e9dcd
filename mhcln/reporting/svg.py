"""Charts as inline SVG, with colours from the style sheet of the page and a name for screen readers."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 36  # margins, for the labels of the axes
CELL = 19  # side of a cell of the matrix
LETTER = 6.2  # width that is reserved for a letter of a label


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear axis from `low` to `high`, with a label; round ticks divide it into about `steps` steps."""

    name: str
    low: float
    high: float
    steps: int = 5

    def ticks(self) -> list[float]:
        """Return round numbers within the axis. Worked: 0 to 1 in 5 steps gives 0, 0.2, ..., 1."""
        rough = (self.high - self.low) / self.steps
        unit = 10 ** math.floor(math.log10(rough))
        step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [index * step for index in range(first, last + 1)]

    def fraction(self, value: float) -> float:
        """Return the position of a value: 0 at the low end, 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def axis_over(values: Sequence[float]) -> Axis:
    """Return an axis without a label over all values, and 0 if that is near; with a margin if all are the same."""
    low, high = min(values), max(values)
    if 0 < low < high / 2:
        low = 0.0
    margin = 0.0 if high > low else max(abs(high) * 0.1, 1e-6)
    return Axis("", low - margin, high + margin)


def curve(title: str, x: Axis, y: Axis, points: Sequence[tuple[float, float]], names: Sequence[str] = ()) -> str:
    """Return a chart of a line through points.

    Args:
        title: Name of the chart, for screen readers.
        x: The horizontal axis.
        y: The vertical axis.
        points: Points of the line, left to right.
        names: Names of the points, if any: a point with a name is drawn as a dot, with the name as its tooltip.
    """
    spots = [(x_of(x, a), y_of(y, b)) for a, b in points]
    dots = "".join(
        f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{escape(name)}</title></circle>'
        for (a, b), name in zip(spots, names, strict=False)
    )
    body = f'{axes(x, y)}<path class="line" d="{path(spots)}"/>{dots}'
    return chart(title, WIDTH, HEIGHT, body)


def path(spots: Sequence[tuple[float, float]]) -> str:
    """Return the data of an SVG path through points."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)


def bar(share: float) -> str:
    """Return a bar of a share of 1, as wide as its container."""
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rest" width="100" height="10"/><rect class="part" width="{100 * share:.2f}" height="10"/></svg>'
    )


def matrix(title: str, names: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    """Return a matrix of shares as cells: a stronger colour is a larger share; the diagonal has another colour.

    Args:
        title: Name of the chart, for screen readers.
        names: Names of the classes.
        shares: `[c][c]`, share of each class (column) in what queries of a class (row) found.
    """
    label = int(max(map(len, names)) * LETTER) + 10
    side = label + CELL * len(names) + 4
    parts = [f'<rect class="rest" x="{label}" y="{label}" width="{side - label - 4}" height="{side - label - 4}"/>']
    for row, line in enumerate(shares):
        start = label + row * CELL
        middle = start + CELL * 0.7
        parts.append(f'<text x="{label - 6}" y="{middle:.1f}" text-anchor="end">{escape(names[row])}</text>')
        parts.append(f'<text transform="translate({middle:.1f} {label - 6}) rotate(-90)">{escape(names[row])}</text>')
        for column, share in enumerate(line):
            if share > 0:
                kind = "right" if row == column else "wrong"
                text = f"{names[row]} found {names[column]}: {share:.1%}"
                parts.append(
                    f'<rect class="{kind}" x="{label + column * CELL}" y="{start}" width="{CELL - 1}" '
                    f'height="{CELL - 1}" fill-opacity="{math.sqrt(share):.3f}"><title>{escape(text)}</title></rect>'
                )
    return chart(title, side, side, "".join(parts), fixed=True)


def x_of(axis: Axis, value: float) -> float:
    """Return the horizontal position of a value."""
    return LEFT + axis.fraction(value) * (WIDTH - LEFT - RIGHT)


def y_of(axis: Axis, value: float) -> float:
    """Return the vertical position of a value."""
    return HEIGHT - BOTTOM - axis.fraction(value) * (HEIGHT - TOP - BOTTOM)


def axes(x: Axis, y: Axis) -> str:
    """Return grid, ticks and labels of a chart."""
    floor = HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks():
        at = y_of(y, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x.ticks():
        at = x_of(x, tick)
        parts.append(f'<path class="grid" d="M{at:.1f} {floor}v4"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{_short(tick)}</text>')
    parts.append(f'<text class="axis" x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x.name)}</text>')
    if y.name:
        parts.append(f'<text class="axis" x="{LEFT + 6}" y="{TOP + 10}">{escape(y.name)}</text>')
    return "".join(parts)


def _short(value: float) -> str:
    """Return the text of a tick: 0.2, 10k, 1.5M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{0.0 if abs(value) < 1e-12 else value:.4g}"


def chart(title: str, width: int, height: int, body: str, fixed: bool = False) -> str:
    """Return a chart with a title; it fills the width of its container, or has a `fixed` size."""
    size = f'width="{width}" height="{height}"' if fixed else ""
    return f'<svg {size} viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>{body}</svg>'
