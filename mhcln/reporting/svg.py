"""Charts as inline SVG: colours come from the page's style sheet, text stays text, every chart has a name."""

import dataclasses
import math
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 36  # margins, in which the labels of the axes stand
CELL = 19  # side of a cell of the matrix
LETTER = 6.2  # width that is reserved for a letter of a label
LINE = 13  # height of a line of text
COLOURS = (  # of lines, on white: told apart by people of usual colour blindness as far as eight can be (Okabe and Ito)
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#7f7f7f"),
)


@dataclasses.dataclass(frozen=True)
class Axis:
    """A linear axis.

    Attributes:
        name: Its label.
        low: The value at its start.
        high: The value at its end.
        steps: About how many steps its ticks divide it into, at round numbers.
    """

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
        """Return where a value stands: 0 at the low end, 1 at the high end."""
        return (value - self.low) / (self.high - self.low)


def axis_over(values: Sequence[float]) -> Axis:
    """Return a nameless axis that holds all values, and 0 if that is near; with a margin if all are the same."""
    low, high = min(values), max(values)
    if 0 < low < high / 2:
        low = 0.0
    margin = 0.0 if high > low else max(abs(high) * 0.1, 1e-6)
    return Axis("", low - margin, high + margin)


def curve(title: str, x: Axis, y: Axis, points: Sequence[tuple[float, float]], names: Sequence[str] = ()) -> str:
    """Return a chart of a line through points.

    Args:
        title: Name of the chart, for people who hear it.
        x: The horizontal axis.
        y: The vertical axis.
        points: Points of the line, left to right.
        names: Names of the points, if they have any: such a point gets a dot, which shows its name when pointed at.
    """
    spots = [(_x(x, a), _y(y, b)) for a, b in points]
    dots = "".join(
        f'<circle class="dot" cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{escape(name)}</title></circle>'
        for (a, b), name in zip(spots, names, strict=False)
    )
    body = f'{_axes(x, y)}<path class="line" d="{_path(spots)}"/>{dots}'
    return _svg(title, WIDTH, HEIGHT, body)


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart of several: its name, and points of x, mean and deviation, left to right."""

    name: str
    points: Sequence[tuple[float, float, float]]


def lines(title: str, x_name: str, shown: Sequence[Line], low: float) -> str:
    """Return a chart of several lines with bands of a deviation, as a picture of its own with names beside it.

    The names stand to the right of the line's end, moved apart where they would overlap, each in the colour of its
    line; lines beyond the eighth are dashed in the colours of the first.

    Args:
        title: Name of the chart, for people who hear it.
        x_name: Label of the horizontal axis.
        shown: The lines.
        low: Where the vertical axis begins; what is below is cut off.
    """
    points = [point for line in shown for point in line.points]
    x = Axis(x_name, min(point[0] for point in points), max(point[0] for point in points))
    y = Axis("", low, max(mean + deviation for _, mean, deviation in points))
    ends = sorted((min(_y(y, line.points[-1][1]), HEIGHT - BOTTOM), number) for number, line in enumerate(shown))
    places = dict(zip([number for _, number in ends], _apart([end for end, _ in ends]), strict=True))
    inside, beside = [], [_axes(x, y)]
    for number, line in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        upper = [(_x(x, a), _y(y, mean + deviation)) for a, mean, deviation in line.points]
        lower = [(_x(x, a), _y(y, mean - deviation)) for a, mean, deviation in reversed(line.points)]
        middle = [(_x(x, a), _y(y, mean)) for a, mean, _ in line.points]
        dashes = ' stroke-dasharray="4 3"' if number >= len(COLOURS) else ""
        end, place = min(middle[-1][1], HEIGHT - BOTTOM), places[number]
        inside.append(f'<path fill="{colour}" fill-opacity="0.08" d="{_path([*upper, *lower])}Z"/>')
        inside.append(f'<path fill="none" stroke="{colour}" stroke-width="1.6"{dashes} d="{_path(middle)}"/>')
        beside.append(f'<path stroke="{colour}" d="M{middle[-1][0]:.1f} {end:.1f}L{WIDTH - 2} {place:.1f}"/>')
        name = escape(line.name)
        beside.append(f'<text style="fill:{colour}" x="{WIDTH}" y="{place + 4:.1f}">{name}</text>')
    width = WIDTH + int(max(len(line.name) for line in shown) * LETTER) + 8
    height = max(HEIGHT, int(max(places.values())) + 12)
    style = "<style>text{font:11px sans-serif;fill:#555}.grid{stroke:#ddd}path{stroke-linejoin:round}</style>"
    box = f"{LEFT} {TOP} {WIDTH - LEFT - RIGHT} {HEIGHT - TOP - BOTTOM}"  # a picture within, which cuts off
    left, top, right, bottom = box.split()
    plot = f'<svg x="{left}" y="{top}" width="{right}" height="{bottom}" viewBox="{box}">{"".join(inside)}</svg>'
    body = f'{style}<rect width="{width}" height="{height}" fill="#fff"/>{"".join(beside)}{plot}'
    return _svg(title, width, height, body, fixed=True).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)


def _apart(places: Sequence[float]) -> list[float]:
    """Move rising places down until each is a line of text below the one before, all as near the top as they can be."""
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + LINE if moved else place))
    excess = max(0.0, moved[-1] - (HEIGHT - BOTTOM)) if moved else 0.0
    for number in reversed(range(len(moved))):  # those at the end give way upwards as far as there is room
        limit = moved[number + 1] - LINE if number + 1 < len(moved) else moved[number] - excess
        moved[number] = max(min(moved[number], limit), TOP + number * LINE)
    return moved


def _path(spots: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in spots)


def bar(share: float) -> str:
    """Return a bar of a share of 1, as wide as its container; the number stands beside it in the page."""
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="rest" width="100" height="10"/><rect class="part" width="{100 * share:.2f}" height="10"/></svg>'
    )


def matrix(title: str, names: Sequence[str], shares: Sequence[Sequence[float]]) -> str:
    """Return a square of cells, coloured the stronger the larger the share; the diagonal has another colour.

    Args:
        title: Name of the chart, for people who hear it.
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
    return _svg(title, side, side, "".join(parts), fixed=True)


def _x(axis: Axis, value: float) -> float:
    return LEFT + axis.fraction(value) * (WIDTH - LEFT - RIGHT)


def _y(axis: Axis, value: float) -> float:
    return HEIGHT - BOTTOM - axis.fraction(value) * (HEIGHT - TOP - BOTTOM)


def _axes(x: Axis, y: Axis) -> str:
    floor = HEIGHT - BOTTOM
    parts = []
    for tick in y.ticks():
        at = _y(y, tick)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
    for tick in x.ticks():
        at = _x(x, tick)
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


def _svg(title: str, width: int, height: int, body: str, fixed: bool = False) -> str:
    size = f'width="{width}" height="{height}"' if fixed else ""
    return f'<svg {size} viewBox="0 0 {width} {height}" role="img"><title>{escape(title)}</title>{body}</svg>'
